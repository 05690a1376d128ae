package stats

import (
	"math"
	"slices"
)

// Family is the adjusted p-values of a family of tests, in input order; compare each with alpha.
type Family struct {
	Bonferroni []float64
	Holm       []float64
	BH         []float64 // Benjamini-Hochberg: false discovery rate, independence or positive dependence
	BY         []float64 // Benjamini-Yekutieli: the same under any dependence
}

// AdjustP adjusts p-values for the number of tests. Undefined tests leave the
// family before the call and are named in the report.
func AdjustP(ps []float64) (Family, error) {
	m := len(ps)
	if m == 0 {
		return Family{}, undefined(InvalidParameter, "no p-values")
	}
	order := make([]int, m)
	for i, p := range ps {
		if !(p >= 0 && p <= 1) {
			return Family{}, undefined(InvalidPValue, "p-value %d is %v", i, p)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case ps[a] < ps[b]:
			return -1
		case ps[a] > ps[b]:
			return 1
		}
		return 0
	})
	f := Family{make([]float64, m), make([]float64, m), make([]float64, m), make([]float64, m)}
	harmonic, up := 0.0, 0.0
	for k, i := range order {
		harmonic += 1 / float64(k+1)
		f.Bonferroni[i] = math.Min(1, float64(m)*ps[i])
		up = math.Max(up, math.Min(1, float64(m-k)*ps[i]))
		f.Holm[i] = up
	}
	bh, by := 1.0, 1.0
	for k := m - 1; k >= 0; k-- {
		i := order[k]
		q := ps[i] * (float64(m) / float64(k+1)) // never below ps[i], also after rounding
		bh, by = math.Min(bh, q), math.Min(by, q*harmonic)
		f.BH[i], f.BY[i] = bh, by
	}
	return f, nil
}

// Phase is one stretch of an experiment with a constant split, or one stratum.
type Phase struct {
	Effect, Var float64
	Weight      float64 // such as exposed units of both arms
}

// Combine averages effects of phases: sum w D with variance sum w2 V, weights
// normalised. It is the answer when the split changed over time, where pooling
// would mix the change of traffic with the effect (Simpson's paradox).
func Combine(phases []Phase) (effect, variance float64, err error) {
	var sum float64
	for i, p := range phases {
		if err := finite(p.Effect, p.Var, p.Weight); err != nil {
			return 0, 0, err
		}
		if p.Var < 0 || p.Weight < 0 {
			return 0, 0, undefined(InconsistentSums, "phase %d has variance %v and weight %v", i, p.Var, p.Weight)
		}
		sum += p.Weight
	}
	if sum == 0 {
		return 0, 0, undefined(EmptyArm, "no phase has weight")
	}
	for _, p := range phases {
		w := p.Weight / sum
		effect += w * p.Effect
		variance += w * w * p.Var
	}
	return effect, variance, nil
}
