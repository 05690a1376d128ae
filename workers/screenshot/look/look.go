// Package look measures what a picture shows: how alike two pictures are, and
// whether there is anything to see. Pure: no I/O.
//
// It promises the same figures for the same pixels wherever it runs. It leaves
// out what is in a picture; that is for review operators.
package look

import (
	"image"
	"math"
	"math/bits"
	"slices"
)

// Cells of the coarse picture: columns and rows.
const (
	Columns = 16
	Rows    = 9
)

// Measures of one picture.
type Measures struct {
	// Hash is a perceptual hash: the signs of the 64 lowest frequencies of the
	// picture against their median (a DCT of 32 x 32 cells). Pictures that look
	// alike differ in few bits.
	Hash uint64
	// Cells are the mean lumas of 16 x 9 cells, row by row, 0 to 255.
	Cells [Columns * Rows]byte
	// Luma is the mean, 0 to 255.
	Luma float64
	// Black is the share of pixels that are black.
	Black float64
}

// blackLuma is the luma up to which a pixel is black: a tenth of the range, as
// ffmpeg's blackdetect has it.
const blackLuma = 25

// Of measures a picture of full-range luma.
func Of(img *image.YCbCr) Measures {
	var m Measures
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w == 0 || h == 0 {
		return m
	}
	var sum, black int
	for y := range h {
		row := img.Y[y*img.YStride : y*img.YStride+w]
		for _, v := range row {
			sum += int(v)
			if v <= blackLuma {
				black++
			}
		}
	}
	m.Luma, m.Black = float64(sum)/float64(w*h), float64(black)/float64(w*h)
	coarse := cells(img, Columns, Rows)
	for i, v := range coarse {
		m.Cells[i] = byte(math.Round(v))
	}
	m.Hash = hash(cells(img, side, side))
	return m
}

// cells gives the mean luma of each cell of a grid; cells share no pixel.
func cells(img *image.YCbCr, columns, rows int) []float64 {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	out := make([]float64, columns*rows)
	for r := range rows {
		y0, y1 := r*h/rows, max((r+1)*h/rows, r*h/rows+1)
		for c := range columns {
			x0, x1 := c*w/columns, max((c+1)*w/columns, c*w/columns+1)
			sum := 0
			for y := y0; y < y1; y++ {
				for _, v := range img.Y[y*img.YStride+x0 : y*img.YStride+x1] {
					sum += int(v)
				}
			}
			out[r*columns+c] = float64(sum) / float64((x1-x0)*(y1-y0))
		}
	}
	return out
}

// The hash looks at low x low frequencies of side x side cells.
const (
	side = 32
	low  = 8
)

var cosines = func() (c [low][side]float64) {
	for k := range low {
		for n := range side {
			c[k][n] = math.Cos(math.Pi / side * (float64(n) + 0.5) * float64(k))
		}
	}
	return c
}()

func hash(px []float64) uint64 {
	var rows [side][low]float64
	for y := range side {
		for k := range low {
			for x := range side {
				rows[y][k] += px[y*side+x] * cosines[k][x]
			}
		}
	}
	var f [low * low]float64
	for k := range low {
		for l := range low {
			for y := range side {
				f[l*low+k] += rows[y][k] * cosines[l][y]
			}
			// A flat picture has nothing but rounding here.
			f[l*low+k] = math.Round(f[l*low+k])
		}
	}
	sorted := slices.Clone(f[1:]) // without the mean brightness
	slices.Sort(sorted)
	median := sorted[len(sorted)/2]
	var h uint64
	for i, v := range f {
		if v > median {
			h |= 1 << i
		}
	}
	return h
}

// Distance is in how many of 64 bits two hashes differ.
func Distance(a, b uint64) int { return bits.OnesCount64(a ^ b) }

// Change is the largest difference of a cell between two pictures, 0 to 255.
func Change(a, b []byte) int {
	most := 0
	for i := range min(len(a), len(b)) {
		most = max(most, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return most
}

// Bounds of what counts as the same picture: what an encoder makes of one image
// at different times differs by less. A flat picture's hash is chance, so it
// counts only where there is something to see.
const (
	sameDistance = 6
	sameChange   = 2
	flatSpread   = 6
)

// Same reports whether two pictures show the same, as those of a frozen stream do.
func Same(hashA, hashB uint64, cellsA, cellsB []byte) bool {
	if len(cellsA) != len(cellsB) || Change(cellsA, cellsB) > sameChange {
		return false
	}
	return Distance(hashA, hashB) <= sameDistance || flat(cellsA)
}

func flat(cells []byte) bool {
	return len(cells) > 0 && slices.Max(cells)-slices.Min(cells) <= flatSpread
}

// IsBlack reports whether a picture with this share of black pixels shows nothing.
func IsBlack(black float64) bool { return black >= 0.98 }
