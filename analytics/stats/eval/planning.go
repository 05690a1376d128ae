package eval

import (
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

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
