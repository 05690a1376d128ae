package stats

import "math"

// Test says how two arms are compared. The zero value is not usable: Alpha has
// no default because it must be chosen before the data are seen.
type Test struct {
	Alpha       float64     // error rate, in (0, 1)
	Dist        Dist        // StudentT (default) or Normal
	Alternative Alternative // TwoSided (default), Greater, Less
}

func (t Test) check() error {
	if err := probability(t.Alpha, InvalidAlpha, "alpha"); err != nil {
		return err
	}
	if t.Alternative < TwoSided || t.Alternative > Less || t.Dist < StudentT || t.Dist > Normal {
		return undefined(InvalidParameter, "unknown alternative %d or distribution %d", t.Alternative, t.Dist)
	}
	return nil
}

// Effect is a comparison of two arms on one scale. Where the alternative is
// one-sided the other end of the interval is infinite.
type Effect struct {
	Estimate     float64 // treatment minus control, or lift
	SE           float64 // standard error of Estimate
	DF           float64 // Welch-Satterthwaite degrees of freedom
	Lower, Upper float64 // confidence interval
	P            float64 // p-value of Estimate = 0 on this scale
}

// Difference is treatment minus control with Welch's test. Decisions rest on
// it: its null hypothesis does not divide by anything, and it exists when the
// control is 0. Undefined when an arm has no variance.
func Difference(control, treatment Estimate, t Test) (Effect, error) {
	if err := first(t.check(), control.check(), treatment.check()); err != nil {
		return Effect{}, err
	}
	return t.effect(treatment.Value-control.Value, control.Var+treatment.Var, WelchDF(control, treatment))
}

// WelchDF is the Welch-Satterthwaite degrees of freedom of a difference.
func WelchDF(a, b Estimate) float64 {
	v := a.Var + b.Var
	fa, fb := a.Var/v, b.Var/v // shares, so that no square under- or overflows
	return 1 / (fa*fa/(a.Units-1) + fb*fb/(b.Units-1))
}

// effect is the test of an estimate with variance v.
func (t Test) effect(est, v, df float64) (Effect, error) {
	if err := finite(est, v, df); err != nil {
		return Effect{}, err
	}
	e := Effect{Estimate: est, SE: math.Sqrt(v), DF: df}
	e.Lower, e.Upper = t.Dist.interval(est, e.SE, df, t.Alpha, t.Alternative)
	e.P = t.Dist.pValue(est/e.SE, df, t.Alternative)
	return e, nil
}

// LiftDelta is the relative change (treatment-control)/|control| by the delta
// method: V = V_T/C2 + T2 V_C/C4. Present LiftFieller where it exists: it
// agrees with Difference on the side of 0, this one need not.
func LiftDelta(control, treatment Estimate, t Test) (Effect, error) {
	if err := first(t.check(), control.check(), treatment.check()); err != nil {
		return Effect{}, err
	}
	c := control.Value
	if c == 0 {
		return Effect{}, undefined(ZeroControlMean, "lift divides by the control, which is 0; the difference is defined")
	}
	v := treatment.Var/(c*c) + treatment.Value*treatment.Value*control.Var/(c*c*c*c)
	if err := finite(v); err != nil || v == 0 {
		return Effect{}, undefined(ZeroControlMean, "control %v is too near 0 to divide by", c)
	}
	return t.effect((treatment.Value-c)/math.Abs(c), v, WelchDF(control, treatment))
}

// Lift is a relative change with Fieller's interval.
type Lift struct {
	Estimate     float64
	Lower, Upper float64
	// G is critical2 V_C / C2. At 1 and above no bounded interval exists; flag
	// results above 0.05, where the interval grows visibly lopsided.
	G float64
}

// LiftFieller is the relative change (treatment-control)/|control| with
// Fieller's interval, which is exact when both estimates are normal and always
// lies on the same side of 0 as Difference at the same Test. One-sided
// alternatives give one finite end.
func LiftFieller(control, treatment Estimate, t Test) (Lift, error) {
	if err := first(t.check(), control.check(), treatment.check()); err != nil {
		return Lift{}, err
	}
	crit := t.critical(WelchDF(control, treatment))
	l, err := Fieller(FiellerInput{
		Treatment: treatment.Value, TreatmentVar: treatment.Var,
		Control: control.Value, ControlVar: control.Var, Critical: crit,
	})
	if err != nil {
		return Lift{}, err
	}
	if control.Value < 0 { // (T-C)/|C| = -(T/C - 1)
		l.Estimate, l.Lower, l.Upper = -l.Estimate, -l.Upper, -l.Lower
	}
	switch t.Alternative {
	case Greater:
		l.Upper = math.Inf(1)
	case Less:
		l.Lower = math.Inf(-1)
	}
	return l, nil
}

// critical is the multiplier of the standard error in the interval.
func (t Test) critical(df float64) float64 {
	if t.Alternative == TwoSided {
		return t.Dist.critical(t.Alpha/2, df)
	}
	return t.Dist.critical(t.Alpha, df)
}

// FiellerInput is a quotient of two jointly normal estimates.
type FiellerInput struct {
	Treatment, TreatmentVar float64
	Control, ControlVar     float64
	Cov                     float64 // covariance of the two estimates
	Critical                float64 // quantile of the reference distribution, above 0
}

// Fieller returns treatment/control - 1 with the interval made of all quotients
// that a test of treatment - quotient*control would not reject. Undefined
// (UnboundedInterval) when the control is not distinguishable from 0.
func Fieller(in FiellerInput) (Lift, error) {
	if err := finite(in.Treatment, in.TreatmentVar, in.Control, in.ControlVar, in.Cov, in.Critical); err != nil {
		return Lift{}, err
	}
	switch {
	case in.TreatmentVar < 0 || in.ControlVar < 0 || in.Cov*in.Cov > in.TreatmentVar*in.ControlVar*(1+1e-9):
		return Lift{}, undefined(InconsistentSums, "variances %v, %v with covariance %v", in.TreatmentVar, in.ControlVar, in.Cov)
	case in.Critical <= 0:
		return Lift{}, undefined(InvalidAlpha, "critical value %v must be above 0", in.Critical)
	case in.TreatmentVar == 0 || in.ControlVar == 0:
		return Lift{}, undefined(ZeroVariance, "an arm does not vary")
	case in.Control == 0:
		return Lift{}, undefined(ZeroControlMean, "lift divides by the control, which is 0")
	}
	// Divide everything by the control first, so that no square overflows.
	z2 := in.Critical * in.Critical
	rho := in.Treatment / in.Control
	vt, vc, cov := in.TreatmentVar/in.Control/in.Control, in.ControlVar/in.Control/in.Control, in.Cov/in.Control/in.Control
	g := z2 * vc
	if !(g < 1) {
		return Lift{}, undefined(UnboundedInterval, "the control is not distinguishable from 0 (g = %.3g)", g)
	}
	mid := rho - z2*cov
	disc := mid*mid - (1-g)*(rho*rho-z2*vt)
	if err := finite(disc); err != nil {
		return Lift{}, err
	}
	if disc < 0 {
		return Lift{}, undefined(InconsistentSums, "covariance %v does not fit the variances", in.Cov)
	}
	h := math.Sqrt(disc)
	return Lift{Estimate: rho - 1, Lower: (mid-h)/(1-g) - 1, Upper: (mid+h)/(1-g) - 1, G: g}, nil
}
