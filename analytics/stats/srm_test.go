package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSRMLeavesZeroWeightArmsOut(t *testing.T) {
	a, err := SRM([]int64{500, 0, 540}, []float64{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := SRM([]int64{500, 540}, []float64{3, 3})
	if err != nil {
		t.Fatal(err)
	}
	if a != b || a.DF != 1 {
		t.Errorf("%+v, without the empty arm %+v", a, b)
	}
}

func TestSRMDegenerate(t *testing.T) {
	for name, c := range map[string]struct {
		observed []int64
		weights  []float64
		wants    Reason
	}{
		"no units":             {[]int64{0, 0}, []float64{1, 1}, EmptyArm},
		"nothing":              {nil, nil, InvalidParameter},
		"one arm":              {[]int64{5}, []float64{1}, TooFewUnits},
		"one arm with weight":  {[]int64{5, 0}, []float64{1, 0}, TooFewUnits},
		"weights sum to 0":     {[]int64{0, 0}, []float64{0, 0}, InvalidParameter},
		"lengths":              {[]int64{5, 5}, []float64{1}, InvalidParameter},
		"negative count":       {[]int64{-5, 5}, []float64{1, 1}, InvalidCount},
		"negative weight":      {[]int64{5, 5}, []float64{2, -1}, InvalidParameter},
		"NaN weight":           {[]int64{5, 5}, []float64{1, math.NaN()}, NotFinite},
		"units without weight": {[]int64{5, 5, 1}, []float64{1, 1, 0}, UsersInZeroWeightArm},
	} {
		if _, err := SRM(c.observed, c.weights); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
		if c.wants == EmptyArm {
			continue // no units yet is a start for the sequential test
		}
		if _, err := SequentialSRM(c.observed, c.weights, 1000); !isReason(err, c.wants) {
			t.Errorf("sequential, %s: %v, want %s", name, err, c.wants)
		}
	}
	m := SRMMonitor{Weights: []float64{1, 1}}
	if _, p, err := m.Observe([]int64{0, 0}); err != nil || p != 1 {
		t.Errorf("before any unit: p %v, %v", p, err)
	}
	if _, _, err := m.Observe([]int64{3, -1}); !isReason(err, InvalidCount) {
		t.Errorf("units that vanish: %v", err)
	}
	if _, _, err := m.Observe([]int64{3}); !isReason(err, InvalidParameter) {
		t.Errorf("an arm missing: %v", err)
	}
}

// Hourly looks: a fair split is hardly ever called broken, a 51/49 split found.
// A failed call must not have changed the state.
func TestSequentialSRMUnderPeeking(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 1))
	run := func(share float64) float64 {
		m := SRMMonitor{Weights: []float64{0.5, 0.5}}
		p := 1.0
		for range 150 {
			var a int64
			for range 400 {
				if r.Float64() < share {
					a++
				}
			}
			if _, _, err := m.Observe([]int64{-1, 3}); err == nil {
				t.Fatal("negative increment accepted")
			}
			_, now, err := m.Observe([]int64{a, 400 - a})
			if err != nil {
				t.Fatal(err)
			}
			if now > p {
				t.Fatalf("p rose from %v to %v", p, now)
			}
			p = now
		}
		return p
	}
	alarms, found := 0, 0
	for range 30 {
		if run(0.5) < 0.01 {
			alarms++
		}
		if run(0.51) < 0.01 {
			found++
		}
	}
	if alarms > 1 || found < 25 {
		t.Errorf("%d false alarms, %d of 30 found", alarms, found)
	}
}

// The Bayes factor of counts does not depend on the batches they came in, and
// for two arms equals the beta-binomial computed by recursion.
func TestSequentialSRMByRecursion(t *testing.T) {
	counts := []int64{37, 61}
	got, err := SequentialSRM(counts, []float64{0.3, 0.7}, 50)
	if err != nil {
		t.Fatal(err)
	}
	want, a, b := 0.0, 15.0, 35.0
	for i := range counts[0] {
		want += math.Log((a+float64(i))/(a+b+float64(i))) - math.Log(0.3)
	}
	for i := range counts[1] {
		want += math.Log((b+float64(i))/(a+b+float64(counts[0]+i))) - math.Log(0.7)
	}
	near(t, "ln BF", got, want, 1e-10, 0)
}

// The exact count test against enumeration of all outcomes.
func TestCountTest(t *testing.T) {
	for _, n := range []int64{1, 7, 40} {
		for _, share := range []float64{0.5, 0.2, 0.9} {
			pmf := make([]float64, n+1)
			for k := range pmf {
				pmf[k] = binomialCDF(int64(k), n, share) - binomialCDF(int64(k)-1, n, share)
			}
			for x := range pmf {
				want := 0.0
				for _, p := range pmf {
					if p <= pmf[x]*(1+1e-6) {
						want += p
					}
				}
				got, err := CountTest(int64(x), n, share)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "p", got, math.Min(1, want), 1e-9, 1e-6)
			}
		}
	}
	for name, c := range map[string]struct {
		x, n  int64
		share float64
		wants Reason
	}{"none": {0, 0, 0.5, EmptyArm}, "more than all": {3, 2, 0.5, InconsistentSums}, "share": {1, 2, 1, InvalidParameter}, "negative": {-1, 2, 0.5, InvalidCount}} {
		if _, err := CountTest(c.x, c.n, c.share); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
}

// Adjusting keeps the order of p-values, never lowers one, and BH <= BY,
// BH <= Holm <= Bonferroni; the input order does not matter.
func TestAdjustPProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(42, 1))
	for range 200 {
		ps := make([]float64, 1+r.IntN(12))
		for i := range ps {
			ps[i] = math.Round(r.Float64()*r.Float64()*100) / 100 // ties, zeros, ones
		}
		f, err := AdjustP(ps)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range ps {
			if f.BH[i] < p || f.BH[i] > f.Holm[i]+1e-12 || f.Holm[i] > f.Bonferroni[i]+1e-12 || f.BH[i] > f.BY[i] || f.BY[i] > 1 {
				t.Fatalf("%v: %+v", ps, f)
			}
			for j, q := range ps {
				if p < q && (f.Holm[i] > f.Holm[j] || f.BH[i] > f.BH[j]) {
					t.Fatalf("order lost: %v: %+v", ps, f)
				}
			}
		}
		rev := slices.Clone(ps)
		slices.Reverse(rev)
		g, _ := AdjustP(rev)
		slices.Reverse(g.Holm)
		slices.Reverse(g.BH)
		if !slices.Equal(g.Holm, f.Holm) || !slices.Equal(g.BH, f.BH) {
			t.Fatalf("depends on the order: %v", ps)
		}
	}
	for _, ps := range [][]float64{nil, {0.1, math.NaN()}, {-0.1}, {1.1}, {math.Inf(1)}} {
		if _, err := AdjustP(ps); err == nil {
			t.Errorf("%v accepted", ps)
		}
	}
}

func TestCombinePhases(t *testing.T) {
	e, v, err := Combine([]Phase{{1, 0.04, 300}, {3, 0.01, 100}})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "effect", e, 1.5, 0, 1e-12)
	near(t, "variance", v, 0.75*0.75*0.04+0.25*0.25*0.01, 0, 1e-12)
	for name, ps := range map[string][]Phase{"none": nil, "no weight": {{1, 1, 0}}, "negative": {{1, -1, 1}}, "NaN": {{math.NaN(), 1, 1}}} {
		if _, _, err := Combine(ps); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

// SequentialSplit is a p-value at one look, and finds a split that is far from even among few units.
func TestSequentialSplit(t *testing.T) {
	const n = 60
	for _, alpha := range []float64{0.2, 0.05, 0.001} {
		below, p := 0.0, math.Pow(2, -n) // probability of k heads
		for k := range int64(n + 1) {
			got, err := SequentialSplit([]int64{k, n - k}, []float64{1, 1})
			if err != nil {
				t.Fatal(err)
			}
			if got < alpha {
				below += p
			}
			p *= float64(n-k) / float64(k+1)
		}
		if below > alpha || below == 0 {
			t.Errorf("p is below %v in %v of all outcomes", alpha, below)
		}
	}
	for _, c := range []struct {
		counts []int64
		found  bool
	}{{[]int64{360, 240}, true}, {[]int64{330, 270}, false}, {[]int64{50_800, 49_200}, true}, {[]int64{50_100, 49_900}, false}, {[]int64{35, 5}, true}} {
		p, err := SequentialSplit(c.counts, []float64{1, 1})
		if err != nil || p < SRMThreshold != c.found {
			t.Errorf("%v: p = %v, %v, want it found: %v", c.counts, p, err, c.found)
		}
	}
	if _, err := SequentialSplit([]int64{1}, []float64{1, 1}); err == nil {
		t.Error("one count for two weights was accepted")
	}
}
