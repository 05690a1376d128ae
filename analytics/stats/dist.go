package stats

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Dist is the reference distribution of a test statistic.
type Dist int

const (
	// StudentT is Student's t with Welch-Satterthwaite degrees of freedom.
	StudentT Dist = iota
	// Normal is the standard normal.
	Normal
)

// Alternative is the direction of a test.
type Alternative int

const (
	// TwoSided asks whether the effect differs from zero.
	TwoSided Alternative = iota
	// Greater asks whether the effect is above zero; its interval has no upper end.
	Greater
	// Less asks whether the effect is below zero; its interval has no lower end.
	Less
)

// NormalSF is P(Z > z), exact far into the tail.
func NormalSF(z float64) float64 { return 0.5 * math.Erfc(z/math.Sqrt2) }

// NormalCDF is P(Z <= z).
func NormalCDF(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

// NormalQuantile is the inverse of NormalCDF for 0 < p < 1.
func NormalQuantile(p float64) float64 {
	if p > 0.5 {
		return -normalUpper(p)
	}
	z := mathext.NormalQuantile(p)
	return polish(z, p)
}

// normalUpper handles p > 1/2 by symmetry, which keeps 1-p exact there.
func normalUpper(p float64) float64 { return polish(mathext.NormalQuantile(1-p), 1-p) }

// normalQuantileSF returns z with P(Z > z) = q, exact for tiny q.
func normalQuantileSF(q float64) float64 { return -NormalQuantile(q) }

// polish takes one Halley step towards CDF(z) = p, p <= 1/2.
func polish(z, p float64) float64 {
	if math.IsInf(z, 0) || math.IsNaN(z) {
		return z
	}
	e := (NormalCDF(z) - p) / normalPDF(z)
	return z - e/(1+z*e/2)
}

func normalPDF(z float64) float64 { return math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) }

// StudentSF is P(T > t) for df > 0 degrees of freedom, by the incomplete beta
// function taken on the side that keeps the tail exact. df = +Inf is normal.
func StudentSF(t, df float64) float64 {
	if t != t || !(df > 0) {
		return math.NaN()
	}
	if t < 0 {
		return 1 - StudentSF(-t, df)
	}
	if math.IsInf(t, 1) {
		return 0
	}
	if df > 1e6 { // the incomplete beta function loses digits here; the expansion has them
		if t > 30 || math.IsInf(df, 1) {
			return NormalSF(t)
		}
		t3 := t * t * t
		return NormalSF(t - (t3+t)/(4*df) + (13*t3*t*t+8*t3+3*t)/(96*df*df))
	}
	t2 := t * t
	if t2 < 1 { // beyond, 0.5 minus nearly 0.5 would be no tail at all
		return 0.5 - 0.5*mathext.RegIncBeta(0.5, df/2, t2/(df+t2))
	}
	return 0.5 * mathext.RegIncBeta(df/2, 0.5, df/(df+t2))
}

// StudentQuantile is the p-quantile of Student's t, 0 < p < 1.
func StudentQuantile(p, df float64) float64 {
	if p == 0.5 {
		return 0
	}
	if p < 0.5 {
		return -studentQuantileSF(p, df)
	}
	return studentQuantileSF(1-p, df)
}

// studentQuantileSF returns t > 0 with P(T > t) = q, 0 < q < 1/2: Newton steps
// on the tail from the normal quantile, kept inside a bracket.
func studentQuantileSF(q, df float64) float64 {
	if !(df > 0) {
		return math.NaN()
	}
	z := normalQuantileSF(q)
	lo, hi := 0.0, math.Max(1, z)
	for StudentSF(hi, df) > q {
		lo, hi = hi, hi*2
		if math.IsInf(hi, 1) {
			return hi
		}
	}
	if math.IsInf(df, 1) {
		return z
	}
	logC := logGamma((df+1)/2) - logGamma(df/2) - 0.5*math.Log(df*math.Pi)
	t := math.Min(math.Max(z+(z*z*z+z)/(4*df), lo), hi)
	for range 200 {
		sf := StudentSF(t, df)
		if sf > q {
			lo = t
		} else {
			hi = t
		}
		density := normalPDF(t)
		if df <= 1e6 {
			density = math.Exp(logC - (df+1)/2*math.Log1p(t*t/df))
		}
		step := (sf - q) / density
		next := t + step
		if !(next > lo && next < hi) {
			next = (lo + hi) / 2
		}
		if math.Abs(next-t) <= 1e-14*math.Max(1, t) {
			return next
		}
		t = next
	}
	return t
}

// ChiSquareSF is P(X > x) for df degrees of freedom.
func ChiSquareSF(x, df float64) float64 {
	if x <= 0 {
		return 1
	}
	return mathext.GammaIncRegComp(df/2, x/2)
}

// binomialCDF is P(Bin(n,p) <= k).
func binomialCDF(k, n int64, p float64) float64 {
	if k < 0 {
		return 0
	}
	if k >= n {
		return 1
	}
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-p)
}

// tail is the upper tail of the chosen distribution, quantile its inverse.
func (d Dist) sf(x, df float64) float64 {
	if d == Normal {
		return NormalSF(x)
	}
	return StudentSF(x, df)
}

// critical returns the point exceeded with probability q.
func (d Dist) critical(q, df float64) float64 {
	if d == Normal {
		return normalQuantileSF(q)
	}
	return StudentQuantile(1-q, df)
}

// pValue turns a statistic into a p-value by the upper tail function, which
// stays above 0 where 1-cdf no longer does.
func (d Dist) pValue(stat, df float64, a Alternative) float64 {
	switch a {
	case Greater:
		return d.sf(stat, df)
	case Less:
		return d.sf(-stat, df)
	}
	return math.Min(1, 2*d.sf(math.Abs(stat), df))
}

// interval returns estimate +- critical*se, with an infinite end where the
// alternative is one-sided.
func (d Dist) interval(estimate, se, df, alpha float64, a Alternative) (lo, hi float64) {
	switch a {
	case Greater:
		return estimate - d.critical(alpha, df)*se, math.Inf(1)
	case Less:
		return math.Inf(-1), estimate + d.critical(alpha, df)*se
	}
	h := d.critical(alpha/2, df) * se
	return estimate - h, estimate + h
}

func logGamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}
