package testcard

// A 5x7 bitmap font, drawn for this package: digits and capitals as on the dot-matrix displays of old.
const (
	glyphWidth   = 5
	glyphHeight  = 7
	glyphAdvance = glyphWidth + 1
)

// glyph returns the rows of a character, top first; bit 4 is the leftmost dot. Lower case is drawn as
// capitals, anything unknown as a box.
func glyph(r rune) [glyphHeight]byte {
	if r >= 'a' && r <= 'z' {
		r -= 'a' - 'A'
	}
	switch {
	case r >= '0' && r <= '9':
		return digits[r-'0']
	case r >= 'A' && r <= 'Z':
		return capitals[r-'A']
	}
	switch r {
	case ' ':
		return [glyphHeight]byte{}
	case ':':
		return [glyphHeight]byte{0, 4, 4, 0, 4, 4, 0}
	case '.':
		return [glyphHeight]byte{0, 0, 0, 0, 0, 12, 12}
	case ',':
		return [glyphHeight]byte{0, 0, 0, 0, 12, 4, 8}
	case '-':
		return [glyphHeight]byte{0, 0, 0, 31, 0, 0, 0}
	case '_':
		return [glyphHeight]byte{0, 0, 0, 0, 0, 0, 31}
	case '+':
		return [glyphHeight]byte{0, 4, 4, 31, 4, 4, 0}
	case '/':
		return [glyphHeight]byte{1, 1, 2, 4, 8, 16, 16}
	case '#':
		return [glyphHeight]byte{10, 10, 31, 10, 31, 10, 10}
	case '=':
		return [glyphHeight]byte{0, 0, 31, 0, 31, 0, 0}
	case '(':
		return [glyphHeight]byte{2, 4, 8, 8, 8, 4, 2}
	case ')':
		return [glyphHeight]byte{8, 4, 2, 2, 2, 4, 8}
	case '@':
		return [glyphHeight]byte{14, 17, 23, 21, 23, 16, 14}
	}
	return [glyphHeight]byte{31, 17, 17, 17, 17, 17, 31}
}

var digits = [10][glyphHeight]byte{
	{14, 17, 19, 21, 25, 17, 14}, {4, 12, 4, 4, 4, 4, 14}, {14, 17, 1, 2, 4, 8, 31}, {31, 2, 4, 2, 1, 17, 14},
	{2, 6, 10, 18, 31, 2, 2}, {31, 16, 30, 1, 1, 17, 14}, {6, 8, 16, 30, 17, 17, 14}, {31, 1, 2, 4, 8, 8, 8},
	{14, 17, 17, 14, 17, 17, 14}, {14, 17, 17, 15, 1, 2, 12},
}

var capitals = [26][glyphHeight]byte{
	{14, 17, 17, 31, 17, 17, 17}, {30, 17, 17, 30, 17, 17, 30}, {14, 17, 16, 16, 16, 17, 14},
	{28, 18, 17, 17, 17, 18, 28}, {31, 16, 16, 30, 16, 16, 31}, {31, 16, 16, 30, 16, 16, 16},
	{14, 17, 16, 23, 17, 17, 15}, {17, 17, 17, 31, 17, 17, 17}, {14, 4, 4, 4, 4, 4, 14},
	{7, 2, 2, 2, 2, 18, 12}, {17, 18, 20, 24, 20, 18, 17}, {16, 16, 16, 16, 16, 16, 31},
	{17, 27, 21, 21, 17, 17, 17}, {17, 17, 25, 21, 19, 17, 17}, {14, 17, 17, 17, 17, 17, 14},
	{30, 17, 17, 30, 16, 16, 16}, {14, 17, 17, 17, 21, 18, 13}, {30, 17, 17, 30, 20, 18, 17},
	{15, 16, 16, 14, 1, 1, 30}, {31, 4, 4, 4, 4, 4, 4}, {17, 17, 17, 17, 17, 17, 14},
	{17, 17, 17, 17, 17, 10, 4}, {17, 17, 17, 21, 21, 21, 10}, {17, 17, 10, 4, 10, 17, 17},
	{17, 17, 17, 10, 4, 4, 4}, {31, 1, 2, 4, 8, 16, 31},
}

// textBox is a place for one line of text: its corner and the side of a font dot in pixels.
type textBox struct{ x, y, dot int }

// placeText centres a line of runes characters in the band [top, bottom) of a picture, as large as fits.
func placeText(width, top, bottom, runes int) textBox {
	dot := max(min((width*19/20)/(runes*glyphAdvance), (bottom-top)*3/4/glyphHeight), 1)
	b := textBox{y: top + (bottom-top-dot*glyphHeight)/2, dot: dot}
	b.centre(width, runes)
	return b
}

func (b *textBox) centre(width, runes int) { b.x = max((width-runes*glyphAdvance*b.dot+b.dot)/2, 0) }

func (b textBox) maxRunes(width int) int { return width / (glyphAdvance * b.dot) }

func (b textBox) draw(f frame, text string, c colour) {
	x := b.x
	for _, r := range text {
		for row, dots := range glyph(r) {
			for col := range glyphWidth {
				if dots>>(glyphWidth-1-col)&1 == 1 {
					f.fill(x+col*b.dot, b.y+row*b.dot, x+(col+1)*b.dot, b.y+(row+1)*b.dot, c)
				}
			}
		}
		x += glyphAdvance * b.dot
	}
}
