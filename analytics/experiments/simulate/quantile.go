package simulate

import (
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// hists are the histograms of an arm's first screens until now, by hash bucket of units, as roll-ups keep them.
func (a *arm) hists(until int) []stats.BucketHist {
	out := make([]stats.BucketHist, clusters)
	for i := range out {
		out[i].Bins = map[int32]uint64{}
	}
	for d := range until {
		for i := range a.byDay[d] {
			s := &a.byDay[d][i]
			h := &out[a.bucket[s.unit]]
			if math.IsInf(s.firstMs, 1) {
				h.Inf++
			} else {
				h.Bins[loghist.BinOf(s.firstMs)]++
			}
		}
	}
	return out
}

// ranked is scratch for quantiles of an arm's first screens.
type ranked struct {
	values []float64
	rows   []stats.Totals
}

// p90 of the first screen over the planned days with sessions as units, as if they were independent: the value is right, its
// variance is not.
func (q *ranked) p90(a *arm) (stats.ClusterQuantile, error) {
	const p = 0.9
	q.values, q.rows = q.values[:0], q.rows[:0]
	for d := range days {
		for i := range a.byDay[d] {
			q.values = append(q.values, a.byDay[d][i].firstMs)
		}
	}
	slices.Sort(q.values)
	at := q.values[loghist.CeilRank(uint64(len(q.values)), p)-1]
	above := int64(0)
	for _, v := range q.values {
		row := stats.Totals{stats.Den: 1}
		if v <= at {
			row[stats.Num] = 1
		} else {
			above++
		}
		q.rows = append(q.rows, row)
	}
	return stats.QuantileFromRanks(stats.RankCounts{Ranks: stats.Of(q.rows), UnitsAbove: above,
		At: func(rank uint64) (float64, error) { return q.values[rank-1], nil }}, p, alpha)
}
