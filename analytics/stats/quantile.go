package stats

import (
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// minUnitsAbove is how many distinct units must have a row above a quantile
// before its interval should be trusted: the tail must not be one bad evening
// of a few viewers.
const minUnitsAbove = 20

// RowsNeeded is the number of rows a quantile needs before its interval exists:
// more than z2 max(p/(1-p), (1-p)/p). About 381 for p99 at alpha 0.05.
func RowsNeeded(p, alpha float64) (float64, error) {
	if err := first(probability(p, InvalidParameter, "quantile level"), probability(alpha, InvalidAlpha, "alpha")); err != nil {
		return 0, err
	}
	z := normalQuantileSF(alpha / 2)
	return z * z * math.Max(p/(1-p), (1-p)/p), nil
}

// OrderInterval is an interval between two order statistics of one arm. Ranks
// count from 1; rank 0 stands for -Inf and rank n+1 for +Inf.
type OrderInterval struct {
	Quantile             float64 // x of rank ceil(n p)
	LowerRank, UpperRank int64
	Lower, Upper         float64
	Coverage             float64 // exact probability that it holds the quantile
}

// QuantileExact is the exact binomial interval for the p-quantile of
// independent rows in ascending order (+Inf allowed: failed starts). Use it
// only for one row per unit. Bounds may be infinite when rows are few;
// undefined when both bounds are the same value.
func QuantileExact(sorted []float64, p, alpha float64) (OrderInterval, error) {
	if err := first(probability(p, InvalidParameter, "quantile level"), probability(alpha, InvalidAlpha, "alpha"), ascending(sorted)); err != nil {
		return OrderInterval{}, err
	}
	n := int64(len(sorted))
	smallest := func(target float64) int64 { // smallest k with P(Bin <= k) >= target
		lo, hi := int64(-1), n
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; binomialCDF(mid, n, p) >= target {
				hi = mid
			} else {
				lo = mid
			}
		}
		return hi
	}
	k, m := smallest(alpha/2), smallest(1-alpha/2)
	iv := OrderInterval{
		Quantile:  sorted[loghist.CeilRank(uint64(n), p)-1],
		LowerRank: k, UpperRank: m + 1, Lower: math.Inf(-1), Upper: math.Inf(1),
		Coverage: binomialCDF(m, n, p) - binomialCDF(k-1, n, p),
	}
	if k >= 1 {
		iv.Lower = sorted[k-1]
	}
	if m+1 <= n {
		iv.Upper = sorted[m]
	}
	if iv.Lower == iv.Upper {
		return OrderInterval{}, undefined(CollapsedQuantileBounds, "both bounds are %v", iv.Lower)
	}
	return iv, nil
}

func ascending(sorted []float64) error {
	if len(sorted) == 0 {
		return undefined(EmptyArm, "no rows")
	}
	for i, x := range sorted {
		if math.IsNaN(x) || math.IsInf(x, -1) {
			return undefined(NotFinite, "row %d is %v", i, x)
		}
		if i > 0 && x < sorted[i-1] {
			return undefined(InvalidParameter, "rows are not in ascending order at %d", i)
		}
	}
	return nil
}

// ClusterQuantile is a quantile of one arm when units, not rows, were
// randomized.
type ClusterQuantile struct {
	Quantile             float64 // x of rank ceil(n p); +Inf when that many rows never happened
	F                    float64 // share of rows at or below Quantile
	VarF, VarFIID        float64 // variance of F over units, and if rows were independent
	DesignEffect         float64 // VarF/VarFIID
	LowerRank, UpperRank int64
	Lower, Upper         float64 // outer interval, needs no density
	IIDLower, IIDUpper   float64 // interval at p -+ z95 sqrt(p(1-p)/n), for the variance
	Units                int64
	UnitsAbove           int64 // distinct units with a row above Quantile; -1 when not known
	// Resolution is the width of the histogram bin that holds Quantile; 0 when
	// values are exact. The quantile is known to half of it.
	Resolution float64
}

// Coarse reports that the histogram's error (half of Resolution) exceeds a
// quarter of the interval's half width: more data will hardly narrow it, finer
// bins would.
func (q ClusterQuantile) Coarse() bool {
	return q.Resolution > 0 && q.Resolution > (q.Upper-q.Lower)/4
}

// FewUnitsAbove reports that fewer than 20 units lie above the quantile: the
// tail is a few units' story, say so instead of deciding on it.
func (q ClusterQuantile) FewUnitsAbove() bool {
	return q.UnitsAbove >= 0 && q.UnitsAbove < minUnitsAbove
}

// Estimate turns the quantile into a value with variance by post-adjustment,
// ((U-L)/(2 z95))2 x design effect with U, L the independent-rows interval, for
// differences, lifts and confidence sequences. A value somewhere in a bin adds
// Resolution2/12, so effects below the resolution are never claimed. Degrees of
// freedom are those of units. Undefined when a bound is infinite or both are equal.
func (q ClusterQuantile) Estimate() (Estimate, error) {
	if math.IsInf(q.Quantile, 0) || math.IsInf(q.IIDUpper, 0) {
		return Estimate{}, undefined(TooFewUnitsForQuantile, "too many rows never happened: the quantile or its bound is infinite")
	}
	if !(q.IIDUpper > q.IIDLower) {
		return Estimate{}, undefined(CollapsedQuantileBounds, "both bounds are %v", q.IIDLower)
	}
	w := (q.IIDUpper - q.IIDLower) / (2 * z95)
	return Estimate{Value: q.Quantile, Var: w*w*q.DesignEffect + q.Resolution*q.Resolution/12, Units: float64(q.Units)}, nil
}

const z95 = 1.959963984540054

// UnitRow is one row with its randomization unit.
type UnitRow struct {
	Unit  string
	Value float64 // +Inf for an attempt that never succeeded
}

// QuantileClustered is the p-quantile of one arm from its rows, variance over
// units by the delta method on rank counts. Needs two units and RowsNeeded.
func QuantileClustered(rows []UnitRow, p, alpha float64) (ClusterQuantile, error) {
	if len(rows) == 0 {
		return ClusterQuantile{}, undefined(EmptyArm, "no rows")
	}
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = r.Value
	}
	slices.Sort(values)
	if err := first(probability(p, InvalidParameter, "quantile level"), ascending(values)); err != nil {
		return ClusterQuantile{}, err
	}
	n := uint64(len(values))
	q := values[loghist.CeilRank(n, p)-1]
	index := map[string]int{}
	var units []Totals
	for _, r := range rows {
		i, ok := index[r.Unit]
		if !ok {
			i = len(units)
			index[r.Unit] = i
			units = append(units, Totals{})
		}
		units[i][Den]++
		// When the quantile itself is +Inf, the share of rows that happened at
		// all is what varies over units.
		if r.Value <= q && !math.IsInf(r.Value, 1) {
			units[i][Num]++
		}
	}
	above := int64(0)
	for _, u := range units {
		if u[Num] < u[Den] {
			above++
		}
	}
	return QuantileFromRanks(RankCounts{
		Ranks: Of(units), UnitsAbove: above,
		At: func(rank uint64) (float64, error) { return values[rank-1], nil },
	}, p, alpha)
}

// RankCounts is an arm for a quantile: per unit (or per hash bucket) the rows
// at or below the point estimate (Num) and all rows (Den), and the way from a
// rank to a value.
type RankCounts struct {
	Ranks      Moments
	UnitsAbove int64                              // -1 when not known
	At         func(rank uint64) (float64, error) // value of a 1-based rank
}

// QuantileFromRanks is QuantileClustered over rank counts, which a query or a
// set of bucket histograms supplies.
func QuantileFromRanks(in RankCounts, p, alpha float64) (ClusterQuantile, error) {
	need, err := RowsNeeded(p, alpha)
	if err != nil {
		return ClusterQuantile{}, err
	}
	f, err := Ratio(in.Ranks)
	if err != nil {
		return ClusterQuantile{}, err
	}
	n := math.Round(in.Ranks.Sum(Den))
	switch {
	case f.Value < 0 || f.Value > 1+1e-12:
		return ClusterQuantile{}, undefined(InconsistentSums, "share of rows below the quantile is %v", f.Value)
	case !(n > need):
		return ClusterQuantile{}, undefined(TooFewUnitsForQuantile, "%.0f rows, needs more than %.0f", n, need)
	case f.Var == 0:
		return ClusterQuantile{}, undefined(ZeroVariance, "every unit has the same share of rows below the quantile")
	}
	z := normalQuantileSF(alpha / 2)
	iid := p * (1 - p) / n
	q := ClusterQuantile{F: f.Value, VarF: f.Var, VarFIID: iid, DesignEffect: f.Var / iid,
		Units: in.Ranks.Units, UnitsAbove: in.UnitsAbove}
	rank := func(x float64) int64 { return int64(math.Min(math.Max(x, 1), n)) }
	q.LowerRank = rank(math.Floor(n * (p - z*math.Sqrt(f.Var))))
	q.UpperRank = rank(math.Ceil(n * (p + z*math.Sqrt(f.Var))))
	iidHalf := z95 * math.Sqrt(iid)
	for _, x := range []struct {
		to   *float64
		rank int64
	}{
		{&q.Quantile, int64(loghist.CeilRank(uint64(n), p))},
		{&q.Lower, q.LowerRank}, {&q.Upper, q.UpperRank},
		{&q.IIDLower, rank(math.Floor(n * (p - iidHalf)))}, {&q.IIDUpper, rank(math.Ceil(n * (p + iidHalf)))},
	} {
		if *x.to, err = in.At(uint64(x.rank)); err != nil {
			return ClusterQuantile{}, err
		}
	}
	if q.Lower == q.Upper {
		return ClusterQuantile{}, undefined(CollapsedQuantileBounds, "both bounds are %v", q.Lower)
	}
	return q, nil
}

// QuantileBounds is an arm whose quantile and bounds were computed elsewhere (a
// sketch in the database): Lower and Upper are the quantiles at p -+
// z95 sqrt(p(1-p)/AtRows). Ranks, where it has units, makes the result
// cluster-valid: rows at or below Quantile (Num) and rows (Den) per unit.
type QuantileBounds struct {
	Rows, AtRows           float64 // rows of the arm; rows for which the bounds were taken
	Level                  float64
	Quantile, Lower, Upper float64
	Ranks                  Moments
	Clustered              bool
	// FloorPerRow is a least variance per row in squared units of the metric,
	// applied from 100 rows; 0 for none. Some engines use 1e-5.
	FloorPerRow float64
}

// Estimate is the quantile with variance by post-adjustment: (AtRows/Rows)
// ((Rows-1)/Rows) ((Upper-Lower)/(2 z95))2 x design effect. Units is the number
// of rows, or of units when Clustered.
func (b QuantileBounds) Estimate() (Estimate, error) {
	if err := first(finite(b.Rows, b.AtRows, b.Quantile, b.Lower, b.Upper), positiveCount(b.Rows), positive(b.AtRows, "rows of the bounds")); err != nil {
		return Estimate{}, err
	}
	need, err := RowsNeeded(b.Level, 0.05)
	switch {
	case err != nil:
		return Estimate{}, err
	case !(b.Rows > need):
		return Estimate{}, undefined(TooFewUnitsForQuantile, "%v rows, needs more than %.0f", b.Rows, need)
	case b.Lower > b.Upper || b.Quantile < b.Lower || b.Quantile > b.Upper:
		return Estimate{}, undefined(InconsistentSums, "quantile %v with bounds %v and %v", b.Quantile, b.Lower, b.Upper)
	case b.Lower == b.Upper:
		return Estimate{}, undefined(CollapsedQuantileBounds, "both bounds are %v: the sketch is too coarse", b.Lower)
	}
	w := (b.Upper - b.Lower) / (2 * z95)
	e := Estimate{Value: b.Quantile, Var: b.AtRows / b.Rows * (b.Rows - 1) / b.Rows * w * w, Units: b.Rows}
	if b.Clustered {
		f, err := Ratio(b.Ranks)
		if err != nil {
			return Estimate{}, err
		}
		if f.Value < 0 || f.Value > 1+1e-12 {
			return Estimate{}, undefined(InconsistentSums, "share of rows below the quantile is %v", f.Value)
		}
		e.Var *= f.Var / (b.Level * (1 - b.Level) / b.Rows)
		e.Units = float64(b.Ranks.Units)
		if e.Var == 0 {
			return Estimate{}, undefined(ZeroVariance, "every unit has the same share of rows below the quantile")
		}
	}
	if b.Rows >= 100 {
		e.Var = math.Max(e.Var, b.FloorPerRow/b.Rows)
	}
	return e, nil
}

func positiveCount(n float64) error {
	switch {
	case n == 0:
		return undefined(EmptyArm, "no rows")
	case n < 0:
		return undefined(InvalidCount, "%v rows", n)
	}
	return nil
}
