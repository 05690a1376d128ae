package stats

import (
	"errors"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// BucketHist is the log histogram of one hash bucket of an arm: rows per bin,
// loghist.InfBin for attempts that never succeeded, and further such attempts
// in Inf. Empty buckets count as buckets.
type BucketHist struct {
	Bins map[int32]uint64
	Inf  uint64
}

// Buckets are the histograms of all buckets of one arm, ready to be asked for
// several quantiles. Safe for concurrent use.
type Buckets struct {
	each []loghist.Hist
	all  loghist.Hist
}

// NewBuckets checks and merges the histograms of one arm. Keys that are no bin
// are InvalidParameter, counts beyond 64 bits InvalidCount.
func NewBuckets(buckets []BucketHist) (*Buckets, error) {
	b := &Buckets{each: make([]loghist.Hist, len(buckets))}
	for i, h := range buckets {
		var err error
		if b.each[i], err = loghist.New(h.Bins, h.Inf); err != nil {
			return nil, histError(err)
		}
	}
	var err error
	if b.all, err = loghist.Sum(b.each); err != nil {
		return nil, histError(err)
	}
	return b, nil
}

// QuantileFromBuckets is NewBuckets and one Quantile.
func QuantileFromBuckets(buckets []BucketHist, p, alpha float64) (ClusterQuantile, error) {
	b, err := NewBuckets(buckets)
	if err != nil {
		return ClusterQuantile{}, err
	}
	return b.Quantile(p, alpha)
}

// Quantile is the p-quantile of the arm, the buckets being the clusters. Rank
// counts are taken at the upper edge of the bin that holds the quantile, where
// they are exact. What two percent bins cannot resolve is said, not hidden: the
// outer interval reaches to the edges of its bins, Resolution is the width of
// the quantile's bin, Estimate counts it as variance, and Coarse tells when it
// matters. UnitsAbove counts buckets: at least so many units lie above. Undefined (CollapsedQuantileBounds) when both bounds are +Inf.
func (b *Buckets) Quantile(p, alpha float64) (ClusterQuantile, error) {
	if err := probability(p, InvalidParameter, "quantile level"); err != nil {
		return ClusterQuantile{}, err
	}
	if b.all.Total() == 0 {
		return ClusterQuantile{}, undefined(EmptyArm, "no rows")
	}
	at, err := b.all.BinAtRank(loghist.CeilRank(b.all.Total(), p))
	if err != nil {
		return ClusterQuantile{}, histError(err)
	}
	through := at
	if at == loghist.InfBin {
		through-- // as in QuantileClustered: count the rows that happened at all
	}
	var m Moments
	above := int64(0)
	for _, h := range b.each {
		below, all := h.CountThrough(through), h.Total()
		m.Add(Totals{Num: float64(below), Den: float64(all)})
		if below < all {
			above++
		}
	}
	q, err := QuantileFromRanks(RankCounts{Ranks: m, UnitsAbove: above, At: b.all.AtRank}, p, alpha)
	if err != nil {
		return ClusterQuantile{}, err
	}
	for _, end := range []struct {
		rank int64
		set  func(lo, hi float64)
	}{{q.LowerRank, func(lo, _ float64) { q.Lower = lo }}, {q.UpperRank, func(_, hi float64) { q.Upper = hi }}} {
		bin, err := b.all.BinAtRank(uint64(end.rank))
		if err != nil {
			return ClusterQuantile{}, histError(err)
		}
		end.set(loghist.Bounds(bin))
	}
	if at != loghist.InfBin {
		lo, hi := loghist.Bounds(at)
		q.Resolution = hi - lo
	}
	return q, nil
}

// histError gives errors of package loghist their reason.
func histError(err error) error {
	r := InvalidParameter
	switch {
	case errors.Is(err, loghist.ErrEmpty):
		r = EmptyArm
	case errors.Is(err, loghist.ErrOverflow):
		r = InvalidCount
	}
	return undefined(r, "%v", err)
}
