package stats

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// draw makes units with everything correlated with everything: a habit drives
// the pre-period and the period, and watch time drives stall time.
func draw(r *rand.Rand, n int, effect float64) []Totals {
	out := make([]Totals, n)
	for i := range out {
		habit := math.Exp(0.8 * r.NormFloat64())
		watch := 1000 * habit * math.Exp(0.5*r.NormFloat64())
		pre := 1200 * habit * math.Exp(0.5*r.NormFloat64())
		net := 0.01 * math.Exp(0.9*r.NormFloat64())
		out[i] = Totals{
			Num: watch * net * (1 + effect) * math.Exp(0.6*r.NormFloat64()), Den: watch,
			PreNum: pre * net * math.Exp(0.6*r.NormFloat64()), PreDen: pre,
		}
	}
	return out
}

func sameMoments(t *testing.T, what string, a, b Moments, rel float64) {
	t.Helper()
	if a.Units != b.Units {
		t.Errorf("%s: %d units, want %d", what, a.Units, b.Units)
	}
	for i := range a.Mean {
		near(t, what+" mean", a.Mean[i], b.Mean[i], 1e-300, rel)
		for j := range a.Mean {
			near(t, what+" co-moment", a.C[i][j], b.C[i][j], rel*math.Sqrt(b.C[i][i]*b.C[j][j]), rel)
		}
	}
}

// Merging parts in any cut equals computing at once, and so do sums.
func TestMergeEqualsAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 30 {
		units := draw(r, 2+r.IntN(300), 0)
		whole := Of(units)
		var merged Moments
		var s Sums
		for rest := units; len(rest) > 0; {
			k := 1 + r.IntN(len(rest))
			merged = merged.Merge(Of(rest[:k]))
			rest = rest[k:]
		}
		for _, u := range units {
			s.Units++
			for i := range u {
				s.Sum[i] += u[i]
				for j := i; j < 4; j++ {
					s.Product[i][j] += u[i] * u[j]
				}
			}
		}
		sameMoments(t, "merged", merged, whole, 1e-10)
		sameMoments(t, "merged with nothing", Moments{}.Merge(whole).Merge(Moments{}), whole, 0)
		fromSums, err := s.Moments()
		if err != nil {
			t.Fatal(err)
		}
		sameMoments(t, "from sums", fromSums, whole, 1e-9)
		a, err1 := Ratio(merged)
		b, err2 := Ratio(fromSums)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		near(t, "ratio", a.Value, b.Value, 0, 1e-12)
		near(t, "ratio variance", a.Var, b.Var, 0, 1e-8)
	}
}

// Epoch milliseconds with a spread of 2 ms: raw squares in float64 cannot carry
// the variance, integer sums and merged moments can.
func TestLargeMeansKeepTheirVariance(t *testing.T) {
	var m Moments
	s := IntSums{Sum: [4]*big.Int{Num: new(big.Int)}}
	s.Product[Num][Num] = new(big.Int)
	for i := range int64(1000) {
		x := 1_700_000_000_000 + 4*(i%2) // variance 4 x 1000/999
		s.Units++
		s.Sum[Num].Add(s.Sum[Num], big.NewInt(x))
		b := big.NewInt(x)
		s.Product[Num][Num].Add(s.Product[Num][Num], b.Mul(b, b))
		m.Add(Totals{Num: float64(x)})
	}
	exact, err := s.Moments()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "integer sums", exact.Cov(Num, Num), 4000.0/999, 0, 1e-12)
	near(t, "merged", m.Cov(Num, Num), 4000.0/999, 0, 1e-3)
}

func TestInconsistentSums(t *testing.T) {
	for name, s := range map[string]Sums{
		"negative variance":        {Units: 10, Sum: [4]float64{10}, Product: [4][4]float64{{5}}},
		"covariance beyond limits": {Units: 3, Sum: [4]float64{3, 3}, Product: [4][4]float64{{4, 9}, {0, 4}}},
	} {
		m, err := s.Moments()
		if err == nil {
			_, err = Ratio(m)
		}
		if r, _ := ReasonOf(err); r != InconsistentSums {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Sums{Units: -1}).Moments(); !isReason(err, InvalidCount) {
		t.Errorf("negative units: %v", err)
	}
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		if _, err := (Sums{Units: 2, Sum: [4]float64{x}}).Moments(); !isReason(err, NotFinite) {
			t.Errorf("sum %v: %v", x, err)
		}
		if _, err := (Sums{Units: 2, Product: [4][4]float64{{x}}}).Moments(); !isReason(err, NotFinite) {
			t.Errorf("product %v: %v", x, err)
		}
		var m Moments
		m.Add(Totals{Num: 1})
		m.Add(Totals{Num: x})
		if _, err := Mean(m); !isReason(err, NotFinite) {
			t.Errorf("unit total %v: %v", x, err)
		}
	}
}

func isReason(err error, want Reason) bool {
	r, ok := ReasonOf(err)
	return ok && r == want
}
