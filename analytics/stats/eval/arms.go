package eval

import (
	"errors"
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

// pair is both arms of a case, estimated.
type pair struct {
	control, treatment stats.Estimate
	adjusted           *stats.Adjusted // for the CUPED metrics
	units              float64         // of both arms
}

func (in *input) pair() (pair, error) {
	metric := in.str("", "metric")
	c, t := in.obj("control"), in.obj("treatment")
	if in.err != nil {
		return pair{}, in.err
	}
	var p pair
	var err error
	switch metric {
	case "cuped_mean", "cuped_ratio":
		mc, ec := c.moments(metric)
		mt, et := t.moments(metric)
		if err := errors.Join(ec, et); err != nil {
			return p, err
		}
		var a stats.Adjusted
		if metric == "cuped_mean" {
			a, err = stats.CUPEDMean(mc, mt)
		} else {
			a, err = stats.CUPEDRatio(mc, mt)
		}
		if err != nil {
			return p, err
		}
		p.adjusted, p.control, p.treatment = &a, a.Control, a.Treatment
	default:
		if p.control, err = c.estimate(metric); err != nil {
			return p, err
		}
		if p.treatment, err = t.estimate(metric); err != nil {
			return p, err
		}
	}
	p.units = p.control.Units + p.treatment.Units
	return p, nil
}

func (p pair) difference(t stats.Test) (stats.Effect, error) {
	return stats.Difference(p.control, p.treatment, t)
}

func (p pair) lift(t stats.Test) (stats.Effect, error) {
	if p.adjusted != nil {
		return p.adjusted.Lift(t)
	}
	return stats.LiftDelta(p.control, p.treatment, t)
}

// estimate reads one arm of a metric without covariate.
func (in *input) estimate(metric string) (stats.Estimate, error) {
	switch metric {
	case "proportion":
		n, sum := in.intOf("n"), in.intOf("sum", "successes", "events")
		if in.err != nil {
			return stats.Estimate{}, in.err
		}
		return stats.Proportion(sum, n)
	case "mean", "ratio":
		m, err := in.moments(metric)
		if err != nil {
			return stats.Estimate{}, err
		}
		if metric == "mean" {
			return stats.Mean(m)
		}
		return stats.Ratio(m)
	case "quantile", "quantile_clustered":
		return in.quantile(metric == "quantile_clustered")
	}
	return stats.Estimate{}, errUnsupported
}

// quantile follows the engine that made the vectors: variance per row at least
// 1e-5, and degrees of freedom from rows also when clustered. (Reports use
// those of units.)
func (in *input) quantile(clustered bool) (stats.Estimate, error) {
	b := stats.QuantileBounds{
		Rows: float64(in.intOf("n")), AtRows: in.numOr(math.NaN(), "n_star"), Level: in.num("level", "nu"),
		Quantile: in.num("quantile", "quantile_hat"), Lower: in.num("lower", "quantile_lower"), Upper: in.num("upper", "quantile_upper"),
		FloorPerRow: 1e-5, Clustered: clustered,
	}
	if !in.has("n_star") {
		b.AtRows = b.Rows
	}
	if clustered {
		s := stats.Sums{Units: in.intOf("n_clusters")}
		s.Sum[stats.Num], s.Sum[stats.Den] = in.num("below_sum"), in.num("count_sum")
		s.Product[stats.Num][stats.Num] = in.num("below_sum_squares")
		s.Product[stats.Den][stats.Den] = in.num("count_sum_squares")
		s.Product[stats.Num][stats.Den] = in.num("below_count_sum_products")
		if in.err != nil {
			return stats.Estimate{}, in.err
		}
		var err error
		if b.Ranks, err = s.Moments(); err != nil {
			return stats.Estimate{}, err
		}
	}
	if in.err != nil {
		return stats.Estimate{}, in.err
	}
	e, err := b.Estimate()
	e.Units = b.Rows
	return e, err
}

// prefixes are the spellings of each total in sums and products.
var prefixes = [4][]string{
	stats.Num:    {"num", "post_num", "numerator", "m_post"},
	stats.Den:    {"den", "post_den", "denominator", "d_post"},
	stats.PreNum: {"pre_num", "num_pre", "m_pre"},
	stats.PreDen: {"pre_den", "den_pre", "d_pre"},
}

// moments reads the sums of a mean or ratio, with or without pre-period.
func (in *input) moments(metric string) (stats.Moments, error) {
	s := stats.Sums{Units: in.intOf("n")}
	switch metric {
	case "mean", "cuped_mean":
		s.Sum[stats.Num] = in.num("sum", "post_sum")
		s.Product[stats.Num][stats.Num] = in.num("sum_squares", "post_sum_squares")
		if metric == "cuped_mean" {
			s.Sum[stats.PreNum] = in.num("pre_sum")
			s.Product[stats.PreNum][stats.PreNum] = in.num("pre_sum_squares")
			s.Product[stats.Num][stats.PreNum] = in.num("pre_post_sum_products", "post_pre_sum_products")
		}
	default:
		n := 2
		if metric == "cuped_ratio" {
			n = 4
		}
		for a := range n {
			s.Sum[a] = in.num(spell(prefixes[a], nil, "_sum")...)
			s.Product[a][a] = in.num(spell(prefixes[a], nil, "_sum_squares")...)
			for b := a + 1; b < n; b++ {
				names := append(spell(prefixes[a], prefixes[b], "_sum_products"), spell(prefixes[b], prefixes[a], "_sum_products")...)
				s.Product[a][b] = in.num(names...)
			}
		}
	}
	if in.err != nil {
		return stats.Moments{}, in.err
	}
	return s.Moments()
}

// spell lists prefix+suffix, or every first_second+suffix.
func spell(firsts, seconds []string, suffix string) []string {
	var out []string
	for _, a := range firsts {
		if seconds == nil {
			out = append(out, a+suffix)
		}
		for _, b := range seconds {
			out = append(out, a+"_"+b+suffix)
		}
	}
	return out
}
