// Package report compares the arms of an experiment on what ClickHouse holds, and says what to do.
//
// It promises that variance is taken over randomization units, that every assigned unit counts in its arm whatever CDN
// served it (intention to treat), that a figure that cannot be computed is said to be undefined with the reason, and
// that each statement it asked is in the report. All metrics come from sums by hash bucket of units; the primary
// metric and the guardrails, where a decision hangs on them, are also computed over every single unit (Options.Exact).
// It reads and writes nothing.
package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Options of a report.
type Options struct {
	Database string  // default spillway
	Alpha    float64 // error rate of the intervals; default 0.05
	// Until ends the data, stream time; zero means now, or when the experiment stopped.
	Until time.Time
	// Exact takes the variance of the primary metric and of the guardrails over every unit.
	Exact bool
}

// Report is the comparison of all arms with the first one, the control.
type Report struct {
	Experiment schemas.Experiment `json:"experiment"`
	From       time.Time          `json:"from"`
	Until      time.Time          `json:"until"`
	Alpha      float64            `json:"alpha"`
	// Decision comes first: what to do, and why.
	Decision Decision  `json:"decision"`
	Health   Health    `json:"health"`
	Arms     []ArmSize `json:"arms"`
	// SRMP is the chi-square p-value of exposed units against the planned split; below 0.001 the comparison is not to be trusted.
	SRMP    Figure         `json:"srm_p"`
	Metrics []MetricReport `json:"metrics"`
	// Queries are the statements behind every figure.
	Queries []Query `json:"queries"`
}

// ArmSize says how much data an arm has.
type ArmSize struct {
	Arm string `json:"arm"`
	// Exposed is the number of units with an exposure, Units those with telemetry.
	Exposed  int64 `json:"exposed_units"`
	Units    int64 `json:"units"`
	Sessions int64 `json:"sessions"`
}

// Figure is a number or the reason why there is none.
type Figure struct {
	Value     float64 `json:"value"`
	Undefined string  `json:"undefined,omitempty"`
}

// Span is an estimate with its confidence interval, or the reason why there is none.
type Span struct {
	Estimate  float64 `json:"estimate"`
	Lower     float64 `json:"lower"`
	Upper     float64 `json:"upper"`
	Undefined string  `json:"undefined,omitempty"`
}

// MetricReport is one metric: each arm, and each further arm against the control.
type MetricReport struct {
	// Key is the metric's name in experiments, Name its title.
	Key            string       `json:"key"`
	Name           string       `json:"name"`
	Unit           string       `json:"unit"`
	HigherIsBetter bool         `json:"higher_is_better,omitempty"`
	Role           string       `json:"role,omitempty"` // primary, guardrail
	Arms           []Span       `json:"arms"`
	Comparisons    []Comparison `json:"comparisons"`
	// Exact: the variance is over every unit, not over hash buckets of them.
	Exact bool `json:"exact,omitempty"`

	estimates []armEstimate
	scale     float64
}

// Comparison is one arm minus control, absolute and relative.
type Comparison struct {
	Arm        string `json:"arm"`
	Difference Span   `json:"difference"`
	Lift       Span   `json:"lift"`
	P          Figure `json:"p"`
	// Sequence is the difference with the interval that holds at every look, and its always-valid p-value.
	Sequence  Span   `json:"sequence"`
	SequenceP Figure `json:"sequence_p"`
	// Holm is P corrected for looking at all metrics of no role.
	Holm Figure `json:"holm_p"`
}

type armEstimate struct {
	e   stats.Estimate
	iv  *stats.Interval
	err error
}

// Build reads ClickHouse and computes the report.
func Build(ctx context.Context, conn driver.Conn, x *schemas.Experiment, o Options) (*Report, error) {
	q, o, err := newQueries(conn, x, o)
	if err != nil {
		return nil, err
	}
	fail := func(what string, err error) error { return fmt.Errorf("experiment %s: %s: %w", x.Name, what, err) }
	r := &Report{Experiment: *x, From: q.from, Until: q.until, Alpha: o.Alpha}
	exposed, err := q.exposures(ctx)
	if err != nil {
		return nil, fail("count units", err)
	}
	if err := r.sizes(ctx, q, exposed); err != nil {
		return nil, fail("count sessions", err)
	}
	data, err := q.clusters(ctx, exposed)
	if err != nil {
		return nil, fail("read sums", err)
	}
	for _, m := range schemas.Metrics() {
		mr := MetricReport{Key: m.Name, Name: m.Title, Unit: m.Unit, HigherIsBetter: m.HigherIsBetter, Role: role(x, m.Name), scale: formulas[m.Name].scale}
		if o.Exact && mr.Role != "" && m.Quantile == 0 {
			moments, err := q.exact(ctx, m)
			if err != nil {
				return nil, fail(m.Title, err)
			}
			mr.Exact = true
			mr.estimates = ratioEstimates(x, func(arm string) (stats.Moments, error) { return moments[arm], nil })
		} else {
			mr.estimates = data.estimates(x, m, o.Alpha)
		}
		mr.compare(x, r.Arms, o.Alpha)
		r.Metrics = append(r.Metrics, mr)
	}
	r.correct()
	r.Health = r.health(exposed)
	r.Decision = r.decide()
	r.Queries = q.asked
	return r, nil
}

func newQueries(conn driver.Conn, x *schemas.Experiment, o Options) (*queries, Options, error) {
	if err := x.Check(); err != nil {
		return nil, o, err
	}
	if o.Database == "" {
		o.Database = "spillway"
	}
	if o.Alpha == 0 {
		o.Alpha = 0.05
	}
	if !(o.Alpha > 0 && o.Alpha < 1) {
		return nil, o, fmt.Errorf("alpha %v is not between 0 and 1", o.Alpha)
	}
	if o.Until.IsZero() {
		o.Until = time.Now()
	}
	if stopped := time.UnixMicro(x.StoppedUnixUs); x.StoppedUnixUs != 0 && stopped.Before(o.Until) {
		// What plays on after it is no longer a comparison of all who came.
		o.Until = stopped
	}
	return &queries{conn: conn, x: x, db: o.Database, from: time.UnixMicro(x.StartedUnixUs).UTC(), until: o.Until.UTC()}, o, nil
}

// role says whether a metric decides.
func role(x *schemas.Experiment, metric string) string {
	if x.PrimaryMetric == metric {
		return "primary"
	}
	for _, g := range x.Guardrails {
		if g.Metric == metric {
			return "guardrail"
		}
	}
	return ""
}

// sizes counts units per arm and tests the split.
func (r *Report) sizes(ctx context.Context, q *queries, e exposed) error {
	sized, err := q.withTelemetry(ctx)
	if err != nil {
		return err
	}
	var observed []int64
	var weights []float64
	for _, a := range q.x.Arms {
		s := sized[a.Name]
		r.Arms = append(r.Arms, ArmSize{Arm: a.Name, Exposed: e.units[a.Name], Units: s[0], Sessions: s[1]})
		observed = append(observed, e.units[a.Name])
		weights = append(weights, a.Weight)
	}
	srm, err := stats.SRM(observed, weights)
	r.SRMP = figure(srm.P, err)
	return nil
}

// estimates of one metric, arm by arm.
func (a arms) estimates(x *schemas.Experiment, m schemas.Metric, alpha float64) []armEstimate {
	f := formulas[m.Name]
	if f.hist == "" {
		return ratioEstimates(x, func(arm string) (stats.Moments, error) { return a.moments(arm, f) })
	}
	out := make([]armEstimate, len(x.Arms))
	for i, arm := range x.Arms {
		var hists []stats.BucketHist
		for _, c := range a[arm.Name] {
			hists = append(hists, c.hist[f.hist])
		}
		c, err := stats.QuantileFromBuckets(hists, m.Quantile, alpha)
		if err != nil {
			out[i].err = err
			continue
		}
		out[i].e, out[i].err = c.Estimate()
		out[i].iv = &stats.Interval{Lower: c.Lower, Upper: c.Upper}
	}
	return out
}

func ratioEstimates(x *schemas.Experiment, moments func(arm string) (stats.Moments, error)) []armEstimate {
	out := make([]armEstimate, len(x.Arms))
	for i, arm := range x.Arms {
		m, err := moments(arm.Name)
		if err == nil {
			out[i].e, err = stats.Ratio(m)
		}
		out[i].err = err
	}
	return out
}

// compare fills a metric's figures from its estimates.
func (m *MetricReport) compare(x *schemas.Experiment, sizes []ArmSize, alpha float64) {
	test := stats.Test{Alpha: alpha}
	for _, a := range m.estimates {
		m.Arms = append(m.Arms, armSpan(a.e, a.iv, a.err, m.scale, alpha))
	}
	control := m.estimates[0]
	for i, a := range x.Arms[1:] {
		t := m.estimates[i+1]
		c := Comparison{Arm: a.Name}
		if err := errors.Join(control.err, t.err); err != nil {
			w := why(err)
			c.Difference.Undefined, c.Lift.Undefined, c.P.Undefined, c.Sequence.Undefined, c.SequenceP.Undefined = w, w, w, w, w
			m.Comparisons = append(m.Comparisons, c)
			continue
		}
		d, err := stats.Difference(control.e, t.e, test)
		c.Difference, c.P = span(d.Estimate, d.Lower, d.Upper, m.scale, err), figure(d.P, err)
		l, err := stats.LiftFieller(control.e, t.e, test)
		c.Lift = span(l.Estimate, l.Lower, l.Upper, 1, err)
		n := float64(sizes[0].Exposed + sizes[i+1].Exposed)
		s, err := stats.CS{Alpha: alpha, NStar: nStar(x)}.At(d.Estimate, d.SE, n)
		c.Sequence, c.SequenceP = span(d.Estimate, s.Lower, s.Upper, m.scale, err), figure(s.P, err)
		m.Comparisons = append(m.Comparisons, c)
	}
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

// armSpan is one arm's value with its interval: the given one, or Student's.
func armSpan(e stats.Estimate, iv *stats.Interval, err error, scale, alpha float64) Span {
	if err != nil {
		return Span{Undefined: why(err)}
	}
	if iv != nil {
		return span(e.Value, iv.Lower, iv.Upper, scale, nil)
	}
	h := stats.StudentQuantile(1-alpha/2, e.Units-1) * e.SE()
	return span(e.Value, e.Value-h, e.Value+h, scale, nil)
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
