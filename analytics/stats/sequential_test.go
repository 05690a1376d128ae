package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Critical values of the confidence sequence at alpha 0.05, by n/NStar, from
// published tables, checked against the authors' library confseq.
func TestConfidenceSequenceFactors(t *testing.T) {
	for _, c := range []struct{ ratio, want float64 }{
		{0.05, 4.72}, {0.1, 3.86}, {0.2, 3.36}, {0.5, 3.08}, {1, 3.04}, {2, 3.06}, {5, 3.15}, {10, 3.24}, {100, 3.56},
	} {
		s, err := CS{Alpha: 0.05, NStar: 10_000}.At(0, 1, c.ratio*10_000)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "two-sided factor", s.HalfWidth, c.want, 0.0051, 0)
	}
	s, err := CS{Alpha: 0.05, NStar: 10_000, Alternative: Greater}.At(0, 1, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "one-sided factor", s.HalfWidth, 2.78, 0.0051, 0)
	f, err := CS{Alpha: 0.05, NStar: 10_000}.Inflation(10_000)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "inflation", f, 3.04/1.96, 0.003, 0)
}

// The p-value is below alpha exactly when the interval excludes 0, at the
// sequence's own alpha and for every alternative.
func TestSequencePAgreesWithInterval(t *testing.T) {
	for i, alt := range []Alternative{TwoSided, Greater, Less, TwoSided, Greater} {
		for _, n := range []float64{100, 5000, 200_000} {
			for z := -6.0; z <= 6; z += 0.05 {
				s, err := CS{Alpha: 0.05, NStar: 5000, Alternative: alt, DF: 31 * float64(i/3)}.At(z*0.01, 0.01, n)
				if err != nil {
					t.Fatal(err)
				}
				if (s.P < 0.05) != (s.Lower > 0 || s.Upper < 0) {
					t.Fatalf("alternative %d, n %v, z %v: p %v, interval [%v, %v]", alt, n, z, s.P, s.Lower, s.Upper)
				}
				if !(s.P > 0 && s.P <= 1) {
					t.Fatalf("p %v", s.P)
				}
			}
		}
	}
}

// The mixture test with tau2 = rho2 se2 n is the confidence sequence written
// differently.
func TestMSPRTIsTheConfidenceSequence(t *testing.T) {
	s, err := CS{Alpha: 0.05, NStar: 8000}.At(0.05, 0.018, 6000)
	if err != nil {
		t.Fatal(err)
	}
	v := 0.018 * 0.018
	m, err := MixtureSPRT(0.05, v, s.Rho*s.Rho*v*6000, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "half width", m.HalfWidth, s.HalfWidth, 0, 1e-12)
	near(t, "likelihood ratio", m.LR, s.E, 0, 1e-12)
	near(t, "p", m.P, s.P, 0, 1e-12)
}

// Published boundaries of the O'Brien-Fleming type spending function.
func TestGroupSequentialPublished(t *testing.T) {
	equal := func(k int) []float64 {
		var f []float64
		for i := range k {
			f = append(f, float64(i+1)/float64(k))
		}
		return f
	}
	for _, want := range [][]float64{{1.960}, {2.963, 1.969}, {3.710, 2.511, 1.993}, {4.877, 3.357, 2.680, 2.290, 2.031}} {
		b, err := GroupPlan{Fractions: equal(len(want)), Alpha: 0.05, Sides: 2}.Bounds()
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			near(t, "bound", b.Z[i], want[i], 6e-4, 0)
		}
		near(t, "spent", b.Cumulative[len(want)-1], 0.05, 0, 1e-9)
	}
}

// A simulated Brownian motion crosses as often as was to be spent; looks are
// uneven, one-sided, with power spending.
func TestGroupSequentialCrossing(t *testing.T) {
	for _, fractions := range [][]float64{{0.1, 0.35, 0.4, 0.8, 1}, {0.5, 0.501, 0.502, 0.97, 1}} {
		checkCrossing(t, GroupPlan{Fractions: fractions, Alpha: 0.1, Sides: 1, Spending: Power, Rho: 1.5})
	}
}

func checkCrossing(t *testing.T, g GroupPlan) {
	t.Helper()
	b, err := g.Bounds()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(31, 1))
	const runs = 100_000
	crossed := make([]int, len(g.Fractions))
	for range runs {
		x, prev := 0.0, 0.0
		for k, f := range g.Fractions {
			x += math.Sqrt(f-prev) * r.NormFloat64()
			prev = f
			if x/math.Sqrt(f) >= b.Z[k] {
				crossed[k]++
				break
			}
		}
	}
	sum := 0
	for k := range crossed {
		sum += crossed[k]
		want := b.Cumulative[k]
		near(t, "crossed", float64(sum)/runs, want, 4*math.Sqrt(want/runs), 0)
	}
}

func BenchmarkGroupBounds20Looks(b *testing.B) {
	var f []float64
	for i := range 20 {
		f = append(f, float64(i+1)/20)
	}
	for b.Loop() {
		if _, err := (GroupPlan{Fractions: f, Alpha: 0.05, Sides: 2}).Bounds(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestGroupPlanDegenerate(t *testing.T) {
	ok := GroupPlan{Fractions: []float64{0.5, 1}, Alpha: 0.05, Sides: 2}
	for name, c := range map[string]struct {
		change func(*GroupPlan)
		wants  Reason
	}{
		"no looks":          {func(g *GroupPlan) { g.Fractions = nil }, InvalidParameter},
		"falling":           {func(g *GroupPlan) { g.Fractions = []float64{0.5, 0.4} }, InvalidParameter},
		"equal":             {func(g *GroupPlan) { g.Fractions = []float64{0.5, 0.5} }, InvalidParameter},
		"beyond 1":          {func(g *GroupPlan) { g.Fractions = []float64{0.5, 1.2} }, InvalidParameter},
		"zero":              {func(g *GroupPlan) { g.Fractions = []float64{0, 1} }, InvalidParameter},
		"NaN":               {func(g *GroupPlan) { g.Fractions = []float64{math.NaN(), 1} }, InvalidParameter},
		"nearly equal":      {func(g *GroupPlan) { g.Fractions = []float64{0.5, 0.5 + 1e-4, 1} }, InvalidParameter},
		"too many":          {func(g *GroupPlan) { g.Fractions = make([]float64, 1000) }, InvalidParameter},
		"alpha":             {func(g *GroupPlan) { g.Alpha = 0 }, InvalidAlpha},
		"sides":             {func(g *GroupPlan) { g.Sides = 3 }, InvalidParameter},
		"power without rho": {func(g *GroupPlan) { g.Spending = Power }, InvalidParameter},
		"unknown spending":  {func(g *GroupPlan) { g.Spending = 9 }, InvalidParameter},
	} {
		g := ok
		c.change(&g)
		if _, err := g.Bounds(); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	// Very early looks stop for nothing rather than fail.
	b, err := GroupPlan{Fractions: []float64{0.001, 0.01, 1}, Alpha: 0.05, Sides: 2}.Bounds()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "early bound", b.Z[0], maxZ, 0, 1e-9)
	near(t, "last bound", b.Z[2], z95, 1e-3, 0)
}

func TestSequentialDegenerate(t *testing.T) {
	ok := CS{Alpha: 0.05, NStar: 1000}
	for name, c := range map[string]struct {
		cs         CS
		est, se, n float64
		wants      Reason
	}{
		"se 0":            {ok, 1, 0, 100, ZeroVariance},
		"se negative":     {ok, 1, -1, 100, InconsistentSums},
		"no units":        {ok, 1, 1, 0, EmptyArm},
		"negative units":  {ok, 1, 1, -5, InvalidCount},
		"NaN":             {ok, math.NaN(), 1, 100, NotFinite},
		"Inf":             {ok, 1, math.Inf(1), 100, NotFinite},
		"alpha 0":         {CS{Alpha: 0, NStar: 1}, 1, 1, 100, InvalidAlpha},
		"alpha 1":         {CS{Alpha: 1, NStar: 1}, 1, 1, 100, InvalidAlpha},
		"one-sided alpha": {CS{Alpha: 0.5, NStar: 1, Alternative: Less}, 1, 1, 100, InvalidAlpha},
		"NStar 0":         {CS{Alpha: 0.05}, 1, 1, 100, InvalidParameter},
		"NStar NaN":       {CS{Alpha: 0.05, NStar: math.NaN()}, 1, 1, 100, NotFinite},
		"alternative":     {CS{Alpha: 0.05, NStar: 1, Alternative: 7}, 1, 1, 100, InvalidParameter},
	} {
		if _, err := c.cs.At(c.est, c.se, c.n); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	for name, c := range map[string]struct {
		v, tau2, alpha float64
		wants          Reason
	}{
		"variance 0": {0, 1, 0.05, ZeroVariance}, "negative variance": {-1, 1, 0.05, InconsistentSums},
		"tau2 0": {1, 0, 0.05, InvalidParameter}, "alpha": {1, 1, 2, InvalidAlpha}, "NaN": {math.NaN(), 1, 0.05, NotFinite},
	} {
		if _, err := MixtureSPRT(1, c.v, c.tau2, c.alpha); !isReason(err, c.wants) {
			t.Errorf("mSPRT, %s: %v, want %s", name, err, c.wants)
		}
	}
	if _, err := RunningMin([]float64{0.4, math.NaN()}); !isReason(err, InvalidPValue) {
		t.Errorf("running minimum over NaN: %v", err)
	}
}

// A standard error from few clusters: at any one look the sequence errs as often as with a known one.
func TestSequenceOfFewClusters(t *testing.T) {
	at := func(df float64) float64 {
		s, err := CS{Alpha: 0.05, NStar: 10_000, DF: df}.At(0, 1, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		return s.HalfWidth
	}
	known := at(0)
	near(t, "tail of Student's t", StudentSF(at(31), 31), NormalSF(known), 0, 1e-9)
	near(t, "many clusters", at(1e9), known, 1e-6, 0)
	if !(at(31) > at(510) && at(510) > known) {
		t.Errorf("half widths %v, %v, %v", at(31), at(510), known)
	}
	r := rand.New(rand.NewPCG(5, 5))
	const runs, clusters = 100_000, 12
	half := [2]float64{known, at(clusters - 1)}
	var wrong [2]int
	for range runs {
		var sum, squares float64
		for range clusters {
			x := r.NormFloat64()
			sum, squares = sum+x, squares+x*x
		}
		se := math.Sqrt((squares-sum*sum/clusters)/(clusters-1)) / math.Sqrt(clusters)
		for i := range half {
			if math.Abs(sum/clusters) > half[i]*se {
				wrong[i]++
			}
		}
	}
	want := 2 * NormalSF(known) * runs
	if d := 5 * math.Sqrt(want); math.Abs(float64(wrong[1])-want) > d || float64(wrong[0]) < want+d {
		t.Errorf("wrong in %d of %d runs, %d as if the error were known, want %.0f", wrong[1], runs, wrong[0], want)
	}
	if _, err := (CS{Alpha: 0.05, NStar: 100, DF: -1}).At(0, 1, 100); err == nil {
		t.Error("-1 degrees of freedom were accepted")
	}
}
