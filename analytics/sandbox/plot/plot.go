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
	// Bands are areas behind the lines: intervals.
	Bands []Band
	// Fit lets the y axis begin at the lowest value instead of at 0; 0 is drawn where it lies between.
	Fit bool
	// LogX makes the x axis logarithmic; every X is above 0 then.
	LogX bool
	// Page draws a smaller picture in the colours of the page around it, light or dark, without title and names: those
	// are the page's. What it shows is said to screen readers: Title and Text.
	Page bool
	Text string
}

// Band is the area between two lines; X rises.
type Band struct {
	X, Lower, Upper []float64
	// Color is an index into the palette.
	Color int
}

// Colors is how many colours there are before they repeat.
func Colors() int { return len(palette) }

// ColorOf gives a colour of the palette, for the names beside a chart.
func ColorOf(i int) string { return palette[i%len(palette)] }

// palette is Okabe and Ito's, which colour-blind readers can tell apart.
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"}

// frame is where the axes lie in a picture.
type frame struct {
	width, height, left, right, top, bottom float64
	x0, x1, y0, y1                          float64
	log                                     bool
	ink, grid                               string
}

func (c *Chart) frame() frame {
	f := frame{width: 720, height: 320, left: 64, right: 150, top: 34, bottom: 44, log: c.LogX, ink: "#000", grid: `stroke="#ddd"`}
	if c.Page {
		f = frame{width: 460, height: 250, left: 56, right: 12, top: 10, bottom: 42, log: c.LogX, ink: "currentColor", grid: `stroke="currentColor" stroke-opacity="0.15"`}
	}
	f.x0, f.x1, f.y0, f.y1 = c.extent()
	return f
}

func (f *frame) x(x float64) float64 {
	x0, x1 := f.x0, f.x1
	if f.log {
		x, x0, x1 = math.Log(x), math.Log(x0), math.Log(x1)
	}
	return f.left + (x-x0)/(x1-x0)*(f.width-f.left-f.right)
}

func (f *frame) y(y float64) float64 {
	return f.height - f.bottom - (y-f.y0)/(f.y1-f.y0)*(f.height-f.top-f.bottom)
}

// SVG draws the chart.
func (c *Chart) SVG() []byte {
	var b strings.Builder
	f := c.frame()
	if c.Page {
		fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13" fill="currentColor" role="img" aria-label="%s">`, f.width, f.height, html.EscapeString(strings.TrimSpace(c.Title+". "+c.Text)))
	} else {
		fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`, f.width, f.height)
		fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="#fff"/><text x="%g" y="20" font-size="14">%s</text>`, f.width, f.height, f.left, html.EscapeString(c.Title))
	}
	c.axes(&b, &f)
	for _, d := range c.Bands {
		band(&b, &f, d)
	}
	for i, l := range c.Lines {
		c.line(&b, &f, i, l)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func (c *Chart) axes(b *strings.Builder, f *frame) {
	right, bottom := f.width-f.right, f.height-f.bottom
	for _, y := range ticks(f.y0, f.y1) {
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" %s/><text x="%g" y="%.1f" text-anchor="end">%s</text>`, f.left, f.y(y), right, f.grid, f.left-6, f.y(y)+4, short(y))
	}
	xs := ticks(f.x0, f.x1)
	if f.log {
		if d := decades(f.x0, f.x1); len(d) > 1 {
			xs = d
		}
	}
	for _, x := range xs {
		fmt.Fprintf(b, `<text x="%.1f" y="%g" text-anchor="middle">%s</text>`, f.x(x), bottom+16, short(x))
	}
	fmt.Fprintf(b, `<text x="%g" y="%g" text-anchor="middle">%s</text>`, f.left+(right-f.left)/2, f.height-8, html.EscapeString(c.XLabel))
	fmt.Fprintf(b, `<text transform="translate(14 %g) rotate(-90)" text-anchor="middle">%s</text>`, f.top+(bottom-f.top)/2, html.EscapeString(c.YLabel))
	for _, name := range sortedKeys(c.Marks) {
		fmt.Fprintf(b, `<path d="M%.1f %gV%g" stroke="#888" stroke-dasharray="2 3"/><text x="%.1f" y="%g" fill="#666">%s</text>`,
			f.x(c.Marks[name]), f.top, bottom, f.x(c.Marks[name])+3, f.top+10, html.EscapeString(name))
	}
	if f.y0 < 0 && f.y1 > 0 {
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" stroke="%s"/>`, f.left, f.y(0), right, f.ink)
	}
}

func band(b *strings.Builder, f *frame, d Band) {
	n := min(len(d.X), len(d.Lower), len(d.Upper))
	if n == 0 {
		return
	}
	fmt.Fprintf(b, `<path fill="%s" fill-opacity="0.18" d="`, palette[d.Color%len(palette)])
	for i := range n {
		fmt.Fprintf(b, "%s%.1f %.1f", verb(i), f.x(d.X[i]), f.y(min(max(d.Upper[i], f.y0), f.y1)))
	}
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(b, "L%.1f %.1f", f.x(d.X[i]), f.y(min(max(d.Lower[i], f.y0), f.y1)))
	}
	b.WriteString(`Z"/>`)
}

func verb(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}

func (c *Chart) line(b *strings.Builder, f *frame, i int, l Line) {
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
		fmt.Fprintf(b, "%s%.1f %.1f", verb(k), f.x(p[0]), f.y(p[1]))
	}
	b.WriteString(`"/>`)
	if l.Name != "" && !c.Page {
		y := f.top + 8 + 18*float64(i)
		fmt.Fprintf(b, `<path d="M%g %gh18" stroke="%s" stroke-width="2"%s/><text x="%g" y="%g">%s</text>`,
			f.width-f.right+10, y, palette[color%len(palette)], dash, f.width-f.right+34, y+4, html.EscapeString(l.Name))
	}
}

// extent of the axes; y starts at 0, or lower with Fit.
func (c *Chart) extent() (x0, x1, y0, y1 float64) {
	x0, x1 = math.Inf(1), math.Inf(-1)
	low, high := math.Inf(1), 0.0
	if c.Fit {
		high = math.Inf(-1)
	}
	add := func(x, y float64) { x0, x1, low, high = min(x0, x), max(x1, x), min(low, y), max(high, y) }
	for _, l := range c.Lines {
		for i := range l.X {
			add(l.X[i], l.Y[i])
		}
	}
	// A band may reach far where little is known: it widens the axis to three times what the lines need, no further.
	limitLow, limitHigh := math.Inf(-1), math.Inf(1)
	if d := max(high-low, math.Abs(high), math.Abs(low)); !math.IsInf(d, 0) {
		limitLow, limitHigh = low-d, high+d
	}
	for _, d := range c.Bands {
		for i := range min(len(d.X), len(d.Lower), len(d.Upper)) {
			add(d.X[i], max(d.Lower[i], limitLow))
			add(d.X[i], min(d.Upper[i], limitHigh))
		}
	}
	if !(x1 > x0) {
		x0, x1 = 0, 1
		if c.LogX {
			x0, x1 = 1, 10
		}
	}
	if !c.Fit {
		if high <= 0 {
			high = 1
		}
		return x0, x1, 0, high * 1.05
	}
	if !(high >= low) {
		low, high = 0, 1
	}
	room := 0.05 * (high - low)
	if high-low <= 1e-9*max(math.Abs(high), math.Abs(low)) {
		// Values that differ in rounding only; narrower than that, ticks could not be told apart.
		room = max(math.Abs(high), 1) * 0.05
	}
	return x0, x1, low - room, high + room
}

// decades are round numbers on a logarithmic axis: 1, 2 and 5 of each power of ten, or less where that is many.
func decades(from, to float64) []float64 {
	for _, of := range [][]float64{{1, 2, 5}, {1, 3}, {1}} {
		var out []float64
		for e := math.Floor(math.Log10(from)); e <= math.Log10(to); e++ {
			for _, m := range of {
				if x := m * math.Pow(10, e); x >= from && x <= to {
					out = append(out, x)
				}
			}
		}
		if len(out) <= 9 {
			return out
		}
	}
	return nil
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

// maxTicks is more than any range needs.
const maxTicks = 10

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
	// Counted, not added up to an end: where a step is less than the numbers' precision, adding it changes nothing.
	first := math.Ceil(from / step)
	n := math.Floor(to/step+1e-9) - first
	if !(n >= 0 && n <= maxTicks) {
		return nil // ends too close together, or not finite
	}
	var out []float64
	for i := range int(n) + 1 {
		out = append(out, (first+float64(i))*step+0) // no -0
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
