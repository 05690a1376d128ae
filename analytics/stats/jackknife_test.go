package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// Over the same buckets the jackknife, the delta method and the bootstrap agree
// on a ratio.
func TestJackknifeAgreesWithDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 1))
	buckets := make([]Totals, 200)
	for _, u := range draw(r, 6000, 0) {
		b := r.IntN(len(buckets))
		buckets[b][Num] += u[Num]
		buckets[b][Den] += u[Den]
	}
	j, err := JackknifeRatio(buckets)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Ratio(Of(buckets))
	if err != nil {
		t.Fatal(err)
	}
	near(t, "value", j.Value, d.Value, 0, 1e-12)
	near(t, "se", j.SE(), d.SE(), 0, 0.02)
	b, err := BootstrapRatio(buckets, 2000, 0.05, 7)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "bootstrap se", b.SE, d.SE(), 0, 0.08)
	near(t, "bootstrap interval", b.Upper-b.Lower, 2*z95*d.SE(), 0, 0.1)
	again, err := BootstrapRatio(buckets, 2000, 0.05, 7)
	if err != nil || again != b {
		t.Errorf("the same seed gave %+v and %+v (%v)", b, again, err)
	}
}

// Delete-a-group works for a quantile read from merged histograms.
func TestJackknifeQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 1))
	buckets := make([]BucketHist, 50)
	for i := range buckets {
		buckets[i].Bins = map[int32]uint64{}
	}
	for range 20_000 {
		buckets[r.IntN(50)].Bins[loghist.BinOf(800*math.Exp(0.5*r.NormFloat64()))]++
	}
	q, err := QuantileFromBuckets(buckets, 0.9, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	e, err := q.Estimate()
	if err != nil {
		t.Fatal(err)
	}
	j, err := Jackknife(len(buckets), func(without int) (float64, error) {
		all := map[int32]uint64{}
		for i, b := range buckets {
			if i != without {
				loghist.Merge(all, b.Bins)
			}
		}
		h, err := loghist.New(all, 0)
		if err != nil {
			return 0, err
		}
		return h.Quantile(0.9)
	})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "value", j.Value, e.Value, 0, 1e-12)
	near(t, "se", j.SE(), e.SE(), 0, 0.35)
}

func TestJackknifeDegenerate(t *testing.T) {
	for name, c := range map[string]struct {
		buckets []Totals
		wants   Reason
	}{
		"none":           {nil, EmptyArm},
		"one":            {[]Totals{{1, 2}}, TooFewUnits},
		"no denominator": {[]Totals{{1, 0}, {2, 0}}, ZeroDenominator},
		"all in one":     {[]Totals{{1, 5}, {0, 0}}, ZeroDenominator},
		"NaN":            {[]Totals{{math.NaN(), 5}, {1, 5}}, NotFinite},
	} {
		if _, err := JackknifeRatio(c.buckets); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	ok := []Totals{{1, 5}, {2, 5}, {3, 7}}
	for name, c := range map[string]struct {
		units []Totals
		reps  int
		alpha float64
		wants Reason
	}{
		"no units":      {nil, 100, 0.05, EmptyArm},
		"one unit":      {ok[:1], 100, 0.05, TooFewUnits},
		"same ratio":    {[]Totals{{1, 5}, {2, 10}}, 100, 0.05, ZeroVariance},
		"no replicates": {ok, 0, 0.05, InvalidParameter},
		"alpha":         {ok, 100, 1.5, InvalidAlpha},
		"denominators":  {[]Totals{{1, 5}, {2, 0}}, 1000, 0.05, ZeroDenominator},
	} {
		if _, err := BootstrapRatio(c.units, c.reps, c.alpha, 1); !isReason(err, c.wants) {
			t.Errorf("bootstrap, %s: %v, want %s", name, err, c.wants)
		}
	}
}

func TestWinsorize(t *testing.T) {
	a, b := make([]float64, 500), make([]float64, 500)
	for i := range a {
		a[i], b[i] = float64(i), float64(i)
	}
	b[3] = 1e6
	limit, err := WinsorCap(a, b, 0.999)
	if err != nil {
		t.Fatal(err)
	}
	if limit < 499 || limit > 1e6 {
		t.Errorf("cap %v", limit)
	}
	capped, n := Winsorize(b, limit)
	if n != 1 || capped[3] != limit || b[3] != 1e6 || capped[4] != 4 {
		t.Errorf("%d capped, [3] = %v", n, capped[3])
	}
	share, err := TopShare(b)
	if err != nil {
		t.Fatal(err)
	}
	if share < 0.88 || share > 0.92 {
		t.Errorf("the largest 1%% hold %v", share)
	}
	for name, err := range map[string]error{
		"level":      second(WinsorCap(a, b, 1)),
		"no units":   second(WinsorCap(nil, nil, 0.9)),
		"NaN":        second(WinsorCap([]float64{math.NaN()}, nil, 0.9)),
		"top none":   second(TopShare(nil)),
		"top zero":   second(TopShare([]float64{0, 0})),
		"top signed": second(TopShare([]float64{-1, 3})),
	} {
		if _, ok := ReasonOf(err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
