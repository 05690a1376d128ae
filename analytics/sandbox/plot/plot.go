// Package plot draws line charts as SVG: enough for what simulations show, small
// enough to lie in a repository.
//
// It promises: text that is escaped, at most MaxPoints points a line (the highest
// and the lowest of what is left out are kept), the same bytes for the same chart.
package plot

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// MaxPoints is how many points of a line are drawn.
const MaxPoints = 400

// Line is one line of a chart; X rises.
type Line struct {
	Name string
	X, Y []float64
	// Dashed lines are limits.
	Dashed bool
	// Color is an index into the palette; -1: the line's own number.
	Color int
}

// Chart is one picture.
type Chart struct {
	Title, XLabel, YLabel string
	Lines                 []Line
	// Marks are moments worth a vertical line, with their names.
	Marks map[string]float64
}

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"}

const (
	width, height            = 720.0, 320.0
	left, right, top, bottom = 64.0, 150.0, 34.0, 44.0
)

// SVG draws the chart.
func (c *Chart) SVG() []byte {
	var b strings.Builder
	x0, x1, y1 := c.extent()
	px := func(x float64) float64 { return left + (x-x0)/(x1-x0)*(width-left-right) }
	py := func(y float64) float64 { return height - bottom - y/y1*(height-top-bottom) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`, width, height)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="#fff"/><text x="%g" y="20" font-size="14">%s</text>`, width, height, left, html.EscapeString(c.Title))
	for _, y := range ticks(0, y1) {
		fmt.Fprintf(&b, `<path d="M%g %.1fH%g" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`, left, py(y), width-right, left-6, py(y)+4, short(y))
	}
	for _, x := range ticks(x0, x1) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%s</text>`, px(x), height-bottom+16, short(x))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">%s</text>`, left+(width-left-right)/2, height-8, html.EscapeString(c.XLabel))
	fmt.Fprintf(&b, `<text transform="translate(14 %g) rotate(-90)" text-anchor="middle">%s</text>`, top+(height-top-bottom)/2, html.EscapeString(c.YLabel))
	for _, name := range sortedKeys(c.Marks) {
		fmt.Fprintf(&b, `<path d="M%.1f %gV%g" stroke="#888" stroke-dasharray="2 3"/><text x="%.1f" y="%g" fill="#666">%s</text>`,
			px(c.Marks[name]), top, height-bottom, px(c.Marks[name])+3, top+10, html.EscapeString(name))
	}
	for i, l := range c.Lines {
		color := l.Color
		if color < 0 {
			color = i
		}
		dash, w := "", 1.8
		if l.Dashed {
			dash, w = ` stroke-dasharray="5 4"`, 1.0
		}
		b.WriteString(`<path fill="none" stroke="` + palette[color%len(palette)] + `" stroke-width="` + strconv.FormatFloat(w, 'g', -1, 64) + `"` + dash + ` d="`)
		for k, p := range thin(l.X, l.Y) {
			verb := "L"
			if k == 0 {
				verb = "M"
			}
			fmt.Fprintf(&b, "%s%.1f %.1f", verb, px(p[0]), py(p[1]))
		}
		b.WriteString(`"/>`)
		if l.Name != "" {
			y := top + 8 + 18*float64(i)
			fmt.Fprintf(&b, `<path d="M%g %gh18" stroke="%s" stroke-width="2"%s/><text x="%g" y="%g">%s</text>`,
				width-right+10, y, palette[color%len(palette)], dash, width-right+34, y+4, html.EscapeString(l.Name))
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// extent of the axes; y starts at 0.
func (c *Chart) extent() (x0, x1, y1 float64) {
	x0, x1 = math.Inf(1), math.Inf(-1)
	for _, l := range c.Lines {
		for i := range l.X {
			x0, x1, y1 = min(x0, l.X[i]), max(x1, l.X[i]), max(y1, l.Y[i])
		}
	}
	if !(x1 > x0) {
		x0, x1 = 0, 1
	}
	if y1 <= 0 {
		y1 = 1
	}
	return x0, x1, y1 * 1.05
}

// thin keeps at most MaxPoints: of each stretch the lowest and the highest, in order.
func thin(x, y []float64) [][2]float64 {
	n := min(len(x), len(y))
	var out [][2]float64
	step := max((2*n+MaxPoints-1)/MaxPoints, 1)
	if n <= MaxPoints {
		step = 1
	}
	for i := 0; i < n; i += step {
		lo, hi := i, i
		for k := i; k < min(i+step, n); k++ {
			if y[k] < y[lo] {
				lo = k
			}
			if y[k] > y[hi] {
				hi = k
			}
		}
		out = append(out, [2]float64{x[min(lo, hi)], y[min(lo, hi)]})
		if lo != hi {
			out = append(out, [2]float64{x[max(lo, hi)], y[max(lo, hi)]})
		}
	}
	return out
}

// ticks are round numbers between two ends, about five.
func ticks(from, to float64) []float64 {
	raw := (to - from) / 5
	mag := math.Pow(10, math.Floor(math.Log10(raw)))
	step := mag
	for _, m := range []float64{1, 2, 5, 10} {
		if step = m * mag; step >= raw {
			break
		}
	}
	var out []float64
	for x := math.Ceil(from/step) * step; x <= to+step*1e-9; x += step {
		out = append(out, x)
	}
	return out
}

// short writes a tick.
func short(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1e9:
		return strconv.FormatFloat(x/1e9, 'g', 4, 64) + "G"
	case a >= 1e6:
		return strconv.FormatFloat(x/1e6, 'g', 4, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(x/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

func sortedKeys(m map[string]float64) []string {
	var out []string
	for k := range m {
		i := 0
		for i < len(out) && out[i] < k {
			i++
		}
		out = append(out[:i], append([]string{k}, out[i:]...)...)
	}
	return out
}
