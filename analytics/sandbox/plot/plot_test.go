package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// TestChart: what is drawn is well-formed, escaped, and keeps the peak of a long line.
func TestChart(t *testing.T) {
	l := Line{Name: "a<b>", Color: -1}
	for i := range 10_000 {
		l.X, l.Y = append(l.X, float64(i)), append(l.Y, math.Sin(float64(i)/500)+1)
	}
	l.Y[7777] = 99
	c := Chart{Title: "x & y", XLabel: "s", YLabel: "viewers", Lines: []Line{l, {}}, Marks: map[string]float64{"b": 2, "a": 1}}
	svg := c.SVG()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
	p := thin(l.X, l.Y)
	peak := 0.0
	for i := range p {
		peak = max(peak, p[i][1])
		if i > 0 && p[i][0] < p[i-1][0] {
			t.Fatalf("points out of order at %d", i)
		}
	}
	if len(p) > MaxPoints || peak != 99 {
		t.Errorf("%d points, peak %v", len(p), peak)
	}
	if bytes.Contains(svg, []byte("a<b>")) || !strings.Contains(string(svg), "x &amp; y") || !bytes.Equal(svg, c.SVG()) {
		t.Error("text is not escaped, or the picture is not the same twice")
	}
}
