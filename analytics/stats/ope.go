package stats

import "math"

// Decision is one logged decision, for evaluating another policy on it.
type Decision struct {
	// Unit groups decisions of one viewer: their terms are summed before any
	// standard error is taken. Empty means the decision is its own unit.
	Unit       string
	Propensity float64 // probability the logging policy gave the chosen action, at decision time
	Target     float64 // probability the evaluated policy gives that action
	Reward     float64
	// Predicted is the model's reward of the chosen action, PredictedTarget its
	// mean under the evaluated policy; both only for DM and DR, cross-fitted.
	Predicted, PredictedTarget float64
}

// Value is an estimate of a policy's mean reward with its standard error.
type Value struct{ Value, SE float64 }

// OffPolicy is a policy's value estimated from another policy's log.
type OffPolicy struct {
	IPS     Value // inverse propensity: unbiased, heavy tails
	Clipped Value // weights capped at the clip; valid only with a clip
	// ClipBias bounds how far capping can pull Clipped down: mean (w-clip)+ |r|.
	ClipBias float64
	SNIPS    Value // self-normalised, linearised standard error
	Baseline Value // additive control variate, beta = Cov(wr,w)/Var(w)
	DM       Value // direct method; valid only with predictions
	DR       Value // doubly robust; valid only with predictions

	ESS        float64 // effective sample size (sum w)2/sum w2
	MaxWeight  float64
	MeanWeight float64 // near 1 when the logged propensities are right
	MeanSE     float64 // standard error of MeanWeight
	Decisions  int
	Units      int
}

// OPE holds what an evaluation may assume.
type OPE struct {
	Clip        float64 // cap of the weights; 0 for none
	Predictions bool    // Decision.Predicted and PredictedTarget are filled
}

// Evaluate estimates the mean reward of the target policy. It assumes that one
// decision does not change another's outcome. Undefined: no decisions, one
// decision, no overlap at all (NoOverlap), rewards and weights without
// variance. Ask Supports before believing the numbers.
func (o OPE) Evaluate(log []Decision) (OffPolicy, error) {
	if err := o.check(log); err != nil {
		return OffPolicy{}, err
	}
	n := float64(len(log))
	r := OffPolicy{Decisions: len(log)}
	var sw, sw2, swr float64
	for _, d := range log {
		w := d.Target / d.Propensity
		sw, sw2, swr = sw+w, sw2+w*w, swr+w*d.Reward
		r.MaxWeight = math.Max(r.MaxWeight, w)
	}
	if err := finite(sw, sw2, swr); err != nil {
		return OffPolicy{}, err
	}
	if sw == 0 {
		return OffPolicy{}, undefined(NoOverlap, "the target policy never takes a logged action")
	}
	r.ESS, r.MeanWeight = sw*sw/sw2, sw/n
	// Terms per decision, then per unit: a mean over decisions is a ratio of
	// unit sums, and with one decision a unit its se is sd/sqrt(n).
	terms := func(f func(w float64, d Decision) float64) (Value, error) {
		e, err := meanByUnit(log, f)
		r.Units = int(e.Units)
		return Value{e.Value, e.SE()}, err
	}
	var err error
	if r.IPS, err = terms(func(w float64, d Decision) float64 { return w * d.Reward }); err != nil {
		return OffPolicy{}, err
	}
	if r.IPS.SE == 0 {
		return OffPolicy{}, undefined(ZeroVariance, "weighted rewards do not vary")
	}
	mw, err := terms(func(w float64, _ Decision) float64 { return w })
	if err != nil {
		return OffPolicy{}, err
	}
	r.MeanSE = mw.SE
	if o.Clip > 0 {
		if r.Clipped, err = terms(func(w float64, d Decision) float64 { return math.Min(w, o.Clip) * d.Reward }); err != nil {
			return OffPolicy{}, err
		}
		for _, d := range log {
			r.ClipBias += math.Max(0, d.Target/d.Propensity-o.Clip) * math.Abs(d.Reward) / n
		}
	}
	v := swr / sw
	var ss float64
	for _, s := range sumByUnit(log, func(w float64, d Decision) float64 { return w * (d.Reward - v) }) {
		ss += s[Num] * s[Num]
	}
	r.SNIPS = Value{v, math.Sqrt(ss) / sw}
	if r.Baseline, err = baseline(log, r.IPS.Value, r.MeanWeight); err != nil {
		return OffPolicy{}, err
	}
	if o.Predictions {
		if r.DM, err = terms(func(_ float64, d Decision) float64 { return d.PredictedTarget }); err != nil {
			return OffPolicy{}, err
		}
		if r.DR, err = terms(func(w float64, d Decision) float64 { return d.PredictedTarget + w*(d.Reward-d.Predicted) }); err != nil {
			return OffPolicy{}, err
		}
	}
	return r, nil
}

func (o OPE) check(log []Decision) error {
	if len(log) == 0 {
		return undefined(EmptyArm, "no decisions")
	}
	if len(log) == 1 {
		return undefined(TooFewUnits, "1 decision has no variance")
	}
	if !(o.Clip >= 0) || math.IsInf(o.Clip, 0) {
		return undefined(InvalidParameter, "clip %v must be above 0, or 0 for none", o.Clip)
	}
	for i, d := range log {
		switch {
		case !(d.Propensity > 0 && d.Propensity <= 1):
			return undefined(InvalidPropensity, "propensity %v of decision %d must lie in (0, 1]", d.Propensity, i)
		case !(d.Target >= 0 && d.Target <= 1+1e-9):
			return undefined(InvalidPropensity, "target probability %v of decision %d must lie in [0, 1]", d.Target, i)
		}
		if err := finite(d.Reward, d.Predicted, d.PredictedTarget); err != nil {
			return err
		}
	}
	return nil
}

// sumByUnit sums f (Num) and counts decisions (Den) per unit.
func sumByUnit(log []Decision, f func(w float64, d Decision) float64) []Totals {
	out := make([]Totals, 0, len(log))
	index := map[string]int{}
	for _, d := range log {
		i := len(out)
		if d.Unit != "" {
			if at, ok := index[d.Unit]; ok {
				i = at
			} else {
				index[d.Unit] = i
			}
		}
		if i == len(out) {
			out = append(out, Totals{})
		}
		out[i][Num] += f(d.Target/d.Propensity, d)
		out[i][Den]++
	}
	return out
}

func meanByUnit(log []Decision, f func(w float64, d Decision) float64) (Estimate, error) {
	return Ratio(Of(sumByUnit(log, f)))
}

// baseline is mean(wr) - beta (mean w - 1) with beta = Cov(wr, w)/Var(w).
func baseline(log []Decision, ips, meanW float64) (Value, error) {
	var m Moments
	for _, d := range log {
		w := d.Target / d.Propensity
		m.Add(Totals{Num: w * d.Reward, Den: w})
	}
	if m.C[Den][Den] <= 1e-14*float64(m.Units)*meanW*meanW {
		e, err := meanByUnit(log, func(w float64, d Decision) float64 { return w * d.Reward })
		return Value{ips, e.SE()}, err
	}
	beta := m.C[Num][Den] / m.C[Den][Den]
	e, err := meanByUnit(log, func(w float64, d Decision) float64 { return w*d.Reward - beta*(w-1) })
	return Value{e.Value, e.SE()}, err
}

// Supports says whether the log can carry the question: nil, or NoOverlap with
// the figure that forbids it. The rules: effective sample size at least 100 and
// 1 % of the decisions; mean weight within 3 standard errors of 1 (otherwise
// the logged propensities are wrong, or the target acts where the log never
// did). uncovered is the target's probability mass on actions the logging
// policy never takes, averaged over decisions; it must be 0.
func (r OffPolicy) Supports(uncovered float64) error {
	switch {
	case !(uncovered <= 1e-9):
		return undefined(NoOverlap, "%.3g of the target policy's choices were never explored", uncovered)
	case r.ESS < 100 || r.ESS < 0.01*float64(r.Decisions):
		return undefined(NoOverlap, "effective sample size %.1f of %d decisions", r.ESS, r.Decisions)
	case math.Abs(r.MeanWeight-1) > 3*r.MeanSE+1e-9:
		return undefined(NoOverlap, "mean weight %.4f is more than 3 standard errors (%.4f) from 1", r.MeanWeight, r.MeanSE)
	}
	return nil
}

// RatioDecision is a logged decision with a ratio outcome, such as stalled and
// watched time.
type RatioDecision struct {
	Unit               string
	Propensity, Target float64
	Num, Den           float64
}

// EvaluateRatio is sum w num / sum w den under the target policy, with variance
// over units by the delta method.
func EvaluateRatio(log []RatioDecision) (Estimate, error) {
	ds := make([]Decision, len(log))
	for i, d := range log {
		if err := finite(d.Num, d.Den); err != nil {
			return Estimate{}, err
		}
		ds[i] = Decision{Unit: d.Unit, Propensity: d.Propensity, Target: d.Target}
	}
	if err := (OPE{}).check(ds); err != nil {
		return Estimate{}, err
	}
	nums := sumIndexed(ds, func(i int) float64 { return log[i].Num })
	dens := sumIndexed(ds, func(i int) float64 { return log[i].Den })
	var m Moments
	for i := range nums {
		m.Add(Totals{Num: nums[i], Den: dens[i]})
	}
	if m.Mean[Den] == 0 {
		return Estimate{}, undefined(NoOverlap, "the target policy never takes a logged action that has a denominator")
	}
	return Ratio(m)
}

func sumIndexed(ds []Decision, x func(i int) float64) []float64 {
	i := -1
	ts := sumByUnit(ds, func(w float64, _ Decision) float64 { i++; return w * x(i) })
	out := make([]float64, len(ts))
	for k, t := range ts {
		out[k] = t[Num]
	}
	return out
}

// CompareWithLogged is the target policy's mean reward minus that of the policy
// that wrote the log, on the same decisions: terms (w-1) r, paired variance.
func CompareWithLogged(log []Decision) (Estimate, error) {
	if err := (OPE{}).check(log); err != nil {
		return Estimate{}, err
	}
	return meanByUnit(log, func(w float64, d Decision) float64 { return (w - 1) * d.Reward })
}
