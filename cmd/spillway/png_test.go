//go:build quiet

package main

import (
	"bytes"
	"cmp"
	"errors"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"slices"
)

// fewColours makes a picture of the documentation smaller: 128 colours.
func fewColours(data []byte) ([]byte, error) {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	b := img.Bounds()
	key := func(c color.Color) color.RGBA {
		r, g, bl, _ := c.RGBA()
		return color.RGBA{uint8(r >> 11 << 3), uint8(g >> 11 << 3), uint8(bl >> 11 << 3), 255}
	}
	count, exact := map[color.RGBA]int{}, map[color.RGBA]color.Color{}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			count[key(c)]++
			exact[key(c)] = c
		}
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	if len(keys) == 0 {
		return nil, errors.New("an empty picture")
	}
	p := palette(keys, count, exact)
	index := map[color.RGBA]uint8{}
	out := image.NewPaletted(b, p)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			i, ok := index[key(c)]
			if !ok {
				i = uint8(p.Index(c))
				index[key(c)] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	var w bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&w, out)
	return w.Bytes(), err
}

// palette takes the most frequent colours, which are those of the page, and then in turn the one that is frequent and
// far from what is taken: a dot of a colour of its own keeps it.
func palette(keys []color.RGBA, count map[color.RGBA]int, exact map[color.RGBA]color.Color) color.Palette {
	const frequent, size = 32, 128
	var p color.Palette
	far := make([]float64, len(keys))
	for i := range far {
		far[i] = math.Inf(1)
	}
	for len(p) < min(size, len(keys)) {
		next, most := len(p), -1.0
		if len(p) >= frequent {
			for i, k := range keys {
				if v := far[i] * math.Sqrt(float64(count[k])); v > most {
					next, most = i, v
				}
			}
		}
		c := keys[next]
		p = append(p, exact[c])
		for i, k := range keys {
			r, g, b := float64(k.R)-float64(c.R), float64(k.G)-float64(c.G), float64(k.B)-float64(c.B)
			far[i] = min(far[i], r*r+g*g+b*b)
		}
	}
	return p
}
