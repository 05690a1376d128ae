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
