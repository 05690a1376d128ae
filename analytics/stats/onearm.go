package stats

import "math"

// Estimate is what one arm says about a metric: the value, the variance of that
// value (already divided by the sample size), and the number of randomization
// units it rests on (for degrees of freedom).
type Estimate struct {
	Value float64
	Var   float64
	Units float64
}

// SE is the standard error of the value.
func (e Estimate) SE() float64 { return math.Sqrt(e.Var) }

// Interval is the two-sided interval of one arm's value at 1-alpha, with Units-1
// degrees of freedom. For a value above 0 it is that of the logarithm (standard
// error SE/Value, by the delta method): sums of stalls and the like are skewed to
// the right, so that Student's interval around the value misses the truth above it
// far more often than below, and may begin below 0. Comparisons of arms do not use
// it: the skews of both cancel. Undefined where check refuses the estimate.
func (e Estimate) Interval(alpha float64) (Interval, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), e.check()); err != nil {
		return Interval{}, err
	}
	return e.Within(studentQuantileSF(alpha/2, e.Units-1))
}

// Within is Interval with its critical value given, for those who ask for many.
func (e Estimate) Within(critical float64) (Interval, error) {
	if err := first(e.check(), positive(critical, "critical value")); err != nil {
		return Interval{}, err
	}
	h := critical * e.SE()
	if up := e.Value * math.Exp(h/e.Value); e.Value > 0 && !math.IsInf(up, 1) {
		return Interval{e.Value * math.Exp(-h/e.Value), up}, nil
	}
	return Interval{e.Value - h, e.Value + h}, nil
}

// check refuses an estimate that cannot be compared.
func (e Estimate) check() error {
	if err := finite(e.Value, e.Var, e.Units); err != nil {
		return err
	}
	switch {
	case e.Var < 0:
		return undefined(InconsistentSums, "negative variance %v", e.Var)
	case e.Units < 1:
		return undefined(EmptyArm, "no units")
	case e.Var == 0:
		return undefined(ZeroVariance, "an arm does not vary")
	case e.Units < 2:
		return undefined(TooFewUnits, "an arm has %v units, needs 2", e.Units)
	}
	return nil
}

// Proportion is the share of units with an event: p, with variance p(1-p)/n.
// When all or no units have it the variance is 0 and comparisons by Wald are
// undefined; NewcombeDiff still answers.
func Proportion(events, units int64) (Estimate, error) {
	if err := checkCounts(events, units); err != nil {
		return Estimate{}, err
	}
	n := float64(units)
	p := float64(events) / n
	return Estimate{Value: p, Var: p * (1 - p) / n, Units: n}, nil
}

func checkCounts(events, units int64) error {
	switch {
	case units < 0 || events < 0:
		return undefined(InvalidCount, "%d events of %d units", events, units)
	case events > units:
		return undefined(InconsistentSums, "%d events of only %d units", events, units)
	case units == 0:
		return undefined(EmptyArm, "no units")
	}
	return nil
}

// Mean is the mean of Num over units, with variance s2/n (s2 with n-1). Needs
// two units.
func Mean(m Moments) (Estimate, error) {
	if err := m.check(Num); err != nil {
		return Estimate{}, err
	}
	if m.Units < 2 {
		return Estimate{}, undefined(TooFewUnits, "1 unit has no variance")
	}
	n := float64(m.Units)
	return Estimate{Value: m.Mean[Num], Var: m.Cov(Num, Num) / n, Units: n}, nil
}

// Ratio is the ratio of sums Num/Den with units as clusters, by the delta
// method in residual form: e = x - R d, V = sum e2 K/(K-1)/(sum d)2 (Deng,
// Knoblich, Lu 2018). Right for stall ratios, stalls per hour and per-session
// rates alike. Needs two units and a denominator.
func Ratio(m Moments) (Estimate, error) {
	if err := m.check(Num, Den); err != nil {
		return Estimate{}, err
	}
	if m.Mean[Den] == 0 {
		return Estimate{}, undefined(ZeroDenominator, "the denominator sums to 0")
	}
	if m.Units < 2 {
		return Estimate{}, undefined(TooFewUnits, "1 unit has no variance")
	}
	k := float64(m.Units)
	r := m.Mean[Num] / m.Mean[Den]
	ss, err := m.residual([4]float64{Num: 1, Den: -r})
	if err != nil {
		return Estimate{}, err
	}
	d := m.Mean[Den] * k
	return Estimate{Value: r, Var: ss * k / (k - 1) / (d * d), Units: k}, nil
}

// residual is the sum of squared deviations of the linear combination w.x, 0
// when it is no larger than rounding, InconsistentSums when negative.
func (m Moments) residual(w [4]float64) (float64, error) {
	var ss, size, noise float64
	for i := range w {
		for j := range w {
			ss += w[i] * w[j] * m.C[i][j]
			size += math.Abs(w[i] * w[j] * m.C[i][j])
			noise += math.Abs(w[i]*w[j]) * m.noise[i][j]
		}
	}
	switch tol := noise + 1e-14*size; {
	case math.Abs(ss) <= tol:
		return 0, nil
	case ss < 0:
		return 0, undefined(InconsistentSums, "negative residual variance: a cross product does not fit the squares")
	}
	return ss, nil
}
