package eval

import (
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/stats"
)

// maxBootstrapWork bounds units x replicates of one case.
const maxBootstrapWork = 50_000_000

func ratioFromRows(in *input) (result, error) {
	rows := in.table([]string{"rows"}, "unit", "numerator", "denominator")
	if in.err != nil {
		return nil, in.err
	}
	index := map[string]int{}
	var units, each []stats.Totals
	for i, row := range rows {
		r := &input{m: row}
		t := stats.Totals{stats.Num: r.num("numerator", "num"), stats.Den: r.num("denominator", "den")}
		if r.err != nil {
			return nil, r.err
		}
		if math.IsNaN(t[stats.Num]+t[stats.Den]) || math.IsInf(t[stats.Num]+t[stats.Den], 0) {
			return nil, bad(stats.NotFinite, "row %d is not finite", i)
		}
		each = append(each, t)
		name := unitName(row["unit"], i)
		at, ok := index[name]
		if !ok {
			at = len(units)
			index[name] = at
			units = append(units, stats.Totals{})
		}
		units[at][stats.Num] += t[stats.Num]
		units[at][stats.Den] += t[stats.Den]
	}
	e, err := stats.Ratio(stats.Of(units))
	if err != nil {
		return nil, err
	}
	if e.Var == 0 {
		return nil, bad(stats.ZeroVariance, "every unit has the same ratio")
	}
	naive, err := stats.Ratio(stats.Of(each))
	if err != nil {
		return nil, err
	}
	out := result{"estimate": e.Value, "variance": e.Var, "se": e.SE(), "n_units": len(units), "n_rows": len(rows)}
	if naive.Var > 0 {
		out["naive_row_variance"], out["design_effect"] = naive.Var, e.Var/naive.Var
	}
	return out, nil
}

func bootstrap(in *input) (result, error) {
	rows := in.table([]string{"units", "rows"}, "unit", "num", "den")
	alpha := in.num("alpha")
	reps := in.numOr(10_000, "replicates", "n_resamples", "n_bootstrap", "resamples", "B")
	seed := in.numOr(1, "seed")
	var units []stats.Totals
	for i, row := range rows {
		r := &input{m: row}
		t := stats.Totals{stats.Num: r.num("num", "numerator"), stats.Den: r.num("den", "denominator")}
		if r.err != nil {
			return nil, r.err
		}
		if math.IsNaN(t[stats.Num]+t[stats.Den]) || math.IsInf(t[stats.Num]+t[stats.Den], 0) {
			return nil, bad(stats.NotFinite, "unit %d is not finite", i)
		}
		units = append(units, t)
	}
	n := in.count(reps, "replicates")
	s := in.count(seed, "seed")
	if in.err != nil {
		return nil, in.err
	}
	if n > 0 && n*int64(len(units)) > maxBootstrapWork {
		n = max(2000, maxBootstrapWork/int64(len(units)))
	}
	b, err := stats.BootstrapRatio(units, int(n), alpha, uint64(s))
	return result{"estimate": b.Estimate, "se": b.SE, "ci_lower": b.Lower, "ci_upper": b.Upper}, err
}

func proportionDiff(in *input) (result, error) {
	arm := func(o *input) stats.Binary {
		b := stats.Binary{Units: o.intOf("n"), Events: o.intOf("sum", "successes", "events")}
		if o.err != nil {
			in.fail(o.err)
		}
		return b
	}
	c, t := arm(in.obj("control")), arm(in.obj("treatment"))
	alpha := in.num("alpha")
	if in.err != nil {
		return nil, in.err
	}
	out := result{}
	for name, f := range map[string]func(c, t stats.Binary, alpha float64) (stats.Interval, error){
		"newcombe": stats.NewcombeDiff, "agresti_caffo": stats.AgrestiCaffoDiff, "miettinen_nurminen": stats.MiettinenNurminenDiff,
	} {
		iv, err := f(c, t, alpha)
		if err != nil {
			return nil, err
		}
		out[name+"_lower"], out[name+"_upper"] = iv.Lower, iv.Upper
	}
	out["estimate"] = float64(t.Events)/float64(t.Units) - float64(c.Events)/float64(c.Units)
	return out, nil
}

func fieller(in *input) (result, error) {
	f := stats.FiellerInput{
		Treatment: in.num("treatment_mean"), TreatmentVar: in.num("treatment_variance_of_mean"),
		Control: in.num("control_mean"), ControlVar: in.num("control_variance_of_mean"), Cov: in.numOr(0, "covariance"),
	}
	alpha, dist := in.num("alpha"), in.dist("normal")
	df := math.Inf(1)
	if dist == stats.StudentT {
		df = in.num("df", "degrees_of_freedom")
	}
	if in.err != nil {
		return nil, in.err
	}
	if !(alpha > 0 && alpha < 1) {
		return nil, bad(stats.InvalidAlpha, "alpha %v", alpha)
	}
	if !(df > 0) {
		return nil, bad(stats.InvalidParameter, "df %v", df)
	}
	f.Critical = stats.StudentQuantile(1-alpha/2, df)
	l, err := stats.Fieller(f)
	return result{"estimate": l.Estimate, "ci_lower": l.Lower, "ci_upper": l.Upper, "g": l.G}, err
}

func quantileExact(in *input) (result, error) {
	values := in.nums("values")
	level, alpha := in.num("level"), in.num("alpha")
	if in.err != nil {
		return nil, in.err
	}
	slices.Sort(values)
	q, err := stats.QuantileExact(values, level, alpha)
	return result{"quantile": q.Quantile, "lower_rank": q.LowerRank, "upper_rank": q.UpperRank,
		"ci_lower": q.Lower, "ci_upper": q.Upper, "coverage": q.Coverage}, err
}

func quantileRows(in *input) (result, error) {
	var rows []stats.UnitRow
	for i, row := range in.table([]string{"rows"}, "unit", "value") {
		r := &input{m: row}
		rows = append(rows, stats.UnitRow{Unit: unitName(row["unit"], i), Value: r.num("value")})
		if r.err != nil {
			return nil, r.err
		}
	}
	level, alpha := in.num("level"), in.num("alpha")
	if in.err != nil {
		return nil, in.err
	}
	q, err := stats.QuantileClustered(rows, level, alpha)
	return result{"quantile": q.Quantile, "f_hat": q.F, "variance_f_cluster": q.VarF, "variance_f_iid": q.VarFIID,
		"design_effect": q.DesignEffect, "lower_rank": q.LowerRank, "upper_rank": q.UpperRank,
		"ci_lower": q.Lower, "ci_upper": q.Upper, "n_units": q.Units, "units_above": q.UnitsAbove}, err
}

func lilBound(in *input) (result, error) {
	t, tMin, alpha := in.num("t", "n"), in.numOr(1, "t_min", "n_min", "m"), in.num("alpha")
	if in.err != nil {
		return nil, in.err
	}
	h, err := stats.LILHalfWidth(t, tMin, alpha)
	return result{"half_width": h, "bound": h}, err
}

// plan reads alpha, power, split and direction.
func (in *input) plan() stats.Plan {
	p := stats.Plan{Alpha: in.num("alpha"), Power: in.numOr(0.8, "power"), Ratio: in.numOr(1, "treatment_to_control_ratio", "ratio")}
	p.OneSided = in.alternative() != stats.TwoSided
	if in.has("sides") && in.num("sides") == 1 {
		p.OneSided = true
	}
	if in.err == nil && p.Ratio == 0 {
		in.fail(bad(stats.InvalidParameter, "treatment_to_control_ratio is 0"))
	}
	return p
}

// effect reads an effect given absolutely, or relative to the baseline.
func (in *input) effect() float64 {
	if d, ok := in.findNum("mde_absolute", "effect_absolute", "absolute_effect", "true_effect", "effect", "delta", "difference", "mde"); ok {
		return d
	}
	rel := in.num("mde_relative", "effect_relative", "relative_effect", "lift")
	base := in.num("baseline_mean", "baseline", "mean")
	if in.err == nil && base == 0 {
		in.fail(bad(stats.ZeroControlMean, "a relative effect on a baseline of 0"))
	}
	return rel * base
}

func sizeMean(in *input) (result, error) {
	p, v, d := in.plan(), in.num("variance"), in.effect()
	if in.err != nil {
		return nil, in.err
	}
	s, err := p.SizeMean(v, d)
	return result{"n_control": s.Control, "n_treatment": s.Treatment}, err
}

func sizeProportion(in *input) (result, error) {
	p := in.plan()
	base := in.num("baseline_proportion", "baseline_rate", "baseline_mean", "baseline", "control_proportion", "p_control", "proportion_control", "p1")
	var treated float64
	if p, ok := in.findNum("treatment_proportion", "p_treatment", "proportion_treatment", "p2"); ok {
		treated = p
	} else if d, ok := in.findNum("mde_absolute", "effect_absolute", "absolute_effect", "effect", "delta"); ok {
		treated = base + d
	} else {
		treated = base * (1 + in.num("mde_relative", "effect_relative", "lift"))
	}
	if in.err != nil {
		return nil, in.err
	}
	s, err := p.SizeProportion(base, treated)
	return result{"n_control": s.Control, "n_treatment": s.Treatment}, err
}

func (in *input) sizes() (control, treatment float64) {
	if each := []string{"n_per_arm", "n"}; in.has(each...) && !in.has("n_control") {
		n := in.num(each...)
		return n, n
	}
	control = in.num("n_control", "control_n")
	if !in.has("n_treatment", "treatment_n") {
		return control, control * in.numOr(1, "treatment_to_control_ratio", "ratio")
	}
	return control, in.num("n_treatment", "treatment_n")
}

func powerMean(in *input) (result, error) {
	v, d, alpha := in.num("variance"), in.effect(), in.num("alpha")
	oneSided := in.alternative() != stats.TwoSided
	nc, nt := in.sizes()
	if in.err != nil {
		return nil, in.err
	}
	p, err := stats.PowerMean(v, d, nc, nt, alpha, oneSided)
	return result{"power": p}, err
}

func mdeMean(in *input) (result, error) {
	p, v := in.plan(), in.num("variance")
	nc, nt := in.sizes()
	if in.err != nil {
		return nil, in.err
	}
	d, err := p.MDEMean(v, nc, nt)
	out := result{"mde_absolute": d, "mde": d}
	if base := in.numOr(0, "baseline_mean", "baseline", "mean"); base != 0 {
		out["mde_relative"] = d / math.Abs(base)
	}
	return out, err
}

func designEffect(in *input) (result, error) {
	m := in.num("mean_cluster_size", "m", "cluster_size", "mean_size", "rows_per_unit")
	cv, icc := in.numOr(0, "cv", "coefficient_of_variation", "cluster_size_cv", "cv_cluster_size"), in.num("icc")
	if in.err != nil {
		return nil, in.err
	}
	d, err := stats.DesignEffect(m, cv, icc)
	return result{"design_effect": d, "deff": d}, err
}

func nonInferiority(in *input) (result, error) {
	if in.str("control_point_estimate", "margin_basis") != "control_point_estimate" {
		return nil, errUnsupported
	}
	r, err := in.nonInferior(stats.NonInferiority)
	if err != nil {
		return nil, err
	}
	r.out["null_value"] = r.Null
	return r.out, nil
}

func nonInferiorityExact(in *input) (result, error) {
	r, err := in.nonInferior(stats.NonInferiorityExact)
	return r.out, err
}

type niResult struct {
	stats.NonInferiorityResult
	out result
}

type niTest func(c, t stats.Estimate, margin float64, d stats.Direction, alpha float64, dist stats.Dist) (stats.NonInferiorityResult, error)

func (in *input) nonInferior(test niTest) (niResult, error) {
	margin, d, alpha, dist := in.num("margin_relative", "margin"), in.direction(), in.num("alpha"), in.dist("normal")
	var c, t stats.Estimate
	if in.has("metric") {
		p, err := in.pair()
		if err != nil {
			return niResult{}, err
		}
		c, t = p.control, p.treatment
	} else {
		// Estimates given directly, with their variances.
		c = stats.Estimate{Value: in.num("control_mean"), Var: in.num("control_variance_of_mean"), Units: in.numOr(math.MaxInt32, "control_n")}
		t = stats.Estimate{Value: in.num("treatment_mean"), Var: in.num("treatment_variance_of_mean"), Units: in.numOr(math.MaxInt32, "treatment_n")}
	}
	if in.err != nil {
		return niResult{}, in.err
	}
	r, err := test(c, t, margin, d, alpha, dist)
	if err != nil {
		return niResult{}, err
	}
	return niResult{r, result{"estimate": r.Estimate, "se": r.SE, "p_value": r.P, "z": r.Stat,
		"ci_lower": r.Lower, "ci_upper": r.Upper, "non_inferior": r.NonInferior}}, nil
}

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
