package stats

import "math"

// Plan is what planning an experiment fixes in advance.
type Plan struct {
	Alpha    float64
	Power    float64 // chance to find the effect, in (0, 1)
	OneSided bool
	// Ratio is units in treatment per unit in control; 1 when 0.
	Ratio float64
}

// z is the sum of the two normal quantiles, and the split.
func (p Plan) z() (z, split float64, err error) {
	if err := first(probability(p.Alpha, InvalidAlpha, "alpha"), probability(p.Power, InvalidParameter, "power")); err != nil {
		return 0, 0, err
	}
	if p.Ratio == 0 {
		p.Ratio = 1
	}
	if err := positive(p.Ratio, "treatment to control ratio"); err != nil {
		return 0, 0, err
	}
	z = p.zAlpha() + NormalQuantile(p.Power)
	if z <= 0 {
		return 0, 0, undefined(InvalidParameter, "power %v is reached without data", p.Power)
	}
	return z, p.Ratio, nil
}

func (p Plan) zAlpha() float64 {
	if p.OneSided {
		return normalQuantileSF(p.Alpha)
	}
	return normalQuantileSF(p.Alpha / 2)
}

// Size is units per arm, not rounded.
type Size struct{ Control, Treatment float64 }

// SizeMean is the units needed to find an absolute effect delta on a mean with
// per-unit variance v (for a ratio metric: v = K V(R) from history; for
// non-inferiority: delta is the margin, one-sided).
func (p Plan) SizeMean(v, delta float64) (Size, error) {
	z, k, err := p.z()
	if err != nil {
		return Size{}, err
	}
	if err := first(variance(v), effectSize(delta)); err != nil {
		return Size{}, err
	}
	n := z * z * v * (1 + 1/k) / (delta * delta)
	return Size{n, n * k}, finite(n, n*k)
}

// SizeProportion is the units needed to tell two proportions apart, with the
// variances of both (unpooled).
func (p Plan) SizeProportion(control, treatment float64) (Size, error) {
	z, k, err := p.z()
	if err != nil {
		return Size{}, err
	}
	for _, q := range []float64{control, treatment} {
		if !(q >= 0 && q <= 1) {
			return Size{}, undefined(InvalidParameter, "proportion %v lies outside [0, 1]", q)
		}
	}
	if err := effectSize(treatment - control); err != nil {
		return Size{}, err
	}
	d := treatment - control
	n := z * z * (control*(1-control) + treatment*(1-treatment)/k) / (d * d)
	if n <= 0 {
		return Size{}, undefined(ZeroVariance, "proportions %v and %v do not vary", control, treatment)
	}
	return Size{n, n * k}, finite(n, n*k)
}

// PowerMean is the power of the z-test for effect delta with per-unit variance
// v and the given units. Two-sided counts both tails.
func PowerMean(v, delta, control, treatment, alpha float64, oneSided bool) (float64, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), variance(v), finite(delta), units(control), units(treatment)); err != nil {
		return 0, err
	}
	se := math.Sqrt(v * (1/control + 1/treatment))
	z := Plan{Alpha: alpha, OneSided: oneSided}.zAlpha()
	if oneSided {
		return NormalCDF(math.Abs(delta)/se - z), nil
	}
	return NormalCDF(delta/se-z) + NormalCDF(-delta/se-z), nil
}

// MDEMean is the smallest absolute effect found with the plan's power.
func (p Plan) MDEMean(v, control, treatment float64) (float64, error) {
	z, _, err := p.z()
	if err != nil {
		return 0, err
	}
	if err := first(variance(v), units(control), units(treatment)); err != nil {
		return 0, err
	}
	return z * math.Sqrt(v*(1/control+1/treatment)), nil
}

// MDELift is the smallest lift found with the plan's power when the noise of
// the control in the denominator counts: perArm units in each arm, mean mu. It
// does not exist unless perArm > z2 v/mu2 (OutOfReach).
func (p Plan) MDELift(mu, v, perArm float64) (float64, error) {
	k, _, err := p.z()
	if err != nil {
		return 0, err
	}
	if err := first(finite(mu), variance(v), units(perArm)); err != nil {
		return 0, err
	}
	if mu == 0 {
		return 0, undefined(ZeroControlMean, "lift divides by the control, which is 0")
	}
	mu = math.Abs(mu)
	s := v / perArm
	d := 1 - k*k*s/(mu*mu)
	if !(d > 0) {
		return 0, undefined(OutOfReach, "no lift can be found with %v units an arm", perArm)
	}
	t := (mu + k*math.Sqrt(s*(2-k*k*s/(mu*mu)))) / d
	return (t - mu) / mu, nil
}

// DesignEffect is the factor by which clusters inflate the rows needed:
// 1 + ((1+cv2) m - 1) icc for clusters of mean size m with coefficient of
// variation cv. Effective rows are rows divided by it.
func DesignEffect(meanSize, cv, icc float64) (float64, error) {
	if err := first(positive(meanSize, "mean cluster size"), finite(cv, icc)); err != nil {
		return 0, err
	}
	if cv < 0 || icc < -1 || icc > 1 {
		return 0, undefined(InvalidParameter, "coefficient of variation %v must not be negative, intra-cluster correlation %v must lie in [-1, 1]", cv, icc)
	}
	d := 1 + ((1+cv*cv)*meanSize-1)*icc
	if d <= 0 {
		return 0, undefined(InvalidParameter, "intra-cluster correlation %v is impossible for clusters of %v", icc, meanSize)
	}
	return d, nil
}

// EffectiveClusters is (sum m)2/sum m2, the number of equal streams that unequal
// audiences m amount to. Below about 30 an arm, use time blocks instead.
func EffectiveClusters(sizes []float64) (float64, error) {
	var s, s2 float64
	for _, m := range sizes {
		if err := finite(m); err != nil {
			return 0, err
		}
		if m < 0 {
			return 0, undefined(InvalidCount, "audience of %v", m)
		}
		s, s2 = s+m, s2+m*m
	}
	if s == 0 {
		return 0, undefined(EmptyArm, "no audience")
	}
	return s * s / s2, nil
}

// MinRunDays is the shortest run: one whole week, because hours and days of the
// week differ more than strategies do.
const MinRunDays = 7

// DurationDays is how many days a plan takes at newUnitsPerDay (both arms
// together), rounded up to whole weeks. New units, not visits: a viewer counts
// once. OutOfReach beyond ten years.
func DurationDays(s Size, newUnitsPerDay float64) (int, error) {
	if err := first(finite(s.Control, s.Treatment), positive(newUnitsPerDay, "new units per day")); err != nil {
		return 0, err
	}
	if s.Control <= 0 || s.Treatment <= 0 {
		return 0, undefined(InvalidCount, "planned units %v and %v", s.Control, s.Treatment)
	}
	days := (s.Control + s.Treatment) / newUnitsPerDay
	if days > 3650 {
		return 0, undefined(OutOfReach, "%.0f days at %v new units a day", days, newUnitsPerDay)
	}
	return max(1, int(math.Ceil(days/MinRunDays))) * MinRunDays, nil
}

func variance(v float64) error {
	if err := finite(v); err != nil {
		return err
	}
	if v < 0 {
		return undefined(InconsistentSums, "negative variance %v", v)
	}
	if v == 0 {
		return undefined(ZeroVariance, "variance 0")
	}
	return nil
}

func effectSize(d float64) error {
	if err := finite(d); err != nil {
		return err
	}
	if d == 0 {
		return undefined(InvalidParameter, "an effect of 0 needs infinitely many units")
	}
	return nil
}

func units(n float64) error {
	if err := finite(n); err != nil {
		return err
	}
	if n < 0 {
		return undefined(InvalidCount, "%v units", n)
	}
	if n == 0 {
		return undefined(EmptyArm, "no units")
	}
	return nil
}
