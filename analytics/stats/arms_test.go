package stats

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// Degenerate arms: every row of the table has a stated answer, never 0 or NaN.
func TestDegenerateArms(t *testing.T) {
	test := Test{Alpha: 0.05}
	good := Estimate{Value: 2, Var: 0.1, Units: 50}
	mean := func(units ...Totals) error { return second(Mean(Of(units))) }
	ratio := func(units ...Totals) error { return second(Ratio(Of(units))) }
	diff := func(c, tr Estimate, t Test) error { return second(Difference(c, tr, t)) }
	constant, err := Mean(Of([]Totals{{3}, {3}, {3}}))
	if err != nil {
		t.Fatal(err)
	}
	proportional, err := Ratio(Of([]Totals{{1, 3}, {2, 6}, {5, 15}}))
	if err != nil {
		t.Fatal(err)
	}
	all, err := Proportion(9, 9)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err   error
		wants Reason
	}{
		"mean, no units":            {mean(), EmptyArm},
		"mean, one unit":            {mean(Totals{1}), TooFewUnits},
		"ratio, no units":           {ratio(), EmptyArm},
		"ratio, one unit":           {ratio(Totals{1, 2}), TooFewUnits},
		"ratio, no denominator":     {ratio(Totals{1, 0}, Totals{2, 0}), ZeroDenominator},
		"proportion, no units":      {second(Proportion(0, 0)), EmptyArm},
		"proportion, too many":      {second(Proportion(5, 4)), InconsistentSums},
		"proportion, negative":      {second(Proportion(-1, 4)), InvalidCount},
		"proportion, units < 0":     {second(Proportion(0, -4)), InvalidCount},
		"constant mean":             {diff(good, constant, test), ZeroVariance},
		"constant ratio":            {diff(proportional, good, test), ZeroVariance},
		"all of them":               {diff(good, all, test), ZeroVariance},
		"negative variance":         {diff(good, Estimate{1, -1, 5}, test), InconsistentSums},
		"NaN estimate":              {diff(good, Estimate{math.NaN(), 1, 5}, test), NotFinite},
		"infinite variance":         {diff(good, Estimate{1, math.Inf(1), 5}, test), NotFinite},
		"no units":                  {diff(good, Estimate{1, 1, 0}, test), EmptyArm},
		"one unit":                  {diff(good, Estimate{1, 1, 1}, test), TooFewUnits},
		"alpha 0":                   {diff(good, good, Test{}), InvalidAlpha},
		"alpha NaN":                 {diff(good, good, Test{Alpha: math.NaN()}), InvalidAlpha},
		"unknown alternative":       {diff(good, good, Test{Alpha: 0.1, Alternative: 5}), InvalidParameter},
		"lift of control 0":         {second(LiftDelta(Estimate{0, 1, 50}, good, test)), ZeroControlMean},
		"Fieller of control 0":      {second(LiftFieller(Estimate{0, 1, 50}, good, test)), ZeroControlMean},
		"Fieller, noisy control":    {second(LiftFieller(Estimate{1, 1, 50}, good, test)), UnboundedInterval},
		"Fieller, covariance":       {second(Fieller(FiellerInput{1, 1, 9, 1, 2, 1.96})), InconsistentSums},
		"Fieller, critical":         {second(Fieller(FiellerInput{1, 1, 9, 1, 0, 0})), InvalidAlpha},
		"Fieller, constant arm":     {second(Fieller(FiellerInput{1, 0, 9, 1, 0, 1.96})), ZeroVariance},
		"Wilson, alpha":             {second(Wilson(1, 2, 1)), InvalidAlpha},
		"Clopper-Pearson, no units": {second(ClopperPearson(0, 0, 0.05)), EmptyArm},
		"Newcombe, empty arm":       {second(NewcombeDiff(Binary{0, 0}, Binary{1, 2}, 0.05)), EmptyArm},
		"Agresti-Caffo, empty arm":  {second(AgrestiCaffoDiff(Binary{1, 2}, Binary{0, 0}, 0.05)), EmptyArm},
		"score, too many":           {second(MiettinenNurminenDiff(Binary{1, 2}, Binary{3, 2}, 0.05)), InconsistentSums},
		"CUPED, no units":           {second(CUPEDMean(Moments{}, Of([]Totals{{1}, {2}}))), EmptyArm},
		"CUPED, one unit":           {second(CUPEDMean(Of([]Totals{{1}}), Of([]Totals{{1}, {2}}))), TooFewUnits},
		"CUPED ratio, denominator":  {second(CUPEDRatio(Of([]Totals{{1, 0}, {2, 0}}), Of([]Totals{{1, 1}, {2, 3}}))), ZeroDenominator},
	} {
		if !isReason(c.err, c.wants) {
			t.Errorf("%s: %v, want %s", name, c.err, c.wants)
		}
	}

	// A control of 0 has no lift, and still a difference.
	e, err := Difference(Estimate{0, 0.04, 100}, Estimate{1, 0.05, 100}, test)
	if err != nil || e.Estimate != 1 || !(e.P < 0.05) {
		t.Errorf("difference to a control of 0: %+v, %v", e, err)
	}

	// A covariate that explains everything leaves nothing to compare.
	a, err := CUPEDMean(Of([]Totals{{Num: 1, PreNum: 2}, {Num: 2, PreNum: 4}, {Num: 3, PreNum: 6}}),
		Of([]Totals{{Num: 2, PreNum: 4}, {Num: 4, PreNum: 8}}))
	if err == nil {
		_, err = a.Difference(test)
	}
	if !isReason(err, ZeroVariance) {
		t.Errorf("residual variance 0: %v", err)
	}
}

func TestUndefinedSaysWhy(t *testing.T) {
	_, err := Proportion(5, 4)
	if !strings.Contains(err.Error(), "inconsistent_sums") || !strings.Contains(err.Error(), "5 events of only 4") {
		t.Errorf("error %q", err)
	}
	var u *Undefined
	if !errors.As(err, &u) || !u.Reason.BadInput() || EmptyArm.BadInput() {
		t.Error("reasons are not told apart")
	}
	if _, ok := ReasonOf(errors.New("other")); ok {
		t.Error("a reason was found in another error")
	}
}

// TestLevelInterval: an arm's own interval holds a value above 0 on both sides by the same factor and stays above 0; what
// is not above 0 has one of equal distances.
func TestLevelInterval(t *testing.T) {
	for _, c := range []struct {
		e            Estimate
		lower, upper float64
	}{
		{Estimate{Value: 2, Var: 0.04, Units: 1e9}, 2 * math.Exp(-0.1959963984540054), 2 * math.Exp(0.1959963984540054)},
		{Estimate{Value: 0.0004, Var: 1.6e-7, Units: 30}, 0.0004 * math.Exp(-2.045229642), 0.0004 * math.Exp(2.045229642)},
		{Estimate{Value: -1, Var: 0.04, Units: 1e9}, -1 - 0.3919927969, -1 + 0.3919927969},
		{Estimate{Value: 1e-12, Var: 1, Units: 1e9}, -1.959963984, 1.959963984},
	} {
		iv, err := c.e.Interval(0.05)
		if err != nil || math.Abs(iv.Lower-c.lower) > 1e-7*math.Abs(c.lower) || math.Abs(iv.Upper-c.upper) > 1e-7*math.Abs(c.upper) {
			t.Errorf("%+v: %+v, %v, want %v to %v", c.e, iv, err, c.lower, c.upper)
		}
	}
	for _, e := range []Estimate{{}, {Value: 1, Units: 9}, {Value: 1, Var: 1, Units: 1}, {Value: math.NaN(), Var: 1, Units: 9}, {Value: 1, Var: -1, Units: 9}} {
		if iv, err := e.Interval(0.05); err == nil {
			t.Errorf("%+v has %+v", e, iv)
		}
	}
	if _, err := (Estimate{Value: 1, Var: 1, Units: 9}).Interval(1); err == nil {
		t.Error("alpha 1")
	}
}

func TestNonInferiority(t *testing.T) {
	c, tr := Estimate{1, 0.0004, 1000}, Estimate{1.02, 0.0005, 1000}
	// Lower is better: 2 % worse passes a margin of 10 %, not one of 3 %.
	for _, x := range []struct {
		margin float64
		pass   bool
	}{{0.1, true}, {0.03, false}} {
		r, err := NonInferiority(c, tr, x.margin, LowerIsBetter, 0.05, Normal)
		if err != nil {
			t.Fatal(err)
		}
		exact, err := NonInferiorityExact(c, tr, x.margin, LowerIsBetter, 0.05, Normal)
		if err != nil {
			t.Fatal(err)
		}
		if r.NonInferior != x.pass || exact.NonInferior != x.pass || !(exact.P > r.P || !x.pass) {
			t.Errorf("margin %v: %+v, exact %+v", x.margin, r, exact)
		}
		if r.NonInferior != (r.Upper < r.Null) {
			t.Errorf("verdict %v with upper bound %v and margin %v", r.NonInferior, r.Upper, r.Null)
		}
	}
	// Higher is better: the same figures are an improvement.
	r, err := NonInferiority(c, tr, 0.01, HigherIsBetter, 0.05, StudentT)
	if err != nil || r.Null != -0.01 || !math.IsInf(r.Upper, 1) {
		t.Errorf("%+v, %v", r, err)
	}
	// The exact form is the one-sided Fieller bound of the lift.
	l, err := LiftFieller(c, tr, Test{Alpha: 0.05, Dist: Normal, Alternative: Less})
	if err != nil {
		t.Fatal(err)
	}
	for _, sign := range []float64{-1, 1} {
		x, err := NonInferiorityExact(c, tr, l.Upper+sign*1e-9, LowerIsBetter, 0.05, Normal)
		if err != nil || x.NonInferior != (sign > 0) {
			t.Errorf("at the Fieller bound: %+v, %v", x, err)
		}
	}
	if LowerIsBetter.Harm(2) != 2 || HigherIsBetter.Harm(2) != -2 {
		t.Error("harm has the wrong sign")
	}
	for name, err := range map[string]error{
		"negative margin": second(NonInferiority(c, tr, -0.1, LowerIsBetter, 0.05, Normal)),
		"NaN margin":      second(NonInferiority(c, tr, math.NaN(), LowerIsBetter, 0.05, Normal)),
		"alpha":           second(NonInferiority(c, tr, 0.1, LowerIsBetter, 0, Normal)),
		"control 0":       second(NonInferiority(Estimate{0, 1, 9}, tr, 0.1, LowerIsBetter, 0.05, Normal)),
		"exact control 0": second(NonInferiorityExact(Estimate{0, 1, 9}, tr, 0.1, LowerIsBetter, 0.05, Normal)),
		"constant arm":    second(NonInferiority(Estimate{1, 0, 9}, tr, 0.1, LowerIsBetter, 0.05, Normal)),
		"direction":       second(NonInferiority(c, tr, 0.1, 7, 0.05, Normal)),
	} {
		if _, ok := ReasonOf(err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
