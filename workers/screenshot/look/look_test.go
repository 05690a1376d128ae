package look_test

import (
	"image"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/workers/screenshot/look"
)

// scene draws boxes; noise is what an encoder adds.
func scene(seed uint64, w, h, noise int) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	r, n := rand.New(rand.NewPCG(seed, 7)), rand.New(rand.NewPCG(seed, uint64(noise)))
	var boxes [12][5]int
	for i := range boxes {
		boxes[i] = [5]int{r.IntN(100), r.IntN(100), 10 + r.IntN(50), 10 + r.IntN(50), 40 + r.IntN(200)}
	}
	for y := range h {
		for x := range w {
			v := 60
			for _, b := range boxes {
				if px, py := x*100/w, y*100/h; px >= b[0] && px < b[0]+b[2] && py >= b[1] && py < b[1]+b[3] {
					v = b[4]
				}
			}
			if noise > 0 {
				v += n.IntN(2*noise+1) - noise
			}
			img.Y[y*img.YStride+x] = byte(max(0, min(255, v)))
		}
	}
	return img
}

func TestLikePicturesAreLike(t *testing.T) {
	for seed := range uint64(8) {
		a, b := look.Of(scene(seed, 320, 180, 0)), look.Of(scene(seed, 320, 180, 6))
		if !look.Same(a.Hash, b.Hash, a.Cells[:], b.Cells[:]) {
			t.Errorf("scene %d with noise is another: distance %d, change %d", seed, look.Distance(a.Hash, b.Hash), look.Change(a.Cells[:], b.Cells[:]))
		}
		// The hash is of the picture, not of its size.
		if c := look.Of(scene(seed, 640, 360, 0)); look.Distance(a.Hash, c.Hash) > 8 {
			t.Errorf("scene %d at another size is %d bits off", seed, look.Distance(a.Hash, c.Hash))
		}
		o := look.Of(scene(seed+100, 320, 180, 0))
		if look.Same(a.Hash, o.Hash, a.Cells[:], o.Cells[:]) || look.Distance(a.Hash, o.Hash) < 12 {
			t.Errorf("scenes %d and %d are alike: distance %d", seed, seed+100, look.Distance(a.Hash, o.Hash))
		}
	}
}

// Somebody who moves in front of a still wall is seen.
func TestSmallMovesCount(t *testing.T) {
	a, b := scene(3, 320, 180, 2), scene(3, 320, 180, 5)
	for y := 60; y < 90; y++ {
		for x := 100; x < 130; x++ {
			b.Y[y*b.YStride+x] ^= 0x40
		}
	}
	ma, mb := look.Of(a), look.Of(b)
	if look.Same(ma.Hash, mb.Hash, ma.Cells[:], mb.Cells[:]) {
		t.Errorf("not seen: change %d", look.Change(ma.Cells[:], mb.Cells[:]))
	}
}

func TestBlack(t *testing.T) {
	img := image.NewYCbCr(image.Rect(0, 0, 320, 180), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = byte(i % 12)
	}
	m := look.Of(img)
	if !look.IsBlack(m.Black) || m.Luma > 12 {
		t.Errorf("black %v, luma %v", m.Black, m.Luma)
	}
	if n := look.Of(img); !look.Same(m.Hash, n.Hash, m.Cells[:], n.Cells[:]) {
		t.Error("a black picture is not the same as itself")
	}
	for i := range len(img.Y) / 30 {
		img.Y[i] = 200
	}
	if m := look.Of(img); look.IsBlack(m.Black) {
		t.Error("a picture with something in it is black")
	}
	if m := look.Of(image.NewYCbCr(image.Rectangle{}, image.YCbCrSubsampleRatio420)); look.IsBlack(m.Black) {
		t.Error("no picture is black")
	}
	look.Of(scene(1, 3, 2, 0)) // smaller than the cells
}
