// Package report compares the arms of an experiment on what ClickHouse holds, and says what to do.
//
// It promises that variance is taken over randomization units, that every assigned unit counts in its arm whatever CDN
// served it (intention to treat), that a figure that cannot be computed is said to be undefined with the reason, and
// that each statement it asked is in the report. All metrics come from sums by hash bucket of units; the primary
// metric and the guardrails, where a decision hangs on them, are also computed over every single unit (Options.Exact).
// It reads and writes nothing.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
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
	// Brief leaves out what no decision needs: time lines, distributions, peak hours, segments.
	Brief bool
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
	SRMP Figure `json:"srm_p"`
	// SRMSequentialP is that of the sequential test, which holds at every look.
	SRMSequentialP Figure         `json:"srm_sequential_p"`
	Metrics        []MetricReport `json:"metrics"`
	// Distributions of first screen and latency, arm by arm.
	Distributions []Distribution `json:"distributions,omitempty"`
	// Segments are the arms within one CDN, region, provider or device each.
	Segments []Segment `json:"segments,omitempty"`
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
	// Silent units were exposed and never reported; Unexposed ones reported, and no exposure of them is known.
	Silent    int64 `json:"silent_units"`
	Unexposed int64 `json:"unexposed_units"`
	// Lost is the share of reports that never came, by gaps in players' sequence numbers, 0 to 1.
	Lost Figure `json:"lost_reports"`
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
	// Looks are the figures as they stood at times since the start, all data until then.
	Looks []Look `json:"looks,omitempty"`
	// Peak are the figures of the busiest hours of each day.
	Peak *Look `json:"peak_hours,omitempty"`

	estimates []armEstimate
	// pairs are the paired comparisons of blocks, by further arm; nil: units are not blocks.
	pairs []pairing
	scale float64
}

// Look is a metric on part of the data.
type Look struct {
	Until       time.Time    `json:"until"`
	Arms        []Span       `json:"arms"`
	Comparisons []Comparison `json:"comparisons"`
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
	if err := q.findRolled(ctx); err != nil {
		return nil, fail("read the schema's age", err)
	}
	return q.build(ctx, o, fail)
}

func (q *queries) build(ctx context.Context, o Options, fail func(string, error) error) (*Report, error) {
	x := q.x
	r := &Report{Experiment: *x, From: q.from, Until: q.until, Alpha: o.Alpha}
	u, err := q.units(ctx)
	if err != nil {
		return nil, fail("count units", err)
	}
	d, err := q.read(ctx, &u, o.Brief)
	if err != nil {
		return nil, fail("read sums", err)
	}
	u.fromSums(x, d.all)
	r.sizes(&u, d.all)
	var exact map[string]map[string]stats.Moments
	if o.Exact {
		if exact, err = q.exact(ctx, decisive(x)); err != nil {
			return nil, fail("read totals of each unit", err)
		}
	}
	h := d.all.hists(x)
	for _, m := range schemas.Metrics() {
		r.Metrics = append(r.Metrics, r.metric(m, d, h, exact[m.Name]))
	}
	r.correct()
	if !o.Brief {
		r.overTime(d, q.steps)
		r.peakHours(d)
		r.Distributions = r.distributions(d.all)
		if r.Segments, err = q.segments(ctx, r); err != nil {
			return nil, fail("read segments", err)
		}
	}
	r.Health = r.health(&u)
	r.Decision = r.decide()
	r.Queries = q.asked
	return r, nil
}

// decisive are the metrics with a role whose variance over every unit is asked for.
func decisive(x *schemas.Experiment) []schemas.Metric {
	var out []schemas.Metric
	for _, m := range schemas.Metrics() {
		if role(x, m.Name) != "" && m.Quantile == 0 {
			out = append(out, m)
		}
	}
	return out
}

// metric compares the arms on one metric, from exact moments where they are given.
func (r *Report) metric(m schemas.Metric, d data, h hists, exact map[string]stats.Moments) MetricReport {
	x := &r.Experiment
	mr := MetricReport{Key: m.Name, Name: m.Title, Unit: m.Unit, HigherIsBetter: m.HigherIsBetter, Role: role(x, m.Name), scale: formulas[m.Name].scale}
	if exact != nil {
		mr.Exact = true
		mr.estimates = ratioEstimates(x, func(arm string) (stats.Moments, error) { return exact[arm], nil })
	} else {
		mr.estimates = d.all.estimates(x, m, h, r.Alpha)
	}
	if x.Unit == schemas.UnitBlock && m.Quantile == 0 {
		mr.pairs = []pairing{d.all.pair(x, m, mr.Role != "", r.Alpha)}
	}
	mr.Arms = mr.spans(mr.estimates, r.Alpha)
	mr.Comparisons = compare(x, mr.estimates, mr.pairs, exposedUnits(r.Arms), mr.scale, r.Alpha)
	return mr
}

func exposedUnits(sizes []ArmSize) []float64 {
	out := make([]float64, len(sizes))
	for i, a := range sizes {
		out[i] = float64(a.Exposed)
	}
	return out
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
	q := &queries{conn: conn, x: x, db: o.Database, from: time.UnixMicro(x.StartedUnixUs).UTC(), until: o.Until.UTC()}
	q.steps = newSteps(q.from, q.until)
	return q, o, nil
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

// sizes tells how much data each arm has, and tests the split.
func (r *Report) sizes(u *units, a arms) {
	var observed []int64
	var weights []float64
	for _, arm := range r.Experiment.Arms {
		size := ArmSize{Arm: arm.Name, Exposed: u.exposed[arm.Name], Units: u.reported[arm.Name], Silent: u.silent[arm.Name], Unexposed: u.unexposed[arm.Name]}
		var reports, lost int64
		for _, c := range a[arm.Name] {
			size.Sessions += c.sums[columnIndex["sessions"]]
			reports += c.sums[columnIndex["reports"]]
			lost += c.sums[columnIndex["lost_reports"]]
		}
		if size.Lost = (Figure{Value: float64(lost) / float64(reports+lost)}); reports+lost <= 0 {
			size.Lost = Figure{Undefined: "no reports"}
		}
		r.Arms = append(r.Arms, size)
		observed = append(observed, size.Exposed)
		weights = append(weights, arm.Weight)
	}
	srm, err := stats.SRM(observed, weights)
	r.SRMP = figure(srm.P, err)
	ln, err := stats.SequentialSRM(observed, weights, stats.DefaultConcentration)
	r.SRMSequentialP = figure(min(1, math.Exp(-ln)), err)
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
			each := make([]stats.BucketHist, len(a[arm.Name]))
			for i, c := range a[arm.Name] {
				each[i] = c.hist[key]
			}
			b, err := stats.NewBuckets(each)
			out[key] = append(out[key], armHist{b, err})
		}
	}
	return out
}

// estimates of one metric, arm by arm.
func (a arms) estimates(x *schemas.Experiment, m schemas.Metric, h hists, alpha float64) []armEstimate {
	f := formulas[m.Name]
	if f.hist == "" {
		return ratioEstimates(x, func(arm string) (stats.Moments, error) { return a.moments(arm, f) })
	}
	out := make([]armEstimate, len(x.Arms))
	for i, arm := range h[f.hist] {
		if out[i].err = arm.err; arm.err != nil {
			continue
		}
		c, err := arm.b.Quantile(m.Quantile, alpha)
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
			s, err := stats.CS{Alpha: alpha, NStar: nStar(x)}.At(d.Estimate, d.SE, units[0]+units[i+1])
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
