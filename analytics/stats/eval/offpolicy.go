package eval

import (
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

func offPolicy(in *input) (result, error) {
	actions := in.counts(in.array("actions"), "actions")
	rewards, props := in.nums("rewards"), in.nums("propensities")
	targets := in.array("target_probabilities")
	var predicted []any
	o := stats.OPE{Predictions: in.has("predicted_rewards")}
	if o.Predictions {
		predicted = in.array("predicted_rewards")
	}
	if in.has("clip") {
		if o.Clip = in.num("clip"); in.err == nil && !(o.Clip > 0) {
			in.fail(bad(stats.InvalidParameter, "clip %v must be above 0", o.Clip))
		}
		if math.IsInf(o.Clip, 1) {
			o.Clip = math.MaxFloat64
		}
	}
	if in.err != nil {
		return nil, in.err
	}
	n := len(actions)
	if len(rewards) != n || len(props) != n || len(targets) != n || (o.Predictions && len(predicted) != n) {
		return nil, bad(stats.InvalidParameter, "lists of different lengths")
	}
	log := make([]stats.Decision, n)
	for i := range log {
		target := in.numsOf(targets[i], "target_probabilities")
		a := int(actions[i])
		if in.err != nil {
			return nil, in.err
		}
		sum := 0.0
		for _, p := range target {
			if !(p >= 0 && p <= 1+1e-9) {
				return nil, bad(stats.InvalidPropensity, "target probability %v in row %d", p, i)
			}
			sum += p
		}
		if math.Abs(sum-1) > 1e-6 {
			return nil, bad(stats.InvalidPropensity, "target probabilities of row %d sum to %v", i, sum)
		}
		if a >= len(target) {
			return nil, bad(stats.InvalidParameter, "action %d of row %d has no target probability", a, i)
		}
		log[i] = stats.Decision{Propensity: props[i], Target: target[a], Reward: rewards[i]}
		if o.Predictions {
			q := in.numsOf(predicted[i], "predicted_rewards")
			if in.err != nil {
				return nil, in.err
			}
			if len(q) != len(target) {
				return nil, bad(stats.InvalidParameter, "row %d predicts %d of %d actions", i, len(q), len(target))
			}
			log[i].Predicted = q[a]
			for k := range q {
				log[i].PredictedTarget += target[k] * q[k]
			}
		}
	}
	r, err := o.Evaluate(log)
	if err != nil {
		return nil, err
	}
	out := result{"ips": r.IPS.Value, "ips_se": r.IPS.SE, "snips": r.SNIPS.Value, "snips_se": r.SNIPS.SE,
		"additive_baseline": r.Baseline.Value, "additive_baseline_se": r.Baseline.SE,
		"effective_sample_size": r.ESS, "max_weight": r.MaxWeight, "mean_weight": r.MeanWeight}
	if o.Clip > 0 {
		out["clipped_ips"], out["clipped_ips_se"] = r.Clipped.Value, r.Clipped.SE
	}
	if o.Predictions {
		out["direct_method"], out["doubly_robust"], out["doubly_robust_se"] = r.DM.Value, r.DR.Value, r.DR.SE
	}
	return out, nil
}
