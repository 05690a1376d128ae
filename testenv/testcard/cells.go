package testcard

// The machine-readable clock: two rows of 40 cells across the top of the picture. Each row is four sync
// cells, 32 data cells and four sync cells. A cell is 1/40 of the width and 1/22.5 of the height, so 16x16
// pixels at 640x360: whole H.264 macroblocks, which survive coarse quantisation best.
//
//	row 0   W B W B | bits 63..32 | B W B W
//	row 1   B W B W | bits 31..0  | W B W B
//
// The 64 bits are 48 bits of Unix milliseconds and CRC-16/CCITT-FALSE of those six bytes, high bit first,
// white for 1. testcard.js reads the same layout: change both together.
const (
	cellColumns  = 40
	cellRows     = 2
	rowsPerFrame = 22.5
	syncCells    = 4
	rowBits      = cellColumns - 2*syncCells
	timeBits     = 48
	// minContrast is the least distance between black and white (of 255) at which cells are read. Limited
	// range gives 219; the checksum decides, this only refuses flat pictures early.
	minContrast = 48
)

// syncWhite says whether the sync cell in column col of row row is white.
func syncWhite(row, col int) bool {
	white := col%2 == 0
	if col >= cellColumns/2 {
		white = !white
	}
	return white != (row == 1)
}

func isSync(col int) bool { return col < syncCells || col >= cellColumns-syncCells }

// encodeCells gives the 64 data bits for a time; times outside 48 bits (before 1970, after the year 10889) wrap.
func encodeCells(unixMs int64) uint64 {
	t := uint64(unixMs) & (1<<timeBits - 1)
	return t<<16 | uint64(crc16(t))
}

// crc16 is CRC-16/CCITT-FALSE over the six bytes of t, high byte first.
func crc16(t uint64) uint16 {
	crc := uint16(0xFFFF)
	for shift := timeBits - 8; shift >= 0; shift -= 8 {
		crc ^= uint16(byte(t>>shift)) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

func (f frame) drawCells(bits uint64) {
	for row := range cellRows {
		y0, y1 := cellEdge(row, f.height, rowsPerFrame), cellEdge(row+1, f.height, rowsPerFrame)
		for col := range cellColumns {
			white := syncWhite(row, col)
			if !isSync(col) {
				white = bits>>(63-(row*rowBits+col-syncCells))&1 == 1
			}
			c := colourBlack
			if white {
				c = colourWhite
			}
			f.fill(cellEdge(col, f.width, cellColumns), y0, cellEdge(col+1, f.width, cellColumns), y1, c)
		}
	}
}

func cellEdge(i, size int, per float64) int { return int(float64(i)*float64(size)/per + 0.5) }

// DecodeLuma reads the clock from the luma plane of a w x h picture without padding, at any scale and in
// limited or full range. ok is false when the picture is no test card or too damaged to be sure.
func DecodeLuma(luma []byte, w, h int) (unixMs int64, ok bool) {
	if w <= 0 || h <= 0 || len(luma)/w < h {
		return 0, false
	}
	return decode(w, h, func(x, y int) int { return int(luma[y*w+x]) })
}

// DecodeRGBA reads the clock from w x h pixels of four bytes (red, green, blue, alpha), as a canvas or
// image.RGBA without padding gives them. See DecodeLuma.
func DecodeRGBA(pix []byte, w, h int) (unixMs int64, ok bool) {
	if w <= 0 || h <= 0 || len(pix)/4/w < h {
		return 0, false
	}
	return decode(w, h, func(x, y int) int {
		p := pix[(y*w+x)*4:]
		return (77*int(p[0]) + 150*int(p[1]) + 29*int(p[2])) >> 8
	})
}

func decode(w, h int, luma func(x, y int) int) (int64, bool) {
	var level [cellRows][cellColumns]int
	whites, blacks := 0, 0
	for row := range cellRows {
		for col := range cellColumns {
			level[row][col] = cellMean(row, col, w, h, luma)
			switch {
			case !isSync(col):
			case syncWhite(row, col):
				whites += level[row][col]
			default:
				blacks += level[row][col]
			}
		}
	}
	const perShade = cellRows * syncCells
	whites, blacks = whites/perShade, blacks/perShade
	if whites-blacks < minContrast {
		return 0, false
	}
	threshold := (whites + blacks) / 2
	var bits uint64
	for row := range cellRows {
		for col := range cellColumns {
			white := level[row][col] > threshold
			if isSync(col) {
				if white != syncWhite(row, col) {
					return 0, false
				}
				continue
			}
			bits <<= 1
			if white {
				bits |= 1
			}
		}
	}
	t := bits >> 16
	return int64(t), crc16(t) == uint16(bits)
}

// cellMean averages the middle half of a cell, away from edges that scaling and coding blur. At least one
// pixel is read, however small the picture.
func cellMean(row, col, w, h int, luma func(x, y int) int) int {
	x0, x1 := middle(col, w, cellColumns)
	y0, y1 := middle(row, h, rowsPerFrame)
	sum := 0
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			sum += luma(x, y)
		}
	}
	return sum / ((x1 - x0) * (y1 - y0))
}

func middle(i, size int, per float64) (from, to int) {
	from = int((float64(i) + 0.25) * float64(size) / per)
	to = int((float64(i) + 0.75) * float64(size) / per)
	return from, max(to, from+1)
}
