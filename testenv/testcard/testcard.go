// Package testcard draws a moving television test card that carries its own clock, and reads that clock back.
//
// Every frame holds the time it was drawn at twice: as large digits for people and as two rows of black and
// white cells for programs. Comparing the cells, decoded from a player's canvas, with the time of decoding
// gives the true latency from capture to screen, with no trust in any timestamp the media path wrote.
//
// It promises: rendering is a pure function of (size, name, time); what Render draws, DecodeLuma, DecodeRGBA
// and the JavaScript decoder read back to the millisecond, after scaling and after H.264 at 300 kbit/s; a
// picture that is not a test card, or is too damaged, is refused (16 sync cells and a 16-bit checksum) rather
// than read wrongly. It leaves out cropping, letterboxing and rotation: the whole card must fill the picture
// (its aspect ratio may change). No I/O happens here.
package testcard

import (
	"fmt"
	"time"
)

// Size used where none is given, in pixels, and the limits New accepts.
const (
	DefaultWidth  = 640
	DefaultHeight = 360
	// MinWidth and MinHeight keep clock cells at 4 pixels or more, below which scaling and coding lose them.
	MinWidth  = 160
	MinHeight = 90
	// MaxSide bounds the memory of a frame (8K television is 7680 wide).
	MaxSide = 7680
)

// Card draws test card frames of one size and name. It may be used by several goroutines at once.
type Card struct {
	width, height int
	// background is a whole frame with everything that never changes.
	background []byte
	clock      textBox
}

// New prepares a card of width x height pixels (both even; 0 means the default) that shows name in capitals.
// Characters outside printable ASCII are drawn as boxes; a name too long for the picture is cut.
func New(width, height int, name string) (*Card, error) {
	if width == 0 {
		width = DefaultWidth
	}
	if height == 0 {
		height = DefaultHeight
	}
	if width < MinWidth || height < MinHeight || width > MaxSide || height > MaxSide {
		return nil, fmt.Errorf("test card size %dx%d is outside %dx%d to %dx%d: choose a size between them",
			width, height, MinWidth, MinHeight, MaxSide, MaxSide)
	}
	if width%2 != 0 || height%2 != 0 {
		return nil, fmt.Errorf("test card size %dx%d is odd: 4:2:0 video needs even width and height", width, height)
	}
	c := &Card{width: width, height: height}
	c.drawBackground(name)
	return c, nil
}

// Width and Height are the card's size in pixels.
func (c *Card) Width() int { return c.width }

// Height is the card's height in pixels.
func (c *Card) Height() int { return c.height }

// FrameBytes is the size of one yuv420p frame.
func (c *Card) FrameBytes() int { return c.width * c.height * 3 / 2 }

// Render draws the card as of at into dst, which is reused when large enough, and returns the frame: planar
// yuv420p, BT.601 limited range, without padding. The time is cut to whole milliseconds.
func (c *Card) Render(dst []byte, at time.Time) []byte {
	if cap(dst) < c.FrameBytes() {
		dst = make([]byte, c.FrameBytes())
	}
	dst = dst[:c.FrameBytes()]
	copy(dst, c.background)
	f := c.frame(dst)
	unixMs := at.UnixMilli()
	f.drawCells(encodeCells(unixMs))
	c.drawMovers(f, unixMs)
	c.clock.draw(f, time.UnixMilli(unixMs).UTC().Format("15:04:05.000"), colourWhite)
	return dst
}

// frame gives plane access to one yuv420p picture.
type frame struct {
	width, height int
	y, u, v       []byte
}

func (c *Card) frame(buf []byte) frame {
	luma := c.width * c.height
	chroma := luma / 4
	return frame{c.width, c.height, buf[:luma], buf[luma : luma+chroma], buf[luma+chroma : luma+2*chroma]}
}

// colour is one BT.601 limited-range colour.
type colour struct{ y, u, v byte }

// The colours of the 75 % bars are those of EIA colour bars in BT.601 (ITU-R BT.801).
var (
	colourWhite = colour{235, 128, 128}
	colourBlack = colour{16, 128, 128}
	colourGrey  = colour{104, 128, 128}
	colourBars  = [8]colour{
		{180, 128, 128}, {162, 44, 142}, {131, 156, 44}, {112, 72, 58},
		{84, 184, 198}, {65, 100, 212}, {35, 212, 114}, {16, 128, 128},
	}
)

// fill paints the rectangle [x0,x1) x [y0,y1), cut to the picture. Chroma follows the even pixels.
func (f frame) fill(x0, y0, x1, y1 int, c colour) {
	x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, f.width), min(y1, f.height)
	if x0 >= x1 || y0 >= y1 {
		return
	}
	for y := y0; y < y1; y++ {
		set(f.y[y*f.width+x0:y*f.width+x1], c.y)
	}
	cw := f.width / 2
	for y := (y0 + 1) / 2; y < (y1+1)/2; y++ {
		if cx0, cx1 := (x0+1)/2, (x1+1)/2; cx0 < cx1 {
			set(f.u[y*cw+cx0:y*cw+cx1], c.u)
			set(f.v[y*cw+cx0:y*cw+cx1], c.v)
		}
	}
}

func set(row []byte, v byte) {
	for i := range row {
		row[i] = v
	}
}

// Heights of the card's bands in units of the cell height, of which a picture has rowsPerFrame (22.5).
const (
	barsTop     = cellRows
	barsBottom  = 13.0
	clockBottom = 18.5
	nameBottom  = rowsPerFrame - 2
)

func (c *Card) bandY(rows float64) int { return int(rows*float64(c.height)/rowsPerFrame + 0.5) }

func (c *Card) drawBackground(name string) {
	c.background = make([]byte, c.FrameBytes())
	f := c.frame(c.background)
	f.fill(0, 0, c.width, c.height, colourBlack)
	for i, bar := range colourBars {
		f.fill(i*c.width/8, c.bandY(barsTop), (i+1)*c.width/8, c.bandY(barsBottom), bar)
	}
	// A grey staircase shows crushed blacks and whites, the usual sign of a wrong colour range.
	const steps = 16
	for i := range steps {
		level := byte(16 + i*(235-16)/(steps-1))
		f.fill(i*c.width/steps, c.bandY(nameBottom), (i+1)*c.width/steps, c.height, colour{level, 128, 128})
	}
	c.clock = placeText(c.width, c.bandY(barsBottom), c.bandY(clockBottom), len("15:04:05.000"))
	label := []rune(name)
	box := placeText(c.width, c.bandY(clockBottom), c.bandY(nameBottom), max(len(label), 16))
	if longest := box.maxRunes(c.width); len(label) > longest {
		label = label[:longest]
	}
	box.centre(c.width, len(label))
	box.draw(f, string(label), colour{210, 16, 146})
}

// drawMovers paints what makes frozen, repeated or skipped pictures visible: a block that bounces over the
// bars and a sweep that crosses the picture once a second.
func (c *Card) drawMovers(f frame, unixMs int64) {
	top, bottom := c.bandY(barsTop), c.bandY(barsBottom)
	side := max((bottom-top)/4, 4) &^ 1
	x := bounce(unixMs, 4000, c.width-side)
	y := top + bounce(unixMs, 2600, bottom-top-side)
	f.fill(x&^1, y&^1, x&^1+side, y&^1+side, colourGrey)
	f.fill(x&^1+side/4, y&^1+side/4, x&^1+side-side/4, y&^1+side-side/4, colourWhite)
	sweep := int(floorMod(unixMs, 1000) * int64(c.width) / 1000)
	width := max(c.width/80, 2)
	f.fill(sweep, bottom-max(c.height/60, 2), sweep+width, bottom, colourWhite)
}

// bounce runs from 0 to span and back once per periodMs.
func bounce(unixMs, periodMs int64, span int) int {
	phase := floorMod(unixMs, periodMs) * 2
	if phase > periodMs {
		phase = 2*periodMs - phase
	}
	return int(phase * int64(span) / periodMs)
}

func floorMod(a, b int64) int64 { return ((a % b) + b) % b }
