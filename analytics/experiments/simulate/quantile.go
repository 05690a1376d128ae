package simulate

import (
	"slices"

	"github.com/spillway-live/spillway/analytics/stats"
)

// ranked is scratch for quantiles of an arm's first screens.
type ranked struct {
	values []float64
	units  []stats.Totals
}

// p90 of the first screen over all days, with viewers as units, or with sessions
// as units (naive), as if they were independent.
func (q *ranked) p90(a *arm, naive bool) (stats.ClusterQuantile, error) {
	const p = 0.9
	q.values = q.values[:0]
	for d := range a.byDay {
		for i := range a.byDay[d] {
			q.values = append(q.values, a.byDay[d][i].firstMs)
		}
	}
	slices.Sort(q.values)
	n := len(q.values)
	at := q.values[(n*9+9)/10-1]
	units := a.units
	if naive {
		units = n
	}
	q.units = zeroed(q.units, units)
	k := 0
	for d := range a.byDay {
		for i := range a.byDay[d] {
			s := &a.byDay[d][i]
			u := int(s.unit)
			if naive {
				u = k
				k++
			}
			q.units[u][stats.Den]++
			if s.firstMs <= at {
				q.units[u][stats.Num]++
			}
		}
	}
	s := stats.Sums{Units: int64(units)}
	above := int64(0)
	for i := range q.units {
		x, d := q.units[i][stats.Num], q.units[i][stats.Den]
		if x < d {
			above++
		}
		s.Sum[stats.Num] += x
		s.Sum[stats.Den] += d
		s.Product[stats.Num][stats.Num] += x * x
		s.Product[stats.Num][stats.Den] += x * d
		s.Product[stats.Den][stats.Den] += d * d
	}
	m, err := s.Moments()
	if err != nil {
		return stats.ClusterQuantile{}, err
	}
	return stats.QuantileFromRanks(stats.RankCounts{Ranks: m, UnitsAbove: above,
		At: func(rank uint64) (float64, error) { return q.values[rank-1], nil }}, p, alpha)
}
