package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// numericDelta is the variance of f(means) by finite differences, the check for
// every closed form: V = g' S g / K per arm.
func numericDelta(f func(c, t [4]float64) float64, c, t Moments) float64 {
	v := 0.0
	for arm, m := range []Moments{c, t} {
		var g [4]float64
		for i := range g {
			h := 1e-5 * (math.Abs(m.Mean[i]) + 1e-12)
			at := func(d float64) float64 {
				mc, mt := c.Mean, t.Mean
				if arm == 0 {
					mc[i] += d
				} else {
					mt[i] += d
				}
				return f(mc, mt)
			}
			g[i] = (at(h) - at(-h)) / (2 * h)
		}
		for i := range g {
			for j := range g {
				v += g[i] * g[j] * m.Cov(Var(i), Var(j)) / float64(m.Units)
			}
		}
	}
	return v
}

func TestVariancesAgreeWithNumericDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	test := Test{Alpha: 0.05}
	for _, sign := range []float64{1, -1} {
		cu, tu := draw(r, 400, 0), draw(r, 350, 0.2)
		for _, us := range [][]Totals{cu, tu} {
			for i := range us {
				us[i][Num] *= sign // a metric may be negative
			}
		}
		c, tr := Of(cu), Of(tu)
		rc, err := Ratio(c)
		if err != nil {
			t.Fatal(err)
		}
		rt, err := Ratio(tr)
		if err != nil {
			t.Fatal(err)
		}
		abs, err := Difference(rc, rt, test)
		if err != nil {
			t.Fatal(err)
		}
		ratio := func(m [4]float64) float64 { return m[Num] / m[Den] }
		near(t, "ratio difference", abs.SE*abs.SE, numericDelta(func(c, t [4]float64) float64 { return ratio(t) - ratio(c) }, c, tr), 0, 1e-6)
		lift, err := LiftDelta(rc, rt, test)
		if err != nil {
			t.Fatal(err)
		}
		liftOf := func(c, t [4]float64) float64 { return (ratio(t) - ratio(c)) / math.Abs(ratio(c)) }
		near(t, "lift", lift.Estimate, liftOf(c.Mean, tr.Mean), 0, 1e-12)
		near(t, "lift variance", lift.SE*lift.SE, numericDelta(liftOf, c, tr), 0, 1e-6)

		a, err := CUPEDRatio(c, tr)
		if err != nil {
			t.Fatal(err)
		}
		adj := func(c, t [4]float64) float64 {
			return ratio(t) - a.Theta*t[PreNum]/t[PreDen] - ratio(c) + a.Theta*c[PreNum]/c[PreDen]
		}
		d, err := a.Difference(test)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "adjusted ratio", d.Estimate, adj(c.Mean, tr.Mean), 1e-15, 1e-10)
		near(t, "adjusted ratio variance", d.SE*d.SE, numericDelta(adj, c, tr), 0, 1e-6)
		l, err := a.Lift(test)
		if err != nil {
			t.Fatal(err)
		}
		adjLift := func(c, t [4]float64) float64 { return adj(c, t) / math.Abs(ratio(c)) }
		near(t, "adjusted ratio lift", l.Estimate, adjLift(c.Mean, tr.Mean), 1e-15, 1e-10)
		near(t, "adjusted ratio lift variance", l.SE*l.SE, numericDelta(adjLift, c, tr), 0, 1e-6)
		if d.SE >= abs.SE {
			t.Errorf("adjustment did not shrink the error: %v, plain %v", d.SE, abs.SE)
		}

		am, err := CUPEDMean(c, tr)
		if err != nil {
			t.Fatal(err)
		}
		ml, err := am.Lift(test)
		if err != nil {
			t.Fatal(err)
		}
		meanLift := func(c, t [4]float64) float64 {
			return (t[Num] - am.Theta*t[PreNum] - c[Num] + am.Theta*c[PreNum]) / math.Abs(c[Num])
		}
		near(t, "adjusted mean lift", ml.Estimate, meanLift(c.Mean, tr.Mean), 1e-15, 1e-10)
		near(t, "adjusted mean lift variance", ml.SE*ml.SE, numericDelta(meanLift, c, tr), 0, 1e-6)
	}
}

// Theta minimises the variance: any other coefficient does worse.
func TestThetaIsBest(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	a, err := CUPEDRatio(Of(draw(r, 500, 0)), Of(draw(r, 500, 0)))
	if err != nil {
		t.Fatal(err)
	}
	best := a.Control.Var + a.Treatment.Var
	r = rand.New(rand.NewPCG(2, 9))
	c, tr := Of(draw(r, 500, 0)), Of(draw(r, 500, 0))
	for _, theta := range []float64{a.Theta - 0.1, a.Theta + 0.1, 0} {
		v := numericDelta(func(c, t [4]float64) float64 {
			return t[Num]/t[Den] - theta*t[PreNum]/t[PreDen] - c[Num]/c[Den] + theta*c[PreNum]/c[PreDen]
		}, c, tr)
		if v <= best {
			t.Errorf("theta %v gives variance %v, the chosen %v gives %v", theta, v, a.Theta, best)
		}
	}
}

func TestCUPEDWithoutCovariateIsPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	strip := func(us []Totals) Moments {
		for i := range us {
			us[i][PreNum], us[i][PreDen] = 0, 0
		}
		return Of(us)
	}
	c, tr := strip(draw(r, 50, 0)), strip(draw(r, 60, 0))
	test := Test{Alpha: 0.05}
	for name, f := range map[string]struct {
		adjusted func(a, b Moments) (Adjusted, error)
		plain    func(Moments) (Estimate, error)
	}{"ratio": {CUPEDRatio, Ratio}, "mean": {CUPEDMean, Mean}} {
		a, err := f.adjusted(c, tr)
		if err != nil {
			t.Fatal(err)
		}
		if a.Theta != 0 || !a.Unadjusted {
			t.Errorf("%s: theta %v, flagged %v", name, a.Theta, a.Unadjusted)
		}
		pc, _ := f.plain(c)
		pt, _ := f.plain(tr)
		want, err := Difference(pc, pt, test)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Difference(test)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name+" estimate", got.Estimate, want.Estimate, 0, 1e-12)
		near(t, name+" se", got.SE, want.SE, 0, 1e-12)
		wantLift, _ := LiftDelta(pc, pt, test)
		gotLift, err := a.Lift(test)
		if err != nil {
			t.Fatal(err)
		}
		near(t, name+" lift se", gotLift.SE, wantLift.SE, 0, 1e-12)
	}
}

// Fieller's interval and the test of the difference agree on the side of 0,
// for either sign of the control and every alternative.
func TestFiellerAgreesWithDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	agreed := 0
	for range 3000 {
		c := Estimate{Value: 2 * r.NormFloat64(), Var: 0.02 * r.ExpFloat64(), Units: float64(5 + r.IntN(100))}
		tr := Estimate{Value: c.Value + 0.3*r.NormFloat64(), Var: 0.02 * r.ExpFloat64(), Units: float64(5 + r.IntN(100))}
		for _, alt := range []Alternative{TwoSided, Greater, Less} {
			test := Test{Alpha: 0.05, Alternative: alt}
			d, err := Difference(c, tr, test)
			if err != nil {
				t.Fatal(err)
			}
			l, err := LiftFieller(c, tr, test)
			if isReason(err, UnboundedInterval) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if (d.Lower > 0) != (l.Lower > 0) || (d.Upper < 0) != (l.Upper < 0) {
				t.Fatalf("difference [%v, %v], lift [%v, %v], control %+v, treatment %+v", d.Lower, d.Upper, l.Lower, l.Upper, c, tr)
			}
			near(t, "lift", l.Estimate, d.Estimate/math.Abs(c.Value), 1e-12, 1e-9)
			if (d.P < 0.05) != (d.Lower > 0 || d.Upper < 0) {
				t.Fatalf("p %v with interval [%v, %v]", d.P, d.Lower, d.Upper)
			}
			agreed++
		}
	}
	if agreed < 5000 {
		t.Errorf("only %d comparisons had a bounded interval", agreed)
	}
}

// The bounds are those quotients which the linear contrast just rejects.
func TestFiellerInvertsTheContrast(t *testing.T) {
	in := FiellerInput{Treatment: 2.3, TreatmentVar: 0.05, Control: 2, ControlVar: 0.06, Cov: 0.02, Critical: 1.96}
	l, err := Fieller(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, lift := range []float64{l.Lower, l.Upper} {
		rho := 1 + lift
		z := (in.Treatment - rho*in.Control) / math.Sqrt(in.TreatmentVar-2*rho*in.Cov+rho*rho*in.ControlVar)
		near(t, "z at bound", math.Abs(z), 1.96, 0, 1e-9)
	}
}

// p-values far in the tail stay above 0.
func TestTailPValue(t *testing.T) {
	e, err := Difference(Estimate{0, 1, 1e6}, Estimate{20, 1, 1e6}, Test{Alpha: 0.05, Dist: Normal})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "p", e.P, math.Erfc(20/math.Sqrt2/math.Sqrt2), 0, 1e-10)
	if e.P <= 0 {
		t.Error("p is 0")
	}
}
