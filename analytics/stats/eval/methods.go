package eval

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	"github.com/spillway-live/spillway/analytics/stats"
)

type result = map[string]any

// Methods lists the methods Eval answers, in alphabetical order.
func Methods() []string {
	var names []string
	for n := range methods() {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func methods() map[string]func(*input) (result, error) {
	return map[string]func(*input) (result, error){
		"two_sample":                  twoSample,
		"sequential_two_sample":       sequentialTwoSample,
		"ratio_from_rows":             ratioFromRows,
		"cluster_bootstrap_ratio_ci":  bootstrap,
		"proportion_diff_ci":          proportionDiff,
		"fieller_lift_ci":             fieller,
		"asymptotic_cs":               asymptoticCS,
		"group_sequential_bounds":     groupBounds,
		"msprt":                       msprt,
		"msprt_sequence":              msprtSequence,
		"srm_chi2":                    srmChi2,
		"srm_sequential":              srmSequential,
		"quantile_order_statistic_ci": quantileExact,
		"quantile_cluster_from_rows":  quantileRows,
		"quantile_lil_bound":          lilBound,
		"adjust_p_values":             adjustP,
		"sample_size_mean":            sizeMean,
		"sample_size_proportion":      sizeProportion,
		"power_mean":                  powerMean,
		"mde_mean":                    mdeMean,
		"design_effect":               designEffect,
		"non_inferiority":             nonInferiority,
		"non_inferiority_exact":       nonInferiorityExact,
		"off_policy_evaluation":       offPolicy,
		"switchback_paired_log_ratio": switchback,
		"bucket_hash_growthbook":      growthbookHash,
	}
}

func twoSample(in *input) (result, error) {
	t := stats.Test{Alpha: in.num("alpha"), Dist: in.dist("t"), Alternative: in.alternative()}
	relative := in.relative()
	p, err := in.pair()
	if err != nil || in.err != nil {
		return nil, err
	}
	diff, err := p.difference(t)
	if err != nil {
		return nil, err
	}
	e, out := diff, result{}
	if relative {
		if e, err = p.lift(t); err != nil {
			return nil, err
		}
		out["p_value_lift_wald"] = e.P
	}
	out["estimate"], out["se"], out["ci_lower"], out["ci_upper"] = e.Estimate, e.SE, e.Lower, e.Upper
	out["p_value"] = diff.P
	if t.Dist == stats.StudentT {
		out["df"] = e.DF
	}
	if p.adjusted != nil {
		out["theta"], out["unadjusted"] = p.adjusted.Theta, p.adjusted.Unadjusted
	}
	return out, nil
}

func (in *input) relative() bool {
	switch e := in.str("absolute", "effect"); e {
	case "absolute":
	case "relative":
		return true
	default:
		in.fail(bad(stats.InvalidParameter, "unknown effect %q", e))
	}
	return false
}

func sequentialTwoSample(in *input) (result, error) {
	if m := in.str("asymptotic_cs", "method"); m != "asymptotic_cs" {
		return nil, errUnsupported
	}
	cs := stats.CS{Alpha: in.num("alpha"), NStar: in.num("n_star"), Alternative: in.alternative()}
	relative := in.relative()
	p, err := in.pair()
	if err != nil || in.err != nil {
		return nil, err
	}
	t := stats.Test{Alpha: cs.Alpha}
	e, err := p.difference(t)
	if err == nil && relative {
		e, err = p.lift(t)
	}
	if err != nil {
		return nil, err
	}
	s, err := cs.At(e.Estimate, e.SE, p.units)
	if err != nil {
		return nil, err
	}
	out := sequence(s, cs)
	out["estimate"], out["se"], out["n"] = e.Estimate, e.SE, int64(p.units)
	if p.adjusted != nil {
		out["theta"] = p.adjusted.Theta
	}
	return out, nil
}

func sequence(s stats.Sequence, c stats.CS) result {
	out := result{"rho": s.Rho, "half_width": s.HalfWidth, "ci_lower": s.Lower, "ci_upper": s.Upper, "p_value": s.P}
	if c.Alternative == stats.TwoSided {
		out["e_value"] = s.E
	}
	return out
}

func asymptoticCS(in *input) (result, error) {
	cs := stats.CS{Alpha: in.num("alpha"), NStar: in.num("n_star"), Alternative: in.alternative()}
	est, se, n := in.num("estimate"), in.num("se"), in.num("n")
	if in.err != nil {
		return nil, in.err
	}
	s, err := cs.At(est, se, n)
	return sequence(s, cs), err
}

func groupBounds(in *input) (result, error) {
	g := stats.GroupPlan{Fractions: in.nums("information_fractions"), Alpha: in.num("alpha"), Sides: int(in.count(in.numOr(2, "sides"), "sides"))}
	switch s := in.str("obf", "spending"); s {
	case "obf", "obrien_fleming":
		g.Spending = stats.OBrienFleming
	case "power":
		g.Spending, g.Rho = stats.Power, in.numOr(2, "power_rho", "rho")
	default:
		return nil, errUnsupported
	}
	if in.err != nil {
		return nil, in.err
	}
	b, err := g.Bounds()
	return result{"z_bounds": b.Z, "cumulative_alpha": b.Cumulative, "nominal_p": b.NominalP}, err
}

func msprt(in *input) (result, error) {
	est, v, tau2, alpha := in.num("estimate"), in.num("variance"), in.num("tau2"), in.numOr(0.05, "alpha")
	if in.err != nil {
		return nil, in.err
	}
	m, err := stats.MixtureSPRT(est, v, tau2, alpha)
	out := result{"likelihood_ratio": m.LR, "p_value": m.P}
	if in.has("alpha") {
		out["half_width"], out["ci_lower"], out["ci_upper"] = m.HalfWidth, est-m.HalfWidth, est+m.HalfWidth
	}
	return out, err
}

// msprtSequence takes looks as objects, or estimates and variances as lists.
func msprtSequence(in *input) (result, error) {
	var est, vs []float64
	if in.has("looks") {
		for _, row := range in.table([]string{"looks"}, "estimate", "variance") {
			look := &input{m: row}
			est, vs = append(est, look.num("estimate")), append(vs, look.num("variance"))
			in.fail(look.err)
		}
	} else {
		est, vs = in.nums("estimates", "estimate"), in.nums("variances", "variance")
	}
	tau2, alpha := in.num("tau2"), in.numOr(0.05, "alpha")
	if in.err != nil {
		return nil, in.err
	}
	if len(est) != len(vs) || len(est) == 0 {
		return nil, bad(stats.InvalidParameter, "%d estimates for %d variances", len(est), len(vs))
	}
	var ps, lrs []float64
	for i := range est {
		m, err := stats.MixtureSPRT(est[i], vs[i], tau2, alpha)
		if err != nil {
			return nil, err
		}
		ps, lrs = append(ps, m.P), append(lrs, m.LR)
	}
	run, err := stats.RunningMin(ps)
	return result{"p_values": run, "likelihood_ratios": lrs}, err
}

func srmChi2(in *input) (result, error) {
	obs, ws := in.counts(in.array("observed"), "observed"), in.nums("weights")
	if in.err != nil {
		return nil, in.err
	}
	r, err := stats.SRM(obs, ws)
	return result{"chi2": r.Chi2, "df": r.DF, "p_value": r.P}, err
}

func srmSequential(in *input) (result, error) {
	probs := in.nums("probabilities", "weights")
	sum := 0.0
	for _, p := range probs {
		sum += p
	}
	batches := in.array("batches")
	m := stats.SRMMonitor{Weights: probs, Concentration: in.numOr(stats.DefaultConcentration, "dirichlet_concentration")}
	if in.err != nil {
		return nil, in.err
	}
	if m.Concentration == 0 || !in.has("weights") && math.Abs(sum-1) > 1e-6 {
		return nil, bad(stats.InvalidParameter, "concentration %v must be above 0, probabilities must sum to 1 (%v)", m.Concentration, sum)
	}
	var bfs, ps []float64
	var total int64
	for _, b := range batches {
		counts := in.counts(b, "batches")
		if in.err != nil {
			return nil, in.err
		}
		for _, c := range counts {
			total += c
		}
		ln, p, err := m.Observe(counts)
		if err != nil {
			return nil, err
		}
		bfs, ps = append(bfs, math.Exp(ln)), append(ps, p)
	}
	if total == 0 {
		return nil, bad(stats.EmptyArm, "no units in any batch")
	}
	return result{"bayes_factors": bfs, "p_values": ps}, nil
}

func adjustP(in *input) (result, error) {
	list := in.array("p_values")
	if in.err != nil {
		return nil, in.err
	}
	var ps []float64
	var at []int
	for i, v := range list {
		if v == nil { // undefined tests leave the family
			continue
		}
		p, err := number(v)
		if err != nil {
			return nil, bad(stats.InvalidPValue, "p_values[%d]: %v", i, err)
		}
		ps, at = append(ps, p), append(at, i)
	}
	f, err := stats.AdjustP(ps)
	if err != nil {
		return nil, err
	}
	out := result{}
	for name, xs := range map[string][]float64{"bonferroni": f.Bonferroni, "holm": f.Holm, "benjamini_hochberg": f.BH, "benjamini_yekutieli": f.BY} {
		full := make([]any, len(list))
		for k, i := range at {
			full[i] = xs[k]
		}
		out[name] = full
	}
	return out, nil
}

func switchback(in *input) (result, error) {
	block := func(o *input) stats.Block {
		b := stats.Block{Num: o.num("num", "numerator"), Den: o.num("den", "denominator")}
		if o.err != nil {
			in.fail(o.err)
		}
		return b
	}
	var pairs []stats.BlockPair
	for i, v := range in.array("pairs") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, bad(stats.InvalidParameter, "pair %d is not an object", i)
		}
		p := &input{m: m}
		pairs = append(pairs, stats.BlockPair{Control: block(p.obj("control")), Treatment: block(p.obj("treatment"))})
		if p.err != nil {
			return nil, p.err
		}
	}
	alpha := in.num("alpha")
	if in.err != nil {
		return nil, in.err
	}
	r, err := stats.PairedLogRatio(pairs, alpha)
	return result{"log_ratio": r.LogRatio.Estimate, "se": r.LogRatio.SE, "df": len(pairs) - 1, "p_value": r.LogRatio.P,
		"lift": r.Lift, "lift_ci_lower": r.Lower, "lift_ci_upper": r.Upper}, err
}

// growthbookHash is the bucketing of the GrowthBook SDK specification, for
// comparison; assignment itself is package assign.
func growthbookHash(in *input) (result, error) {
	var buckets []float64
	for i, v := range in.array("cases") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, bad(stats.InvalidParameter, "case %d is not an object", i)
		}
		c := &input{m: m}
		seed, value, version := c.str("", "seed"), c.str("", "value"), c.numOr(2, "version", "hash_version")
		if c.err != nil {
			return nil, c.err
		}
		switch version {
		case 1:
			buckets = append(buckets, float64(fnv32(value+seed)%1000)/1000)
		case 2:
			buckets = append(buckets, float64(fnv32(strconv.FormatUint(uint64(fnv32(seed+value)), 10))%10000)/10000)
		default:
			return nil, bad(stats.InvalidParameter, "unknown hash version %v", version)
		}
	}
	return result{"buckets": buckets}, in.err
}

func fnv32(s string) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, s)
	return h.Sum32()
}
