package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Jackknife is the delete-a-group estimate over n buckets: theta(-1) is the
// statistic of all data, theta(b) that of all data without bucket b, and V =
// (n-1)/n sum (theta(b) - mean)2. Valid for any smooth statistic and, because
// whole groups go, for quantiles. Needs two buckets; a theta that is undefined
// makes the result undefined.
func Jackknife(n int, theta func(without int) (float64, error)) (Estimate, error) {
	switch {
	case n < 0:
		return Estimate{}, undefined(InvalidCount, "%d buckets", n)
	case n == 0:
		return Estimate{}, undefined(EmptyArm, "no buckets")
	case n == 1:
		return Estimate{}, undefined(TooFewUnits, "1 bucket has no variance")
	}
	full, err := theta(-1)
	if err != nil {
		return Estimate{}, err
	}
	var m Moments
	for b := range n {
		v, err := theta(b)
		if err != nil {
			return Estimate{}, err
		}
		m.Add(Totals{Num: v})
	}
	if err := finite(full, m.Mean[Num], m.C[Num][Num]); err != nil {
		return Estimate{}, err
	}
	k := float64(n)
	return Estimate{Value: full, Var: (k - 1) / k * m.C[Num][Num], Units: k}, nil
}

// JackknifeRatio is Jackknife for a ratio of sums over bucket totals.
func JackknifeRatio(buckets []Totals) (Estimate, error) {
	var all Totals
	for _, b := range buckets {
		all[Num] += b[Num]
		all[Den] += b[Den]
	}
	return Jackknife(len(buckets), func(without int) (float64, error) {
		num, den := all[Num], all[Den]
		if without >= 0 {
			num, den = num-buckets[without][Num], den-buckets[without][Den]
		}
		if den == 0 {
			return 0, undefined(ZeroDenominator, "the denominator sums to 0")
		}
		return num / den, nil
	})
}

// Bootstrap is a percentile interval with the standard error of the replicates.
type Bootstrap struct {
	Estimate     float64
	SE           float64
	Lower, Upper float64
}

// BootstrapRatio resamples units (never rows) with replacement and takes the
// percentile interval of the ratio of sums. It is the check for the formulas,
// and deterministic for a seed. At least 2,000 replicates are advised.
func BootstrapRatio(units []Totals, replicates int, alpha float64, seed uint64) (Bootstrap, error) {
	if err := probability(alpha, InvalidAlpha, "alpha"); err != nil {
		return Bootstrap{}, err
	}
	if replicates < 2 || replicates > 1_000_000 {
		return Bootstrap{}, undefined(InvalidParameter, "%d replicates, must be 2 to 1000000", replicates)
	}
	point, err := Ratio(Of(units))
	if err != nil {
		return Bootstrap{}, err
	}
	if point.Var == 0 {
		return Bootstrap{}, undefined(ZeroVariance, "every unit has the same ratio")
	}
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	out := make([]float64, replicates)
	var m Moments
	for i := range out {
		var num, den float64
		for range units {
			u := units[r.IntN(len(units))]
			num += u[Num]
			den += u[Den]
		}
		if den == 0 {
			return Bootstrap{}, undefined(ZeroDenominator, "a resample has no denominator: too few units have any")
		}
		out[i] = num / den
		m.Add(Totals{Num: out[i]})
	}
	slices.Sort(out)
	return Bootstrap{Estimate: point.Value, SE: math.Sqrt(m.Cov(Num, Num)), Lower: percentile(out, alpha/2), Upper: percentile(out, 1-alpha/2)}, nil
}

// percentile interpolates linearly between order statistics.
func percentile(sorted []float64, p float64) float64 {
	x := p * float64(len(sorted)-1)
	i := int(x)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
}

// WinsorCap is the threshold at which per-unit totals are capped: the level
// quantile (say 0.999) of both arms pooled. Compute it once, when the analysis
// is defined, and keep it. Never cap quantile metrics.
func WinsorCap(control, treatment []float64, level float64) (float64, error) {
	if err := probability(level, InvalidParameter, "winsorizing level"); err != nil {
		return 0, err
	}
	all := slices.Concat(control, treatment)
	if len(all) == 0 {
		return 0, undefined(EmptyArm, "no units")
	}
	if err := finite(all...); err != nil {
		return 0, err
	}
	slices.Sort(all)
	return percentile(all, level), nil
}

// Winsorize returns the totals capped, and how many were.
func Winsorize(totals []float64, limit float64) ([]float64, int) {
	out := slices.Clone(totals)
	capped := 0
	for i, x := range out {
		if x > limit {
			out[i] = limit
			capped++
		}
	}
	return out, capped
}

// TopShare is the share of the total held by the largest 1 % of units (at
// least one): how much a few units decide the metric.
func TopShare(totals []float64) (float64, error) {
	if len(totals) == 0 {
		return 0, undefined(EmptyArm, "no units")
	}
	if err := finite(totals...); err != nil {
		return 0, err
	}
	s := slices.Clone(totals)
	slices.Sort(s)
	var top, sum float64
	k := (len(s) + 99) / 100
	for i, x := range s {
		if x < 0 {
			return 0, undefined(InconsistentSums, "negative total %v", x)
		}
		sum += x
		if i >= len(s)-k {
			top += x
		}
	}
	if sum == 0 {
		return 0, undefined(ZeroDenominator, "totals sum to 0")
	}
	return top / sum, nil
}
