// Package loghist is the histogram that the whole product keeps for first
// screen and latency: counts per logarithmic bin, two percent wide.
//
// It promises that merging is exact and order-free, that rank counts are exact
// at bin edges, that a quantile is known to within one percent (half a bin),
// and that the same counts always give the same bits, so all quantiles, the
// distribution function and its bands come from one additive array stored in
// ClickHouse (sumMap of bin to rows). Values that never happened, such as the
// first screen of a failed start, are counted at plus infinity instead of being
// dropped.
//
// It leaves out variances and tests (package stats) and does no I/O.
package loghist

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

const (
	// Ratio is the width of a bin: its upper bound divided by its lower bound.
	Ratio = 1.02
	// LnRatio is ln(Ratio), the divisor of the bin rule.
	LnRatio = 0.01980262729617973
	// InfBin is the bin of +Inf: attempts that never reached the event.
	InfBin int32 = math.MaxInt32
	// NoBin is what BinOf answers for NaN. It is never a key of a histogram.
	NoBin int32 = -1
	// maxFinite is the bin of the largest finite float64.
	maxFinite = 35842
)

var (
	// ErrEmpty says that the histogram counts nothing, so no quantile exists.
	ErrEmpty = errors.New("histogram is empty")
	// ErrKey says that a stored key is not a bin this package ever writes.
	ErrKey = errors.New("invalid histogram bin")
	// ErrLevel says that a quantile level lies outside (0, 1).
	ErrLevel = errors.New("quantile level must lie strictly between 0 and 1")
	// ErrOverflow says that counts no longer fit 64 bits.
	ErrOverflow = errors.New("histogram counts overflow 64 bits")
)

// BinOf returns the bin of a duration in milliseconds: floor(ln ms / ln 1.02)
// for ms >= 1, bin 0 below (also for negative values, which clock skew makes),
// InfBin for +Inf and NoBin for NaN. Bin 0 therefore spans [0, 1.02) ms.
func BinOf(ms float64) int32 {
	switch {
	case ms < 1:
		return 0
	case math.IsInf(ms, 1):
		return InfBin
	case ms != ms:
		return NoBin
	}
	return int32(math.Floor(math.Log(ms) / LnRatio))
}

// Bounds returns the half-open range [lo, hi) of a bin in milliseconds. Bin 0
// begins at 0; InfBin is [+Inf, +Inf]. Keys BinOf never returns give NaN.
func Bounds(bin int32) (loMs, hiMs float64) {
	switch {
	case bin == InfBin:
		return math.Inf(1), math.Inf(1)
	case bin < 0 || bin > maxFinite:
		return math.NaN(), math.NaN()
	case bin == 0:
		return 0, Ratio
	}
	return math.Exp(float64(bin) * LnRatio), math.Exp(float64(bin+1) * LnRatio)
}

// Mid returns the value that stands for a bin: the geometric mean of its
// bounds, at most one percent from any value in it. Bin 0 is represented by
// 0.51 ms, InfBin by +Inf.
func Mid(bin int32) float64 {
	switch {
	case bin == InfBin:
		return math.Inf(1)
	case bin < 0 || bin > maxFinite:
		return math.NaN()
	case bin == 0:
		return Ratio / 2
	}
	return math.Exp((float64(bin) + 0.5) * LnRatio)
}

// Bin is one bin with its count.
type Bin struct {
	Bin   int32
	Count uint64
}

// Hist is a read-only histogram: bins in ascending order with their running
// counts. Build it with New; the zero value is an empty histogram.
type Hist struct {
	bins []Bin
	cum  []uint64 // cum[i] = rows in bins[0..i]
}

// New reads the stored form, bin to rows, where InfBin holds the rows at +Inf.
// Further rows at +Inf (attempts counted in a column of their own) go in inf.
// Bins with count 0 are ignored. Errors: ErrKey for keys BinOf never returns,
// ErrOverflow.
func New(counts map[int32]uint64, inf uint64) (Hist, error) {
	h := Hist{bins: make([]Bin, 0, len(counts)+1)}
	for k, c := range counts {
		if k < 0 || (k > maxFinite && k != InfBin) {
			return Hist{}, fmt.Errorf("bin %d: %w", k, ErrKey)
		}
		if c > 0 && k != InfBin {
			h.bins = append(h.bins, Bin{k, c})
		}
	}
	ascending(h.bins)
	last := counts[InfBin]
	if last+inf < last {
		return Hist{}, ErrOverflow
	}
	if last += inf; last > 0 {
		h.bins = append(h.bins, Bin{InfBin, last})
	}
	h.cum = make([]uint64, len(h.bins))
	var run uint64
	for i, b := range h.bins {
		if run+b.Count < run {
			return Hist{}, ErrOverflow
		}
		run += b.Count
		h.cum[i] = run
	}
	return h, nil
}

// ascending sorts bins by key, by counting where keys lie close together, as
// those of real durations do: a report builds hundreds of histograms.
func ascending(bins []Bin) {
	if len(bins) < 2 {
		return
	}
	lo, hi := bins[0].Bin, bins[0].Bin
	for _, b := range bins {
		lo, hi = min(lo, b.Bin), max(hi, b.Bin)
	}
	if int(hi-lo) > 16*len(bins) {
		slices.SortFunc(bins, func(a, b Bin) int { return int(a.Bin - b.Bin) })
		return
	}
	dense := make([]uint64, hi-lo+1)
	for _, b := range bins {
		dense[b.Bin-lo] = b.Count
	}
	k := 0
	for i, c := range dense {
		if c > 0 {
			bins[k] = Bin{lo + int32(i), c}
			k++
		}
	}
}

// Merge adds the counts of src to dst. It is exact and order-free.
func Merge(dst, src map[int32]uint64) {
	for k, c := range src {
		dst[k] += c
	}
}

// Sum returns the histogram of all rows of hs together. Error: ErrOverflow.
func Sum(hs []Hist) (Hist, error) {
	top := int32(-1)
	for _, h := range hs {
		for k := len(h.bins) - 1; k >= 0; k-- {
			if b := h.bins[k].Bin; b != InfBin {
				top = max(top, b)
				break
			}
		}
	}
	dense := make([]uint64, top+1)
	var out Hist
	var inf, run uint64
	for _, h := range hs {
		if run+h.Total() < run {
			return Hist{}, ErrOverflow
		}
		run += h.Total()
		for _, b := range h.bins {
			if b.Bin == InfBin {
				inf += b.Count
			} else {
				dense[b.Bin] += b.Count
			}
		}
	}
	run = 0
	push := func(bin int32, count uint64) {
		if count > 0 {
			run += count
			out.bins, out.cum = append(out.bins, Bin{bin, count}), append(out.cum, run)
		}
	}
	for i, c := range dense {
		push(int32(i), c)
	}
	push(InfBin, inf)
	return out, nil
}

// Total is the number of rows, those at +Inf included.
func (h Hist) Total() uint64 {
	if len(h.cum) == 0 {
		return 0
	}
	return h.cum[len(h.cum)-1]
}

// Infinite is the number of rows at +Inf.
func (h Hist) Infinite() uint64 {
	if n := len(h.bins); n > 0 && h.bins[n-1].Bin == InfBin {
		return h.bins[n-1].Count
	}
	return 0
}

// Bins returns a copy of the non-empty bins in ascending order.
func (h Hist) Bins() []Bin { return append([]Bin(nil), h.bins...) }
