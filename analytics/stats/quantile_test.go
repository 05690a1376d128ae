package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// viewers makes rows of first screen in ms: a viewer's network shifts all of
// them, a share fails.
func viewers(r *rand.Rand, n int, failed float64) []UnitRow {
	var rows []UnitRow
	for u := range n {
		base := 700 * math.Exp(0.4*r.NormFloat64())
		for range 1 + r.IntN(7) {
			v := base * math.Exp(0.4*r.NormFloat64())
			if r.Float64() < failed {
				v = math.Inf(1)
			}
			rows = append(rows, UnitRow{"v" + strconv.Itoa(u), v})
		}
	}
	return rows
}

// Rows, rank counts per unit and log histograms per bucket tell the same story:
// quantile within a bin, standard errors alike when every unit is a bucket.
func TestQuantileFromRowsAndHistogramsAgree(t *testing.T) {
	rows := viewers(rand.New(rand.NewPCG(1, 2)), 3000, 0.01)
	for _, p := range []float64{0.5, 0.9, 0.95} {
		exact, err := QuantileClustered(rows, p, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		bucket := map[string]int{}
		var buckets []BucketHist
		for _, row := range rows {
			i, ok := bucket[row.Unit]
			if !ok {
				i = len(buckets)
				bucket[row.Unit] = i
				buckets = append(buckets, BucketHist{Bins: map[int32]uint64{}})
			}
			if b := loghist.BinOf(row.Value); b == loghist.InfBin && i%2 == 0 {
				buckets[i].Inf++
			} else {
				buckets[i].Bins[b]++
			}
		}
		h, err := QuantileFromBuckets(buckets, p, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "quantile", h.Quantile, exact.Quantile, 0, 0.01)
		if h.Lower > exact.Lower || h.Upper < exact.Upper {
			t.Errorf("interval [%v, %v] from the histogram does not hold the exact one [%v, %v]", h.Lower, h.Upper, exact.Lower, exact.Upper)
		}
		near(t, "lower", h.Lower, exact.Lower, 0, 0.02)
		near(t, "upper", h.Upper, exact.Upper, 0, 0.02)
		near(t, "variance of F", h.VarF, exact.VarF, 0, 0.1)
		if exact.DesignEffect < 1.2 || exact.FewUnitsAbove() || h.FewUnitsAbove() {
			t.Errorf("design effect %v, units above %d", exact.DesignEffect, exact.UnitsAbove)
		}
		a, err := exact.Estimate()
		if err != nil {
			t.Fatal(err)
		}
		b, err := h.Estimate()
		if err != nil {
			t.Fatal(err)
		}
		near(t, "standard error", b.SE(), a.SE(), 0, 0.25)
	}
}

// The post-adjusted standard error matches a bootstrap over units.
func TestClusteredQuantileAgainstBootstrap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	rows := viewers(r, 800, 0)
	q, err := QuantileClustered(rows, 0.9, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	e, err := q.Estimate()
	if err != nil {
		t.Fatal(err)
	}
	byUnit := map[string][]float64{}
	var names []string
	for _, row := range rows {
		if byUnit[row.Unit] == nil {
			names = append(names, row.Unit)
		}
		byUnit[row.Unit] = append(byUnit[row.Unit], row.Value)
	}
	var m Moments
	for range 200 {
		var xs []float64
		for range names {
			xs = append(xs, byUnit[names[r.IntN(len(names))]]...)
		}
		slices.Sort(xs)
		m.Add(Totals{Num: xs[loghist.CeilRank(uint64(len(xs)), 0.9)-1]})
	}
	near(t, "standard error", e.SE(), math.Sqrt(m.Cov(Num, Num)), 0, 0.25)
}

// More failed starts than 1-p make the quantile infinite, which is an answer;
// a difference of infinite quantiles is not.
func TestFailedStartsAreInfinite(t *testing.T) {
	rows := viewers(rand.New(rand.NewPCG(5, 6)), 500, 0.2)
	if _, err := QuantileClustered(rows, 0.9, 0.05); !isReason(err, CollapsedQuantileBounds) {
		t.Errorf("p90 with 20%% failed starts: %v", err)
	}
	q, err := QuantileClustered(rows, 0.81, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	if !math.IsInf(q.Quantile, 1) || !math.IsInf(q.Upper, 1) || math.IsInf(q.Lower, 0) {
		t.Errorf("p81 with 20%% failed starts: %v in [%v, %v]", q.Quantile, q.Lower, q.Upper)
	}
	if _, err := q.Estimate(); !isReason(err, TooFewUnitsForQuantile) {
		t.Errorf("variance of a quantile with an infinite bound: %v", err)
	}
	q, err = QuantileClustered(rows, 0.5, 0.05)
	if err != nil || math.IsInf(q.Upper, 1) {
		t.Errorf("p50: %+v, %v", q, err)
	}
}

// Exact interval: the stated coverage holds for every level, and ranks at the
// border give infinite bounds.
func TestExactQuantile(t *testing.T) {
	xs := make([]float64, 40)
	for i := range xs {
		xs[i] = float64(i + 1)
	}
	for _, p := range []float64{0.1, 0.5, 0.75, 0.9} {
		q, err := QuantileExact(xs, p, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		if q.Coverage < 0.95 {
			t.Errorf("p%v: coverage %v", p, q.Coverage)
		}
	}
	q, err := QuantileExact(xs[:5], 0.9, 0.05)
	if err != nil || !math.IsInf(q.Upper, 1) || q.UpperRank != 6 || q.Lower != 3 {
		t.Errorf("p90 of 5 rows: %+v, %v", q, err)
	}
	q, err = QuantileExact(xs[:3], 0.5, 0.05)
	if err != nil || !math.IsInf(q.Lower, -1) || q.LowerRank != 0 {
		t.Errorf("p50 of 3 rows: %+v, %v", q, err)
	}
}

func TestQuantileDegenerate(t *testing.T) {
	same := make([]UnitRow, 100)
	for i := range same {
		same[i] = UnitRow{strconv.Itoa(i % 10), 5}
	}
	good := viewers(rand.New(rand.NewPCG(7, 8)), 200, 0)
	one := slices.Clone(good)
	for i := range one {
		one[i].Unit = "v"
	}
	nan := slices.Clone(good)
	nan[7].Value = math.NaN()
	for name, c := range map[string]struct {
		rows  []UnitRow
		p, a  float64
		wants Reason
	}{
		"no rows":        {nil, 0.5, 0.05, EmptyArm},
		"one unit":       {one, 0.5, 0.05, TooFewUnits},
		"too few rows":   {good[:30], 0.95, 0.05, TooFewUnitsForQuantile},
		"all the same":   {same, 0.5, 0.05, ZeroVariance},
		"NaN":            {nan, 0.5, 0.05, NotFinite},
		"level 0":        {good, 0, 0.05, InvalidParameter},
		"level 1":        {good, 1, 0.05, InvalidParameter},
		"alpha 0":        {good, 0.5, 0, InvalidAlpha},
		"level NaN":      {good, math.NaN(), 0.05, InvalidParameter},
		"rows above p95": {good, 0.999, 0.05, TooFewUnitsForQuantile},
	} {
		if _, err := QuantileClustered(c.rows, c.p, c.a); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	if _, err := QuantileExact([]float64{2, 1}, 0.5, 0.05); !isReason(err, InvalidParameter) {
		t.Errorf("unsorted rows: %v", err)
	}
	if _, err := QuantileExact([]float64{4, 4, 4, 4, 4, 4, 4, 4, 4}, 0.5, 0.05); !isReason(err, CollapsedQuantileBounds) {
		t.Errorf("ties: %v", err)
	}
	coarse := []BucketHist{{Bins: map[int32]uint64{300: 500, 310: 3}}, {Bins: map[int32]uint64{300: 400, 290: 2}}, {Bins: map[int32]uint64{300: 450, 320: 9}}}
	q, err := QuantileFromBuckets(coarse, 0.5, 0.05)
	if lo, hi := loghist.Bounds(300); err != nil || !q.Coarse() || q.Lower != lo || q.Upper != hi {
		t.Errorf("an interval inside one bin: %+v, %v", q, err)
	}
	if e, err := q.Estimate(); err != nil || e.SE() < q.Resolution/math.Sqrt(12) {
		t.Errorf("more exact than its bin: %+v, %v", e, err)
	}
	if _, err := QuantileFromBuckets([]BucketHist{{Bins: map[int32]uint64{-4: 1}}}, 0.5, 0.05); !isReason(err, InvalidParameter) {
		t.Errorf("bin that does not exist: %v", err)
	}
	if _, err := QuantileFromBuckets([]BucketHist{{}, {}}, 0.5, 0.05); !isReason(err, EmptyArm) {
		t.Errorf("empty buckets: %v", err)
	}
	if _, err := QuantileFromBuckets([]BucketHist{{Inf: math.MaxUint64}, {Inf: 1}}, 0.5, 0.05); err == nil {
		t.Error("overflowing buckets accepted")
	}
}

func TestQuantileBounds(t *testing.T) {
	ok := QuantileBounds{Rows: 10_000, AtRows: 10_000, Level: 0.9, Quantile: 1500, Lower: 1480, Upper: 1530}
	e, err := ok.Estimate()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "se", e.SE(), 50/(2*z95), 0, 1e-4)
	for name, c := range map[string]struct {
		change func(*QuantileBounds)
		wants  Reason
	}{
		"no rows":           {func(b *QuantileBounds) { b.Rows = 0 }, EmptyArm},
		"negative rows":     {func(b *QuantileBounds) { b.Rows = -4 }, InvalidCount},
		"few rows":          {func(b *QuantileBounds) { b.Rows = 20 }, TooFewUnitsForQuantile},
		"equal bounds":      {func(b *QuantileBounds) { b.Lower, b.Quantile, b.Upper = 1500, 1500, 1500 }, CollapsedQuantileBounds},
		"crossed bounds":    {func(b *QuantileBounds) { b.Lower, b.Upper = b.Upper, b.Lower }, InconsistentSums},
		"quantile outside":  {func(b *QuantileBounds) { b.Quantile = 2000 }, InconsistentSums},
		"NaN":               {func(b *QuantileBounds) { b.Upper = math.NaN() }, NotFinite},
		"level":             {func(b *QuantileBounds) { b.Level = 1 }, InvalidParameter},
		"clusters missing":  {func(b *QuantileBounds) { b.Clustered = true }, EmptyArm},
		"one cluster":       {func(b *QuantileBounds) { b.Clustered = true; b.Ranks = Of([]Totals{{9, 10}}) }, TooFewUnits},
		"clusters all same": {func(b *QuantileBounds) { b.Clustered = true; b.Ranks = Of([]Totals{{9, 10}, {9, 10}}) }, ZeroVariance},
		"more below than all": {func(b *QuantileBounds) { b.Clustered = true; b.Ranks = Of([]Totals{{12, 10}, {13, 10}}) },
			InconsistentSums},
	} {
		b := ok
		c.change(&b)
		if _, err := b.Estimate(); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
}
