package stats

import "math"

// Adjusted is a comparison corrected by what the units did before exposure.
type Adjusted struct {
	// Theta is the coefficient of the covariate; 0 when it does not vary (all
	// viewers new) or does not exist, and then the result is the plain one.
	Theta float64
	// Unadjusted is true when Theta fell back to 0; say so beside the result.
	Unadjusted bool
	// Control and Treatment are the adjusted arms on the scale of the metric.
	// Only their difference means something; do not divide them.
	Control, Treatment Estimate
	// Baseline is the unadjusted control, by which a lift is divided.
	Baseline float64

	controlLift func(adj, base float64) (float64, error) // variance of the control's part of the lift
}

// linear is one arm of an adjusted comparison as u - theta*w per unit.
type linear struct {
	level, pre float64 // estimates of metric and covariate
	uu, uw, ww float64 // sample (co)variances per unit
	units      float64
}

// variance of (a u + b w) averaged over the units.
func (l linear) variance(a, b float64) (float64, error) {
	v := a*a*l.uu + 2*a*b*l.uw + b*b*l.ww
	size := a*a*l.uu + 2*math.Abs(a*b*l.uw) + b*b*l.ww
	switch tol := 1e-13 * size; {
	case math.Abs(v) <= tol:
		v = 0
	case v < 0:
		return 0, undefined(InconsistentSums, "negative residual variance after adjustment")
	}
	return v / l.units, nil
}

// CUPEDMean adjusts a mean per unit (Num) by the same metric before exposure
// (PreNum): y - theta x with theta pooled over both arms together (Deng, Xu,
// Kohavi, Walker 2013).
func CUPEDMean(control, treatment Moments) (Adjusted, error) {
	arm := func(m Moments) (linear, error) {
		if err := m.check(Num, PreNum); err != nil {
			return linear{}, err
		}
		if m.Units < 2 {
			return linear{}, undefined(TooFewUnits, "1 unit has no variance")
		}
		return linear{
			level: m.Mean[Num], pre: m.Mean[PreNum], units: float64(m.Units),
			uu: m.Cov(Num, Num), uw: m.Cov(Num, PreNum), ww: m.Cov(PreNum, PreNum),
		}, nil
	}
	c, err := arm(control)
	if err != nil {
		return Adjusted{}, err
	}
	t, err := arm(treatment)
	if err != nil {
		return Adjusted{}, err
	}
	pooled := control.Merge(treatment)
	theta, plain := 0.0, true
	if ww := pooled.C[PreNum][PreNum]; ww > pooled.noise[PreNum][PreNum] && pooled.C[Num][Num] > 0 {
		theta, plain = pooled.C[Num][PreNum]/ww, false
	}
	return adjust(c, t, theta, plain)
}

// CUPEDRatio adjusts a ratio of sums (Num/Den) by the same ratio before
// exposure (PreNum/PreDen), linearised per unit; theta is the sum over arms of
// the covariances divided by that of the variances. Without any pre-period
// denominator the result is the plain ratio, flagged.
func CUPEDRatio(control, treatment Moments) (Adjusted, error) {
	if err := first(control.check(Num, Den, PreNum, PreDen), treatment.check(Num, Den, PreNum, PreDen)); err != nil {
		return Adjusted{}, err
	}
	hasPre := control.Mean[PreDen] != 0 && treatment.Mean[PreDen] != 0
	arm := func(m Moments) (linear, error) {
		if m.Mean[Den] == 0 {
			return linear{}, undefined(ZeroDenominator, "the denominator sums to 0")
		}
		if m.Units < 2 {
			return linear{}, undefined(TooFewUnits, "1 unit has no variance")
		}
		r := m.Mean[Num] / m.Mean[Den]
		u := [4]float64{Num: 1 / m.Mean[Den], Den: -r / m.Mean[Den]}
		l := linear{level: r, units: float64(m.Units)}
		var w [4]float64
		if hasPre {
			l.pre = m.Mean[PreNum] / m.Mean[PreDen]
			w = [4]float64{PreNum: 1 / m.Mean[PreDen], PreDen: -l.pre / m.Mean[PreDen]}
		}
		var err error
		if l.uu, err = m.residual(u); err != nil {
			return l, err
		}
		if l.ww, err = m.residual(w); err != nil {
			return l, err
		}
		for i := range u {
			for j := range w {
				l.uw += u[i] * w[j] * m.C[i][j]
			}
		}
		n1 := float64(m.Units - 1)
		l.uu, l.uw, l.ww = l.uu/n1, l.uw/n1, l.ww/n1
		return l, nil
	}
	c, err := arm(control)
	if err != nil {
		return Adjusted{}, err
	}
	t, err := arm(treatment)
	if err != nil {
		return Adjusted{}, err
	}
	theta, plain := 0.0, true
	if ww := c.ww + t.ww; ww > 0 {
		theta, plain = (c.uw+t.uw)/ww, false
	}
	return adjust(c, t, theta, plain)
}

func adjust(c, t linear, theta float64, plain bool) (Adjusted, error) {
	if err := finite(theta); err != nil {
		return Adjusted{}, err
	}
	vc, err := c.variance(1, -theta)
	if err != nil {
		return Adjusted{}, err
	}
	vt, err := t.variance(1, -theta)
	if err != nil {
		return Adjusted{}, err
	}
	return Adjusted{
		Theta: theta, Unadjusted: plain, Baseline: c.level,
		Control:   Estimate{Value: c.level - theta*c.pre, Var: vc, Units: c.units},
		Treatment: Estimate{Value: t.level - theta*t.pre, Var: vt, Units: t.units},
		controlLift: func(adj, base float64) (float64, error) {
			// Gradient of adj/|base| in the control: -1/|base| from the
			// difference, -adj sgn/base2 from the division, on u; theta/|base| on w.
			return c.variance(-1/math.Abs(base)-adj*math.Copysign(1, base)/(base*base), theta/math.Abs(base))
		},
	}, nil
}

// Difference is the adjusted treatment minus the adjusted control.
func (a Adjusted) Difference(t Test) (Effect, error) {
	return Difference(a.Control, a.Treatment, t)
}

// Lift is the adjusted difference divided by the unadjusted control, with the
// delta method over both.
func (a Adjusted) Lift(t Test) (Effect, error) {
	if err := first(t.check(), a.Control.check(), a.Treatment.check()); err != nil {
		return Effect{}, err
	}
	if a.Baseline == 0 {
		return Effect{}, undefined(ZeroControlMean, "lift divides by the control, which is 0")
	}
	adj := a.Treatment.Value - a.Control.Value
	vc, err := a.controlLift(adj, a.Baseline)
	if err != nil {
		return Effect{}, err
	}
	v := vc + a.Treatment.Var/(a.Baseline*a.Baseline)
	return t.effect(adj/math.Abs(a.Baseline), v, WelchDF(a.Control, a.Treatment))
}
