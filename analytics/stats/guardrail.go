package stats

import "math"

// Direction says which way a metric is good.
type Direction int

const (
	// LowerIsBetter: stalls, failures, first screen, latency, cost.
	LowerIsBetter Direction = iota
	// HigherIsBetter: watch time, bitrate.
	HigherIsBetter
)

// Harm orients an effect so that harm is positive.
func (d Direction) Harm(effect float64) float64 {
	if d == HigherIsBetter {
		return -effect
	}
	return effect
}

// NonInferiorityResult is a one-sided test against a margin.
type NonInferiorityResult struct {
	Estimate float64 // treatment minus control, or minus k*control in the exact form
	SE       float64
	Null     float64 // value of Estimate that would be just too bad
	Stat     float64 // (Estimate - Null)/SE
	P        float64 // of "at least as bad as the margin"; small means passed
	// Lower and Upper bound Estimate one-sided; the end of no interest is infinite.
	Lower, Upper float64
	// NonInferior is P < alpha. False is not harm: without harm shown either,
	// the answer is "inconclusive".
	NonInferior bool
}

// NonInferiority tests that the treatment is worse by less than margin times
// the control estimate, taken as fixed. margin is relative and not negative.
func NonInferiority(control, treatment Estimate, margin float64, d Direction, alpha float64, dist Dist) (NonInferiorityResult, error) {
	if err := checkMargin(control, treatment, margin, d, alpha); err != nil {
		return NonInferiorityResult{}, err
	}
	if control.Value == 0 {
		return NonInferiorityResult{}, undefined(ZeroControlMean, "a relative margin of a control of 0 is no margin")
	}
	null := margin * math.Abs(control.Value)
	if d == HigherIsBetter {
		null = -null
	}
	return oneSided(treatment.Value-control.Value, null, control.Var+treatment.Var, WelchDF(control, treatment), d, alpha, dist)
}

// NonInferiorityExact is the same question with the control's noise in the
// margin counted: treatment - k control against 0, k = 1+margin when lower is
// better, 1-margin when higher is. It is the one-sided Fieller bound.
func NonInferiorityExact(control, treatment Estimate, margin float64, d Direction, alpha float64, dist Dist) (NonInferiorityResult, error) {
	if err := checkMargin(control, treatment, margin, d, alpha); err != nil {
		return NonInferiorityResult{}, err
	}
	if control.Value == 0 {
		return NonInferiorityResult{}, undefined(ZeroControlMean, "a relative margin of a control of 0 is no margin")
	}
	k := 1 + margin
	if (d == HigherIsBetter) != (control.Value < 0) {
		k = 1 - margin
	}
	scaled := Estimate{Value: k * control.Value, Var: k * k * control.Var, Units: control.Units}
	return oneSided(treatment.Value-scaled.Value, 0, scaled.Var+treatment.Var, WelchDF(scaled, treatment), d, alpha, dist)
}

func checkMargin(control, treatment Estimate, margin float64, d Direction, alpha float64) error {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), control.check(), treatment.check(), finite(margin)); err != nil {
		return err
	}
	if margin < 0 {
		return undefined(InvalidParameter, "margin %v is negative", margin)
	}
	if d != LowerIsBetter && d != HigherIsBetter {
		return undefined(InvalidParameter, "unknown direction %d", d)
	}
	return nil
}

func oneSided(est, null, v, df float64, d Direction, alpha float64, dist Dist) (NonInferiorityResult, error) {
	if err := finite(est, null, v, df); err != nil {
		return NonInferiorityResult{}, err
	}
	r := NonInferiorityResult{Estimate: est, SE: math.Sqrt(v), Null: null}
	r.Stat = (est - null) / r.SE
	alt := Less
	if d == HigherIsBetter {
		alt = Greater
	}
	r.P = dist.pValue(r.Stat, df, alt)
	r.Lower, r.Upper = dist.interval(est, r.SE, df, alpha, alt)
	r.NonInferior = r.P < alpha
	return r, nil
}
