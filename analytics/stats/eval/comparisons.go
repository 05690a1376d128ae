package eval

import (
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

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

func nonInferiority(in *input) (result, error) {
	if in.str("control_point_estimate", "margin_basis") != "control_point_estimate" {
		return nil, errUnsupported
	}
	r, err := in.nonInferior(stats.NonInferiority)
	if err != nil {
		return nil, err
	}
	out := nonInferiorityResult(r)
	out["null_value"] = r.Null
	return out, nil
}

func nonInferiorityExact(in *input) (result, error) {
	r, err := in.nonInferior(stats.NonInferiorityExact)
	return nonInferiorityResult(r), err
}

func nonInferiorityResult(r stats.NonInferiorityResult) result {
	return result{"estimate": r.Estimate, "se": r.SE, "p_value": r.P, "z": r.Stat,
		"ci_lower": r.Lower, "ci_upper": r.Upper, "non_inferior": r.NonInferior}
}

type niTest func(c, t stats.Estimate, margin float64, d stats.Direction, alpha float64, dist stats.Dist) (stats.NonInferiorityResult, error)

// nonInferior reads arms as sums of a metric, or as estimates with variances.
func (in *input) nonInferior(test niTest) (stats.NonInferiorityResult, error) {
	margin, d, alpha, dist := in.num("margin_relative", "margin"), in.direction(), in.num("alpha"), in.dist("normal")
	var c, t stats.Estimate
	if in.has("metric") {
		p, err := in.pair()
		if err != nil {
			return stats.NonInferiorityResult{}, err
		}
		c, t = p.control, p.treatment
	} else {
		c = stats.Estimate{Value: in.num("control_mean"), Var: in.num("control_variance_of_mean"), Units: in.numOr(math.MaxInt32, "control_n")}
		t = stats.Estimate{Value: in.num("treatment_mean"), Var: in.num("treatment_variance_of_mean"), Units: in.numOr(math.MaxInt32, "treatment_n")}
	}
	if in.err != nil {
		return stats.NonInferiorityResult{}, in.err
	}
	return test(c, t, margin, d, alpha, dist)
}
