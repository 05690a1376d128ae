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

// QuantileFromBuckets is the p-quantile of one arm from log histograms per hash
// bucket, the buckets being the clusters. Rank counts are taken at the upper
// edge of the bin that holds the quantile, where they are exact. Undefined
// (CollapsedQuantileBounds) when both bounds fall into one bin: two percent
// bins cannot resolve such an interval.
func QuantileFromBuckets(buckets []BucketHist, p, alpha float64) (ClusterQuantile, error) {
	if err := probability(p, InvalidParameter, "quantile level"); err != nil {
		return ClusterQuantile{}, err
	}
	total := map[int32]uint64{}
	var inf uint64
	hists := make([]loghist.Hist, len(buckets))
	for i, b := range buckets {
		var err error
		if hists[i], err = loghist.New(b.Bins, b.Inf); err != nil {
			return ClusterQuantile{}, histError(err)
		}
		loghist.Merge(total, b.Bins)
		inf += b.Inf
	}
	all, err := loghist.New(total, inf)
	if err != nil {
		return ClusterQuantile{}, histError(err)
	}
	if all.Total() == 0 {
		return ClusterQuantile{}, undefined(EmptyArm, "no rows")
	}
	at, err := all.BinAtRank(loghist.CeilRank(all.Total(), p))
	if err != nil {
		return ClusterQuantile{}, histError(err)
	}
	if at == loghist.InfBin {
		at-- // as in QuantileClustered: count the rows that happened at all
	}
	var m Moments
	for _, h := range hists {
		m.Add(Totals{Num: float64(h.CountThrough(at)), Den: float64(h.Total())})
	}
	q, err := QuantileFromRanks(RankCounts{Ranks: m, UnitsAbove: -1, At: all.AtRank}, p, alpha)
	if err != nil {
		return ClusterQuantile{}, err
	}
	lo, err := all.BinAtRank(uint64(q.LowerRank))
	if err != nil {
		return ClusterQuantile{}, histError(err)
	}
	hi, err := all.BinAtRank(uint64(q.UpperRank))
	if err != nil {
		return ClusterQuantile{}, histError(err)
	}
	if lo == hi {
		return ClusterQuantile{}, undefined(CollapsedQuantileBounds, "both bounds lie in histogram bin %d", lo)
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
