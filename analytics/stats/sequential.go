package stats

import "math"

// CS holds the settings of an asymptotic confidence sequence (Waudby-Smith et
// al., arXiv 2103.06476; Howard et al., arXiv 1810.08240), fixed before the
// first look: changing one afterwards voids the guarantee.
type CS struct {
	Alpha float64 // error rate over all looks together
	// NStar is the number of units, both arms together, at which a decision is
	// expected; the sequence is tightest there.
	NStar       float64
	Alternative Alternative // Greater and Less spend all of Alpha on one side; Alpha must be below 1/2
	// DF are the degrees of freedom of the standard error; 0: it is as good as known. A standard error from few
	// clusters is too small as often as not: the interval is as much wider as makes Student's tail beyond it that of
	// the normal sequence, at each look.
	DF float64
}

// student is the multiple of a standard error with DF degrees of freedom that has the tail of k known ones.
func (c CS) student(k float64) float64 {
	if c.DF == 0 || math.IsInf(c.DF, 1) {
		return k
	}
	return studentQuantileSF(NormalSF(k), c.DF)
}

// normal is the inverse of student, of either sign.
func (c CS) normal(t float64) float64 {
	if c.DF == 0 || math.IsInf(c.DF, 1) || t == 0 {
		return t
	}
	return math.Copysign(normalQuantileSF(StudentSF(math.Abs(t), c.DF)), t)
}

// Sequence is the state of a confidence sequence at one look.
type Sequence struct {
	Rho          float64 // mixing scale
	HalfWidth    float64
	Lower, Upper float64 // one end is infinite when one-sided
	P            float64 // always-valid p-value of "no effect"
	E            float64 // e-value (two-sided only, else 0); may be +Inf
}

// MinUnitsPerArm and MinActivePerArm say from when on the asymptotics of a
// confidence sequence are trusted: units, and units with a non-zero numerator,
// in each arm. Give no verdict before.
const (
	MinUnitsPerArm  = 100
	MinActivePerArm = 30
)

func (c CS) rho() (float64, error) {
	a := c.Alpha
	if err := first(probability(a, InvalidAlpha, "alpha"), positive(c.NStar, "planned number of units")); err != nil {
		return 0, err
	}
	switch c.Alternative {
	case TwoSided:
	case Greater, Less:
		if a *= 2; a >= 1 {
			return 0, undefined(InvalidAlpha, "one-sided alpha %v must be below 0.5", c.Alpha)
		}
	default:
		return 0, undefined(InvalidParameter, "unknown alternative %d", c.Alternative)
	}
	return math.Sqrt((-2*math.Log(a) + math.Log1p(-2*math.Log(a))) / c.NStar), nil
}

// factor is half width divided by standard error.
func (c CS) factor(n float64) (k, rho float64, err error) {
	if rho, err = c.rho(); err != nil {
		return 0, 0, err
	}
	b := n*rho*rho + 1
	log := 0.5*math.Log(b) - math.Log(c.Alpha)
	if c.Alternative != TwoSided {
		log = math.Log1p(math.Sqrt(b) / (2 * c.Alpha))
	}
	return math.Sqrt(n) * math.Sqrt(2*b/(n*n*rho*rho)*log), rho, nil
}

// At is the sequence when the estimate has standard error se (over units) and
// n units of both arms are in. Valid at every look at once.
func (c CS) At(estimate, se, n float64) (Sequence, error) {
	if err := finite(estimate, se, n); err != nil {
		return Sequence{}, err
	}
	if !(c.DF >= 0) {
		return Sequence{}, undefined(InvalidParameter, "%v degrees of freedom", c.DF)
	}
	switch {
	case se < 0:
		return Sequence{}, undefined(InconsistentSums, "negative standard error %v", se)
	case n < 0:
		return Sequence{}, undefined(InvalidCount, "%v units", n)
	case n == 0:
		return Sequence{}, undefined(EmptyArm, "no units")
	}
	k, rho, err := c.factor(n)
	if err != nil {
		return Sequence{}, err
	}
	if se == 0 {
		return Sequence{}, undefined(ZeroVariance, "standard error 0")
	}
	k = c.student(k)
	s := Sequence{Rho: rho, HalfWidth: k * se, Lower: estimate - k*se, Upper: estimate + k*se}
	switch c.Alternative {
	case Greater:
		s.Upper = math.Inf(1)
		s.P = c.oneSidedP(c.normal(estimate/se), n)
	case Less:
		s.Lower = math.Inf(-1)
		s.P = c.oneSidedP(c.normal(-estimate/se), n)
	default:
		b := n*rho*rho + 1
		t := c.normal(estimate / se)
		lnE := rho*rho*t*t*n/(2*b) - 0.5*math.Log(b)
		s.E, s.P = math.Exp(lnE), math.Min(1, math.Exp(-lnE))
	}
	return s, nil
}

// oneSidedP is the smallest alpha at which the one-sided sequence with the same
// NStar excludes 0; 1 when none does. Towards alpha 1/2 the mixture spreads out
// and intervals grow again, so the search ends where they are shortest.
func (c CS) oneSidedP(t, n float64) float64 {
	k := func(lnAlpha float64) float64 {
		k, _, err := CS{Alpha: math.Exp(lnAlpha), NStar: c.NStar, Alternative: Greater}.factor(n)
		if err != nil {
			return math.Inf(1)
		}
		return k
	}
	lo, hi := math.Log(1e-6), math.Log(0.5)
	for range 100 {
		a, b := lo+(hi-lo)/3, hi-(hi-lo)/3
		if k(a) < k(b) {
			hi = b
		} else {
			lo = a
		}
	}
	if t <= k(lo) {
		return 1
	}
	return math.Exp(bisect(math.Log(1e-300), lo, func(x float64) bool { return t <= k(x) }))
}

// Inflation is the sequence's half width divided by that of a fixed test at the
// same alpha, when n units are in: the factor to put on the standard error when
// planning.
func (c CS) Inflation(n float64) (float64, error) {
	if err := positive(n, "units"); err != nil {
		return 0, err
	}
	k, _, err := c.factor(n)
	if err != nil {
		return 0, err
	}
	return k / Test{Alpha: c.Alpha, Dist: Normal, Alternative: c.Alternative}.critical(0), nil
}

// MSPRT is one look of a mixture sequential probability ratio test.
type MSPRT struct {
	LR    float64 // likelihood ratio against no effect; may be +Inf
	LnLR  float64
	P     float64 // min(1, 1/LR); keep the running minimum over looks
	Alpha float64 // copied from the input
	// HalfWidth is the half width of the confidence sequence at Alpha.
	HalfWidth float64
}

// MixtureSPRT tests an estimate with known variance v against 0, mixing the
// alternative over N(0, tau2) (Johari et al.). tau2 must be fixed before the
// first look.
func MixtureSPRT(estimate, v, tau2, alpha float64) (MSPRT, error) {
	if err := first(finite(estimate, v), positive(tau2, "mixing variance"), probability(alpha, InvalidAlpha, "alpha")); err != nil {
		return MSPRT{}, err
	}
	if v < 0 {
		return MSPRT{}, undefined(InconsistentSums, "negative variance %v", v)
	}
	if v == 0 {
		return MSPRT{}, undefined(ZeroVariance, "variance 0")
	}
	ln := 0.5*math.Log(v/(v+tau2)) + tau2*(estimate*estimate)/(2*v*(v+tau2))
	if err := finite(ln); err != nil {
		return MSPRT{}, err
	}
	return MSPRT{
		LnLR: ln, LR: math.Exp(ln), P: math.Min(1, math.Exp(-ln)), Alpha: alpha,
		HalfWidth: math.Sqrt(v * (v + tau2) / tau2 * (-2*math.Log(alpha) + math.Log((v+tau2)/v))),
	}, nil
}

// RunningMin is the always-valid p-value over looks: the least so far. The
// first value of a sequence is compared with 1.
func RunningMin(ps []float64) ([]float64, error) {
	out := make([]float64, len(ps))
	best := 1.0
	for i, p := range ps {
		if !(p >= 0 && p <= 1) {
			return nil, undefined(InvalidPValue, "p-value %v at look %d", p, i)
		}
		best = math.Min(best, p)
		out[i] = best
	}
	return out, nil
}
