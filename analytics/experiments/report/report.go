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
	"fmt"
	"slices"
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
	// Exact takes the variance of the primary metric and of the guardrails over every unit, while its rows are kept.
	Exact bool
	// Brief is for judging again and again: it leaves out what no decision needs (time lines, distributions, peak hours,
	// segments), and tests the split and lost telemetry so that the tests hold at every look.
	Brief bool

	now time.Time // zero: the present
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
	// SequenceUnits is the number of units, of control and one further arm, at which intervals of every look are tightest.
	SequenceUnits float64 `json:"sequence_units"`
	// SRMP is the chi-square p-value of exposed units against the planned split; below 0.001 the comparison is not to be trusted.
	SRMP Figure `json:"srm_p"`
	// SRMSequentialP is that of the sequential test, which holds at every look.
	SRMSequentialP Figure         `json:"srm_sequential_p"`
	Metrics        []MetricReport `json:"metrics"`
	// Distributions of first screen and latency, arm by arm.
	Distributions []Distribution `json:"distributions,omitempty"`
	// Segments are the arms within one CDN, region, provider or device each.
	Segments []Segment `json:"segments,omitempty"`
	// Findings are the segments in which an arm is shown to be worse, then those in which one is better, of Compared
	// comparisons in all.
	Findings []Finding `json:"segment_findings,omitempty"`
	Compared int       `json:"segment_comparisons,omitempty"`
	// Queries are the statements behind every figure.
	Queries []Query `json:"queries"`

	clamped int64 // rows below 0 in the histograms of the busiest hours
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
	// Formula is how it comes from the columns of the statements.
	Formula string `json:"formula"`
	// Exact: the variance is over every unit, not over hash buckets of them.
	Exact bool `json:"exact,omitempty"`
	// Looks are the figures as they stood at times since the start, all data until then.
	Looks []Look `json:"looks,omitempty"`
	// Alpha is the error rate of its intervals: the report's, for the primary metric divided by the number of further
	// arms, each of which could be shipped.
	Alpha float64 `json:"alpha"`
	// PlannedEnd are the figures as they stood at the end of the planned run, which the fixed test is for; nil: that is
	// not over, or the metric is not the primary one.
	PlannedEnd *Look `json:"planned_end,omitempty"`
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
	o.Exact = o.Exact && !slicesGone(q.from, q.now)
	r := &Report{Experiment: *x, From: q.from, Until: q.until, Alpha: o.Alpha, SequenceUnits: nStar(x)}
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
	var exact map[string]map[string]unitSums
	if o.Exact {
		if exact, err = q.exact(ctx, decisive(x)); err != nil {
			return nil, fail("read totals of each unit", err)
		}
	}
	h := d.all.hists(x)
	for _, m := range schemas.Metrics() {
		r.Metrics = append(r.Metrics, r.metric(m, d, h, exact))
	}
	r.correct()
	if m := r.primary(); m != nil {
		if m.PlannedEnd, err = q.atPlannedEnd(ctx, &u, m.Key, o); err != nil {
			return nil, fail("read what there was at the planned end", err)
		}
	}
	if !o.Brief {
		r.overTime(d, q.steps)
		r.peakHours(d)
		r.Distributions = r.distributions(d.all)
		if r.Segments, err = q.segments(ctx, r); err != nil {
			return nil, fail("read segments", err)
		}
		r.Findings, r.Compared = r.findings()
	}
	r.Health = r.health(&u, o.Brief)
	r.Health.kept(x, q.rolled, q.from, q.now)
	r.Decision = r.decide()
	r.Queries = q.asked
	return r, nil
}

// decisive are the metrics with a role whose variance over every unit is asked for.
func decisive(x *schemas.Experiment) []schemas.Metric {
	var out []schemas.Metric
	for _, m := range schemas.Metrics() {
		if role(x, m.Name) == "" {
			continue
		}
		if m.Quantile == 0 {
			out = append(out, m)
		} else if formulas[m.Name].hist == "first_screen" && !slices.Contains(out, failedStarts) {
			out = append(out, failedStarts)
		}
	}
	return out
}

// metric compares the arms on one metric, from exact moments where they are given.
func (r *Report) metric(m schemas.Metric, d data, h hists, exact map[string]map[string]unitSums) MetricReport {
	x := &r.Experiment
	mr := r.newMetric(m)
	sums := func(name string) []armEstimate {
		if exact[name] != nil {
			return ratioEstimates(x, func(arm string) unitSums { return exact[name][arm] })
		}
		return ratioEstimates(x, func(arm string) unitSums { return d.all.moments(arm, formulas[name]) })
	}
	if m.Quantile == 0 {
		mr.Exact = exact[m.Name] != nil
		mr.estimates = sums(m.Name)
	} else {
		mr.estimates = d.all.estimates(x, m, h, mr.Alpha)
	}
	if mr.Role != "" && formulas[m.Name].hist == "first_screen" {
		withFailures(mr.estimates, sums(failedStarts.Name))
	}
	if x.Unit == schemas.UnitBlock && m.Quantile == 0 {
		mr.pairs = []pairing{d.all.pair(x, m, mr.Role != "", mr.Alpha)}
	}
	mr.compare(x, exposedUnits(r.Arms))
	return mr
}

// newMetric is a metric without figures.
func (r *Report) newMetric(m schemas.Metric) MetricReport {
	mr := MetricReport{Key: m.Name, Name: m.Title, Unit: m.Unit, HigherIsBetter: m.HigherIsBetter, Role: role(&r.Experiment, m.Name), Formula: formulas[m.Name].text(m), scale: formulas[m.Name].scale, Alpha: r.Alpha}
	if mr.Role == "primary" {
		mr.Alpha /= float64(len(r.Experiment.Arms) - 1)
	}
	return mr
}

// compare fills the arms' values and comparisons from their estimates.
func (m *MetricReport) compare(x *schemas.Experiment, units []float64) {
	m.Arms = m.spans(m.estimates, m.Alpha)
	m.Comparisons = compare(x, m.estimates, m.pairs, units, m.scale, m.Alpha)
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
	if o.now.IsZero() {
		o.now = time.Now()
	}
	if o.Until.IsZero() {
		o.Until = o.now
	}
	if stopped := time.UnixMicro(x.StoppedUnixUs); x.StoppedUnixUs != 0 && stopped.Before(o.Until) {
		// What plays on after it is no longer a comparison of all who came.
		o.Until = stopped
	}
	q := &queries{conn: conn, x: x, db: o.Database, from: time.UnixMicro(x.StartedUnixUs).UTC(), until: o.Until.UTC(), now: o.now}
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
	p, err := stats.SequentialSplit(observed, weights)
	r.SRMSequentialP = figure(p, err)
}
