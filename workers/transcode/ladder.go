package transcode

import (
	"cmp"
	"math"
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

// rung is one rendition to be made of a source.
type rung struct {
	name          string
	width, height int
	bps           int64
}

// rungsOf gives what is made of a source: the ladder's rungs that are lower than
// it, with the source's shape and an even width, highest first.
func rungsOf(ladder []schemas.Rung, source *schemas.TrackInfo) []rung {
	if source.Width <= 0 || source.Height <= 0 {
		return nil
	}
	var out []rung
	for _, l := range ladder {
		if l.Height >= source.Height {
			continue
		}
		w := 2 * int(math.Round(float64(source.Width)*float64(l.Height)/float64(source.Height)/2))
		if w < 16 || w > 8192 {
			continue
		}
		out = append(out, rung{l.Name, w, l.Height, l.BitrateBps})
	}
	slices.SortStableFunc(out, func(a, b rung) int {
		return cmp.Or(cmp.Compare(b.height, a.height), cmp.Compare(b.bps, a.bps), cmp.Compare(a.name, b.name))
	})
	return out
}

// pixelRate is the work of a stream: pixels encoded and, at a third, decoded in a second.
func pixelRate(rungs []rung, source *schemas.TrackInfo) int64 {
	fps := source.FPS
	if !(fps >= 1 && fps <= 240) {
		fps = 30
	}
	n := float64(source.Width*source.Height) / 3
	for _, r := range rungs {
		n += float64(r.width * r.height)
	}
	return int64(n * fps)
}
