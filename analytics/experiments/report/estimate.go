package report

import (
	"cmp"
	"errors"
	"sync"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

type armEstimate struct {
	e   stats.Estimate
	iv  *stats.Interval
	err error
	// active is how many units have a numerator above 0; where only sums of clusters of units are known, how many
	// clusters have, which are no more. -1: not known.
	active int64
	// few: too few units lie above a quantile to decide on; coarse: bins are wider than what is known of it.
	few, coarse bool
	// failed is the share of starts that failed, beside a quantile of first screens; nil: it is none.
	failed *armEstimate
}

// hists are the histograms of first screen and latency, arm by arm, ready for several quantiles.
type hists map[string][]armHist

type armHist struct {
	b   *stats.Buckets
	err error
}

func (a arms) hists(x *schemas.Experiment) hists {
	out := hists{}
	for _, key := range []string{"first_screen", "latency"} {
		for _, arm := range x.Arms {
			each, err := histsOf(a[arm.Name], key)
			var b *stats.Buckets
			if err == nil {
				b, err = stats.NewBuckets(each)
			}
			out[key] = append(out[key], armHist{b, err})
		}
	}
	return out
}

// histsOf gives each cluster's histogram.
func histsOf(clusters []cluster, key string) ([]stats.BucketHist, error) {
	out := make([]stats.BucketHist, len(clusters))
	for i, c := range clusters {
		var err error
		if out[i], err = c.hist[key].rows(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// estimates of one metric, arm by arm.
func (a arms) estimates(x *schemas.Experiment, m schemas.Metric, h hists, alpha float64) []armEstimate {
	f := formulas[m.Name]
	if f.hist == "" {
		return ratioEstimates(x, func(arm string) unitSums { return a.moments(arm, f) })
	}
	return quantiles(h[f.hist], m.Quantile, alpha)
}

// quantiles of level p, arm by arm.
func quantiles(each []armHist, p, alpha float64) []armEstimate {
	out := make([]armEstimate, len(each))
	for i, arm := range each {
		out[i].active = -1
		if out[i].err = arm.err; arm.err != nil {
			continue
		}
		c, err := arm.b.Quantile(p, alpha)
		if err != nil {
			out[i].err = err
			continue
		}
		out[i].e, out[i].err = c.Estimate()
		out[i].few, out[i].coarse = c.FewUnitsAbove(), c.Coarse()
		out[i].iv = &stats.Interval{Lower: c.Lower, Upper: c.Upper}
	}
	return out
}

func ratioEstimates(x *schemas.Experiment, moments func(arm string) unitSums) []armEstimate {
	out := make([]armEstimate, len(x.Arms))
	for i, arm := range x.Arms {
		m := moments(arm.Name)
		out[i].active = m.active
		out[i].e, out[i].err = stats.Ratio(m.Moments)
	}
	return out
}

// withFailures adds the share of failed starts to estimates of a quantile of first screens, arm by arm.
func withFailures(estimates, failed []armEstimate) {
	for i := range estimates {
		estimates[i].failed = &failed[i]
	}
}

// spans are the arms' values with their intervals.
func (m *MetricReport) spans(estimates []armEstimate, alpha float64) []Span {
	out := make([]Span, len(estimates))
	for i, a := range estimates {
		out[i] = armSpan(a.e, a.iv, a.err, m.scale, alpha)
	}
	return out
}

// compare each further arm with the control: units are how many each arm has, pairs the paired comparisons of blocks.
func compare(x *schemas.Experiment, estimates []armEstimate, pairs []pairing, units []float64, scale, alpha float64) []Comparison {
	test := stats.Test{Alpha: alpha}
	control := estimates[0]
	var out []Comparison
	for i, a := range x.Arms[1:] {
		t := estimates[i+1]
		c := Comparison{Arm: a.Name}
		if err := errors.Join(control.err, t.err); err != nil {
			w := why(cmp.Or(control.err, t.err))
			c.Difference.Undefined, c.Lift.Undefined, c.P.Undefined, c.Sequence.Undefined, c.SequenceP.Undefined = w, w, w, w, w
			out = append(out, c)
			continue
		}
		var d stats.Effect
		var err error
		if pairs != nil {
			d, err = pairs[i].difference, pairs[i].err
			pairs[i].fill(&c, scale)
		} else {
			d, err = stats.Difference(control.e, t.e, test)
			c.Difference, c.P = span(d.Estimate, d.Lower, d.Upper, scale, err), figure(d.P, err)
			l, err := stats.LiftFieller(control.e, t.e, test)
			c.Lift = span(l.Estimate, l.Lower, l.Upper, 1, err)
		}
		if err != nil {
			c.Sequence.Undefined, c.SequenceP.Undefined = why(err), why(err)
		} else {
			s, err := stats.CS{Alpha: alpha, NStar: nStar(x), DF: d.DF}.At(d.Estimate, d.SE, units[0]+units[i+1])
			c.Sequence, c.SequenceP = span(d.Estimate, s.Lower, s.Upper, scale, err), figure(s.P, err)
		}
		out = append(out, c)
	}
	return out
}

// correct adds Holm's correction over the metrics without a role, arm by arm: of twenty metrics one is below 0.05 by
// chance.
func (r *Report) correct() {
	for arm := range r.Experiment.Arms[1:] {
		var ps []float64
		var at []*Comparison
		for i := range r.Metrics {
			c := &r.Metrics[i].Comparisons[arm]
			if r.Metrics[i].Role == "" && c.P.Undefined == "" {
				ps, at = append(ps, c.P.Value), append(at, c)
			} else {
				c.Holm = Figure{Undefined: "decides by itself, or undefined"}
			}
		}
		family, err := stats.AdjustP(ps)
		for i, c := range at {
			if err != nil {
				c.Holm.Undefined = why(err)
			} else {
				c.Holm.Value = family.Holm[i]
			}
		}
	}
}

// quantiles of Student's t that were asked for: a report asks for the same few, over and over.
var students struct {
	sync.Mutex
	known map[[2]float64]float64
}

// maxStudents bounds what is kept: degrees of freedom differ with every report over each unit.
const maxStudents = 256

// student is the two-sided critical value of Student's t at error rate alpha.
func student(alpha, df float64) float64 {
	students.Lock()
	defer students.Unlock()
	at := [2]float64{alpha, df}
	q, ok := students.known[at]
	if !ok {
		if len(students.known) >= maxStudents || students.known == nil {
			students.known = map[[2]float64]float64{}
		}
		q = stats.StudentQuantile(1-alpha/2, df)
		students.known[at] = q
	}
	return q
}

// armSpan is one arm's value with its interval: the given one, or its own.
func armSpan(e stats.Estimate, iv *stats.Interval, err error, scale, alpha float64) Span {
	if err != nil {
		return Span{Undefined: why(err)}
	}
	if iv != nil {
		return span(e.Value, iv.Lower, iv.Upper, scale, nil)
	}
	own, err := e.Within(student(alpha, e.Units-1))
	if r, _ := stats.ReasonOf(err); r == stats.ZeroVariance { // told as "no spread"
		return span(e.Value, e.Value, e.Value, scale, nil)
	}
	return span(e.Value, own.Lower, own.Upper, scale, err)
}

func span(v, lower, upper, scale float64, err error) Span {
	if err != nil {
		return Span{Undefined: why(err)}
	}
	return Span{Estimate: v * scale, Lower: lower * scale, Upper: upper * scale}
}

func figure(v float64, err error) Figure {
	if err != nil {
		return Figure{Undefined: why(err)}
	}
	return Figure{Value: v}
}

// why gives the reason of an undefined answer in words.
func why(err error) string {
	var u *stats.Undefined
	if errors.As(err, &u) {
		if u.Detail != "" {
			return u.Detail
		}
		return string(u.Reason)
	}
	return err.Error()
}
