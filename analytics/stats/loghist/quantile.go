package loghist

import (
	"fmt"
	"math"
	"sort"
)

// Quantile returns the level-p quantile in milliseconds: the value of rank
// ceil(n p) among all rows, rows at +Inf included. It is +Inf (not an error)
// when the failed share is above 1-p. Errors: ErrEmpty, ErrLevel.
func (h Hist) Quantile(p float64) (float64, error) {
	if !(p > 0 && p < 1) {
		return 0, fmt.Errorf("level %v: %w", p, ErrLevel)
	}
	n := h.Total()
	if n == 0 {
		return 0, ErrEmpty
	}
	return h.AtRank(CeilRank(n, p))
}

// CeilRank is ceil(n p) clamped to [1, n], computed so that products which are
// whole numbers but for rounding (such as 0.07 x 100) do not skip a rank.
func CeilRank(n uint64, p float64) uint64 {
	x := float64(n) * p
	r := math.Round(x)
	if math.Abs(x-r) > 1e-9*math.Max(1, x) {
		r = math.Ceil(x)
	}
	return uint64(min(max(r, 1), float64(n)))
}

// AtRank returns the value of the given 1-based rank: inside a bin the rows
// are taken to be spread evenly on the logarithmic scale (on the linear scale
// in bin 0), so the answer stays within the bin and off by at most one bin.
// Errors: ErrEmpty when there are fewer rows than rank, or rank is 0.
func (h Hist) AtRank(rank uint64) (float64, error) {
	i, err := h.indexOfRank(rank)
	if err != nil {
		return 0, err
	}
	b := h.bins[i]
	if b.Bin == InfBin {
		return math.Inf(1), nil
	}
	frac := (float64(rank-(h.cum[i]-b.Count)) - 0.5) / float64(b.Count)
	if b.Bin == 0 {
		return Ratio * frac, nil
	}
	return math.Exp((float64(b.Bin) + frac) * LnRatio), nil
}

// BinAtRank returns the bin that holds the given 1-based rank. Two ranks in
// one bin cannot be told apart: an interval between them is not known.
func (h Hist) BinAtRank(rank uint64) (int32, error) {
	i, err := h.indexOfRank(rank)
	if err != nil {
		return 0, err
	}
	return h.bins[i].Bin, nil
}

func (h Hist) indexOfRank(rank uint64) (int, error) {
	if rank == 0 || rank > h.Total() {
		return 0, fmt.Errorf("rank %d of %d rows: %w", rank, h.Total(), ErrEmpty)
	}
	return sort.Search(len(h.cum), func(i int) bool { return h.cum[i] >= rank }), nil
}

// CountThrough returns the number of rows in bins up to and including bin:
// exactly the rows below the bin's upper bound.
func (h Hist) CountThrough(bin int32) uint64 {
	i := sort.Search(len(h.bins), func(i int) bool { return h.bins[i].Bin > bin })
	if i == 0 {
		return 0
	}
	return h.cum[i-1]
}

// CDF returns the share of rows at or below ms, interpolated inside the bin
// that contains it. CDF(+Inf) is 1, because rows at +Inf are rows. Errors:
// ErrEmpty; ErrKey for NaN.
func (h Hist) CDF(ms float64) (float64, error) {
	n := h.Total()
	switch {
	case n == 0:
		return 0, ErrEmpty
	case ms != ms:
		return 0, fmt.Errorf("value NaN: %w", ErrKey)
	case ms <= 0:
		return 0, nil
	case math.IsInf(ms, 1):
		return 1, nil
	}
	bin := BinOf(ms)
	below := h.CountThrough(bin - 1)
	in := float64(h.CountThrough(bin) - below)
	frac := math.Log(ms)/LnRatio - float64(bin)
	if bin == 0 {
		frac = ms / Ratio
	}
	return (float64(below) + in*min(max(frac, 0), 1)) / float64(n), nil
}

// Point is one step of the distribution function, exact at the bin's edge.
type Point struct {
	Ms float64 // upper bound of the bin
	F  float64 // share of rows below Ms
}

// Curve returns the distribution function at the upper edge of every non-empty
// finite bin. Where rows stand at +Inf the last point stays below 1. Nil when
// the histogram is empty.
func (h Hist) Curve() []Point {
	n := float64(h.Total())
	var out []Point
	for i, b := range h.bins {
		if b.Bin == InfBin {
			break
		}
		_, hi := Bounds(b.Bin)
		out = append(out, Point{hi, float64(h.cum[i]) / n})
	}
	return out
}
