package stats

import "math"

// SRMThreshold is the p-value below which a split is called broken. It is low
// because the check is read many times.
const SRMThreshold = 0.001

// SRMResult is Pearson's chi-square of unit counts against the planned split.
type SRMResult struct {
	Chi2 float64
	DF   int
	P    float64
}

// SRM tests units per arm (by first exposure, never sessions) against weights.
// Arms of weight 0 are left out, and units in one are an assignment bug
// (UsersInZeroWeightArm).
func SRM(observed []int64, weights []float64) (SRMResult, error) {
	counts, probs, err := split(observed, weights)
	if err != nil {
		return SRMResult{}, err
	}
	var total float64
	for _, c := range counts {
		total += c
	}
	if total == 0 {
		return SRMResult{}, undefined(EmptyArm, "no units in any arm")
	}
	r := SRMResult{DF: len(counts) - 1}
	for i, c := range counts {
		e := probs[i] * total
		r.Chi2 += (c - e) * (c - e) / e
	}
	r.P = ChiSquareSF(r.Chi2, float64(r.DF))
	return r, nil
}

// split checks counts and weights and returns those of arms with weight,
// weights normalised.
func split(observed []int64, weights []float64) ([]float64, []float64, error) {
	if len(observed) != len(weights) {
		return nil, nil, undefined(InvalidParameter, "%d counts for %d weights", len(observed), len(weights))
	}
	var sum float64
	for i, w := range weights {
		if err := finite(w); err != nil {
			return nil, nil, err
		}
		if w < 0 {
			return nil, nil, undefined(InvalidParameter, "weight %v of arm %d is negative", w, i)
		}
		sum += w
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return nil, nil, undefined(InvalidParameter, "weights sum to %v", sum)
	}
	var counts, probs []float64
	for i, o := range observed {
		switch {
		case o < 0:
			return nil, nil, undefined(InvalidCount, "arm %d has %d units", i, o)
		case weights[i] == 0 && o > 0:
			return nil, nil, undefined(UsersInZeroWeightArm, "arm %d has %d units and weight 0", i, o)
		case weights[i] > 0:
			counts = append(counts, float64(o))
			probs = append(probs, weights[i]/sum)
		}
	}
	if len(counts) < 2 {
		return nil, nil, undefined(TooFewUnits, "%d arms with weight, needs 2", len(counts))
	}
	return counts, probs, nil
}

// DefaultConcentration is the prior weight of SequentialSRM in units.
const DefaultConcentration = 10_000

// SequentialSRM is ln of the Dirichlet-multinomial Bayes factor of cumulative
// counts against fixed weights (Lindon and Malek): prior Dirichlet(c w). The
// running minimum of exp(-ln BF) is a p-value that holds at every look at once.
// Given counts of events instead of units (starts, errors, first failures per
// unit) it is the always-valid count test: the common rate over time cancels.
func SequentialSRM(counts []int64, weights []float64, concentration float64) (lnBF float64, err error) {
	ns, ws, err := split(counts, weights)
	if err != nil {
		return 0, err
	}
	if err := positive(concentration, "concentration"); err != nil {
		return 0, err
	}
	var n float64
	for i, c := range ns {
		a := concentration * ws[i]
		lnBF += logGammaRatio(a, c) - c*math.Log(ws[i])
		n += c
	}
	return lnBF - logGammaRatio(concentration, n), nil
}

// logGammaRatio is ln Gamma(a+n) - ln Gamma(a).
func logGammaRatio(a, n float64) float64 { return logGamma(a+n) - logGamma(a) }

// splitConcentrations are mixed by SequentialSplit: from splits that are wrong by half, which show within a hundred
// units, to those that are wrong by a hundredth, which take tens of thousands.
var splitConcentrations = [...]float64{10, 100, 1000, DefaultConcentration}

// SequentialSplit is a p-value of counts against weights that holds at every look at once: 1 over the mean of the Bayes
// factors of SequentialSRM at several concentrations, which is one itself. DefaultConcentration alone wants about 2,000
// units to find 60 to 40 where it was to be even, this 500.
func SequentialSplit(counts []int64, weights []float64) (p float64, err error) {
	largest := math.Inf(-1)
	var ln [len(splitConcentrations)]float64
	for i, c := range splitConcentrations {
		if ln[i], err = SequentialSRM(counts, weights, c); err != nil {
			return 0, err
		}
		largest = math.Max(largest, ln[i])
	}
	sum := 0.0
	for _, v := range ln {
		sum += math.Exp(v - largest)
	}
	return math.Min(1, math.Exp(-largest)*float64(len(ln))/sum), nil
}

// SRMMonitor is SequentialSRM fed with increments. Not safe for concurrent use.
type SRMMonitor struct {
	Weights       []float64
	Concentration float64 // DefaultConcentration when 0
	counts        []int64
	p             float64
}

// Observe adds the units that arrived since the last call and returns the Bayes
// factor as a logarithm and the p-value so far, which never rises.
func (m *SRMMonitor) Observe(increment []int64) (lnBF, p float64, err error) {
	if len(increment) != len(m.Weights) {
		return 0, 0, undefined(InvalidParameter, "%d counts for %d weights", len(increment), len(m.Weights))
	}
	next := make([]int64, len(increment))
	copy(next, m.counts)
	for i, k := range increment {
		if k < 0 {
			return 0, 0, undefined(InvalidCount, "arm %d gained %d units", i, k)
		}
		if next[i] += k; next[i] < 0 {
			return 0, 0, undefined(InvalidCount, "units of arm %d overflow", i)
		}
	}
	c := m.Concentration
	if c == 0 {
		c = DefaultConcentration
	}
	if lnBF, err = SequentialSRM(next, m.Weights, c); err != nil {
		return 0, 0, err
	}
	if m.counts == nil {
		m.p = 1
	}
	m.counts, m.p = next, math.Min(m.p, math.Exp(-lnBF))
	return lnBF, m.p, nil
}

// CountTest is the exact two-sided test that x of total events fell into an arm
// that holds share of the exposure: all outcomes no more likely than x. Events
// must be one per unit, such as a viewer's first failure.
func CountTest(x, total int64, share float64) (p float64, err error) {
	if err := first(checkCounts(x, total), probability(share, InvalidParameter, "share of exposure")); err != nil {
		return 0, err
	}
	n := float64(total)
	lnPMF := func(k float64) float64 {
		return logGamma(n+1) - logGamma(k+1) - logGamma(n-k+1) + k*math.Log(share) + (n-k)*math.Log1p(-share)
	}
	at := lnPMF(float64(x)) + 1e-7 // outcomes as likely but for rounding count
	mode := int64(math.Floor((n + 1) * share))
	mode = min(mode, total)
	if x == mode {
		return 1, nil
	}
	if x < mode {
		// Smallest k at or above the mode that is no more likely than x.
		lo, hi := mode-1, total+1
		for hi-lo > 1 {
			if mid := lo + (hi-lo)/2; lnPMF(float64(mid)) <= at {
				hi = mid
			} else {
				lo = mid
			}
		}
		p = binomialCDF(x, total, share) + binomialCDF(total-hi, total, 1-share)
	} else {
		lo, hi := int64(-1), mode+1
		for hi-lo > 1 {
			if mid := lo + (hi-lo)/2; lnPMF(float64(mid)) <= at {
				lo = mid
			} else {
				hi = mid
			}
		}
		p = binomialCDF(lo, total, share) + binomialCDF(total-x, total, 1-share)
	}
	return math.Min(1, p), nil
}
