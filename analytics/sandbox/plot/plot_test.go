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

// TestPageChart: bands, negative values and a logarithmic axis stay inside the picture, in the page's colours.
func TestPageChart(t *testing.T) {
	c := Chart{
		Title: `lift "of" <low>`, Text: "From -3 to 4.", Fit: true, Page: true, LogX: true,
		Lines: []Line{{X: []float64{1, 10, 1000}, Y: []float64{-3, 0.5, 4}}},
		Bands: []Band{{X: []float64{1, 10, 1000}, Lower: []float64{-1e9, -1, 3}, Upper: []float64{1e9, 2, 5}, Color: 1}},
	}
	svg := string(c.SVG())
	if strings.Contains(svg, "<low>") || strings.Contains(svg, "NaN") || strings.Contains(svg, "#fff") || !strings.Contains(svg, `role="img" aria-label="lift &#34;of&#34; &lt;low&gt;. From -3 to 4."`) {
		t.Errorf("picture: %s", svg)
	}
	f := c.frame()
	for i, l := range c.Bands[0].X {
		for _, y := range []float64{c.Bands[0].Lower[i], c.Bands[0].Upper[i]} {
			if py := f.y(min(max(y, f.y0), f.y1)); py < f.top-0.1 || py > f.height-f.bottom+0.1 || f.x(l) < f.left-0.1 || f.x(l) > f.width-f.right+0.1 {
				t.Errorf("%v, %v is drawn outside: %v, %v", l, y, f.x(l), py)
			}
		}
	}
	if empty := string((&Chart{Page: true, Fit: true, LogX: true}).SVG()); strings.Contains(empty, "NaN") || strings.Contains(empty, "Inf") {
		t.Errorf("an empty picture: %s", empty)
	}
	if d := decades(90, 7000); len(d) == 0 || d[0] != 100 || len(d) > 9 {
		t.Errorf("ticks %v", d)
	}
}

// TestNarrowRange: values that differ in their last digit have an axis, and few ticks.
func TestNarrowRange(t *testing.T) {
	next := math.Nextafter(3000, 4000)
	c := Chart{Fit: true, Lines: []Line{{X: []float64{1, 2}, Y: []float64{3000, next}}}}
	if f := c.frame(); f.y1-f.y0 < 1 {
		t.Errorf("the axis is from %v to %v", f.y0, f.y1)
	}
	if svg := string(c.SVG()); len(svg) > 10_000 || strings.Contains(svg, "NaN") {
		t.Errorf("picture of %d bytes: %.2000s", len(svg), svg)
	}
	for _, ends := range [][2]float64{{3000, next}, {-next, -3000}, {5, 5}, {0, math.Inf(1)}, {math.NaN(), 1}, {0, 1}, {-3, 4}, {0.1, 0.7}, {1e6, 1e6 + 1}} {
		got := ticks(ends[0], ends[1])
		if len(got) > maxTicks+1 {
			t.Errorf("%d ticks from %v to %v", len(got), ends[0], ends[1])
		}
		if d := ends[1] - ends[0]; d > 1e-6 && d < 10 && (len(got) < 3 || got[0] < ends[0] || got[len(got)-1] > ends[1]) {
			t.Errorf("ticks from %v to %v are %v", ends[0], ends[1], got)
		}
	}
}
