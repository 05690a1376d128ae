// Package report compares the arms of an experiment on what ClickHouse holds:
// stall ratio, first screen, live latency and failures, each with intervals.
//
// It promises that variance is taken over randomization units, that every
// assigned unit counts in its arm whatever CDN served it (intention to treat),
// and that a figure that cannot be computed is said to be undefined with the
// reason. It reads session slices and exposures and writes nothing; sequential
// monitoring, segments and decisions are not here yet.
package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Options of a report.
type Options struct {
	Database string  // default spillway
	Alpha    float64 // error rate of the intervals; default 0.05
	// Until ends the data, stream time; zero means now.
	Until time.Time
}

// Report is the comparison of all arms with the first one, the control.
type Report struct {
	Experiment schemas.Experiment `json:"experiment"`
	From       time.Time          `json:"from"`
	Until      time.Time          `json:"until"`
	Alpha      float64            `json:"alpha"`
	Arms       []ArmSize          `json:"arms"`
	// SRMP is the chi-square p-value of exposed units against the planned split; below 0.001 the comparison is not to be trusted.
	SRMP    Figure         `json:"srm_p"`
	Metrics []MetricReport `json:"metrics"`
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
	Name        string       `json:"name"`
	Unit        string       `json:"unit"`
	Arms        []Span       `json:"arms"`
	Comparisons []Comparison `json:"comparisons"`
}

// Comparison is one arm minus control, absolute and relative.
type Comparison struct {
	Arm        string `json:"arm"`
	Difference Span   `json:"difference"`
	Lift       Span   `json:"lift"`
	P          Figure `json:"p"`
}

// metric is a ratio of two per-unit totals, given as SQL over session_slices.
type metric struct {
	name, unit string
	num, den   string
	scale      float64
}

// ratioMetrics are means and shares; see docs/metrics.md for each.
var ratioMetrics = []metric{
	{"stall ratio", "%", "stalled_ms", "played_ms + stalled_ms", 100},
	{"stalls per hour", "1/h", "stalls", "played_ms + stalled_ms", 3_600_000},
	{"start failures", "%", "start_failures", "attempts", 100},
	{"live latency, mean", "ms", "latency_ms_sum", "latency_weight_ms", 1},
	{"played per unit", "s", "played_ms", "1", 0.001},
}

// quantileMetrics are quantiles of log-histograms.
var quantileMetrics = []struct {
	name, bins, counts string
	p                  float64
}{
	{"first screen, median", "first_screen_bins", "first_screen_counts", 0.5},
	{"first screen, p90", "first_screen_bins", "first_screen_counts", 0.9},
	{"live latency, median", "latency_bins", "latency_counts", 0.5},
}

// clusterBuckets is the number of hash buckets quantiles take their variance over.
const clusterBuckets = 256

// unitColumn gives the SQL of the randomization unit.
func unitColumn(kind string) (string, error) {
	switch kind {
	case "session":
		return "session_id", nil
	case "viewer":
		return "if(viewer_id = '', session_id, viewer_id)", nil
	case "stream":
		return "concat(app, '/', stream)", nil
	}
	return "", fmt.Errorf("experiment unit %q is not session, viewer or stream", kind)
}

// Build reads ClickHouse and computes the report.
func Build(ctx context.Context, conn driver.Conn, x *schemas.Experiment, o Options) (*Report, error) {
	if err := x.Check(); err != nil {
		return nil, err
	}
	if o.Database == "" {
		o.Database = "spillway"
	}
	if o.Alpha == 0 {
		o.Alpha = 0.05
	}
	if o.Until.IsZero() {
		o.Until = time.Now()
	}
	q := &queries{conn: conn, x: x, db: o.Database, from: time.UnixMicro(x.StartedUnixUs).UTC(), until: o.Until.UTC()}
	var err error
	if q.unit, err = unitColumn(x.Unit); err != nil {
		return nil, err
	}
	r := &Report{Experiment: *x, From: q.from, Until: q.until, Alpha: o.Alpha}
	if err := r.sizes(ctx, q); err != nil {
		return nil, fmt.Errorf("experiment %s: count units: %w", x.Name, err)
	}
	test := stats.Test{Alpha: o.Alpha}
	for _, m := range ratioMetrics {
		arms, err := q.ratios(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("experiment %s: %s: %w", x.Name, m.name, err)
		}
		r.Metrics = append(r.Metrics, compare(m.name, m.unit, m.scale, x, test, func(arm string) (stats.Estimate, *stats.Interval, error) {
			e, err := stats.Ratio(arms[arm])
			return e, nil, err
		}))
	}
	for _, m := range quantileMetrics {
		arms, err := q.histograms(ctx, m.bins, m.counts)
		if err != nil {
			return nil, fmt.Errorf("experiment %s: %s: %w", x.Name, m.name, err)
		}
		r.Metrics = append(r.Metrics, compare(m.name, "ms", 1, x, test, func(arm string) (stats.Estimate, *stats.Interval, error) {
			c, err := stats.QuantileFromBuckets(arms[arm], m.p, o.Alpha)
			if err != nil {
				return stats.Estimate{}, nil, err
			}
			e, err := c.Estimate()
			return e, &stats.Interval{Lower: c.Lower, Upper: c.Upper}, err
		}))
	}
	return r, nil
}

// sizes counts units per arm and tests the split.
func (r *Report) sizes(ctx context.Context, q *queries) error {
	exposed, err := q.exposed(ctx)
	if err != nil {
		return err
	}
	sized, err := q.sized(ctx)
	if err != nil {
		return err
	}
	var observed []int64
	var weights []float64
	for _, a := range q.x.Arms {
		s := sized[a.Name]
		r.Arms = append(r.Arms, ArmSize{Arm: a.Name, Exposed: exposed[a.Name], Units: s[0], Sessions: s[1]})
		observed = append(observed, exposed[a.Name])
		weights = append(weights, a.Weight)
	}
	srm, err := stats.SRM(observed, weights)
	r.SRMP = figure(srm.P, err)
	return nil
}

// compare fills one metric from a function that estimates an arm.
func compare(name, unit string, scale float64, x *schemas.Experiment, test stats.Test,
	estimate func(arm string) (stats.Estimate, *stats.Interval, error)) MetricReport {
	m := MetricReport{Name: name, Unit: unit}
	type armEstimate struct {
		e   stats.Estimate
		err error
	}
	arms := make([]armEstimate, len(x.Arms))
	for i, a := range x.Arms {
		e, iv, err := estimate(a.Name)
		arms[i] = armEstimate{e, err}
		m.Arms = append(m.Arms, armSpan(e, iv, err, scale, test.Alpha))
	}
	control := arms[0]
	for i, a := range x.Arms[1:] {
		t := arms[i+1]
		c := Comparison{Arm: a.Name}
		if err := errors.Join(control.err, t.err); err != nil {
			c.Difference.Undefined, c.Lift.Undefined, c.P.Undefined = why(err), why(err), why(err)
			m.Comparisons = append(m.Comparisons, c)
			continue
		}
		d, err := stats.Difference(control.e, t.e, test)
		if err != nil {
			c.Difference.Undefined, c.P.Undefined = why(err), why(err)
		} else {
			c.Difference = Span{Estimate: d.Estimate * scale, Lower: d.Lower * scale, Upper: d.Upper * scale}
			c.P = Figure{Value: d.P}
		}
		l, err := stats.LiftFieller(control.e, t.e, test)
		if err != nil {
			c.Lift.Undefined = why(err)
		} else {
			c.Lift = Span{Estimate: l.Estimate, Lower: l.Lower, Upper: l.Upper}
		}
		m.Comparisons = append(m.Comparisons, c)
	}
	return m
}

// armSpan is one arm's value with its interval: the given one, or Student's.
func armSpan(e stats.Estimate, iv *stats.Interval, err error, scale, alpha float64) Span {
	if err != nil {
		return Span{Undefined: why(err)}
	}
	s := Span{Estimate: e.Value * scale}
	if iv != nil {
		s.Lower, s.Upper = iv.Lower*scale, iv.Upper*scale
		return s
	}
	h := stats.StudentQuantile(1-alpha/2, e.Units-1) * e.SE()
	s.Lower, s.Upper = (e.Value-h)*scale, (e.Value+h)*scale
	return s
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

// queries read one experiment's data.
type queries struct {
	conn        driver.Conn
	x           *schemas.Experiment
	db, unit    string
	from, until time.Time
}

// slices is the FROM clause of all figures: the experiment's session slices with their arm.
func (q *queries) slices() string {
	return `(SELECT *, ` + q.unit + ` AS unit, extractKeyValuePairs(arms, '=', ',')[{experiment:String}] AS arm
		FROM ` + q.db + `.session_slices
		WHERE arms LIKE {pattern:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')}) WHERE arm != ''`
}

func (q *queries) run(ctx context.Context, sql string, row func(scan func(dest ...any) error) error) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"experiment": q.x.Name, "pattern": "%" + q.x.Name + "=%", "salt": q.x.Salt,
		"from": stamp(q.from), "until": stamp(q.until),
	}))
	rows, err := q.conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// exposed counts units by the arm of their first exposure.
func (q *queries) exposed(ctx context.Context) (map[string]int64, error) {
	n := map[string]int64{}
	err := q.run(ctx, `SELECT arm, toInt64(count()) FROM (
			SELECT unit, argMin(arm, time) AS arm FROM `+q.db+`.exposures
			WHERE experiment = {experiment:String} AND salt = {salt:String} AND reason != 'forced'
			  AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')}
			GROUP BY unit) GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var c int64
			if err := scan(&arm, &c); err != nil {
				return err
			}
			n[arm] = c
			return nil
		})
	return n, err
}

// sized counts units and sessions with telemetry by arm.
func (q *queries) sized(ctx context.Context) (map[string][2]int64, error) {
	n := map[string][2]int64{}
	err := q.run(ctx, `SELECT arm, toInt64(uniqExact(unit)), sum(sessions) FROM `+q.slices()+` GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var units, sessions int64
			if err := scan(&arm, &units, &sessions); err != nil {
				return err
			}
			n[arm] = [2]int64{units, sessions}
			return nil
		})
	return n, err
}

// ratios gives each arm's sums of per-unit totals; squares are summed in 256
// bits, because the difference of large squares is what variance is made of.
func (q *queries) ratios(ctx context.Context, m metric) (map[string]stats.Moments, error) {
	out := map[string]stats.Moments{}
	den := "sum(" + m.den + ")"
	if m.den == "1" {
		den = "1"
	}
	err := q.run(ctx, `SELECT arm, toInt64(count()), toString(sum(x)), toString(sum(d)), toString(sum(x * x)), toString(sum(x * d)), toString(sum(d * d)) FROM (
			SELECT arm, unit, toInt256(sum(`+m.num+`)) AS x, toInt256(`+den+`) AS d FROM `+q.slices()+` GROUP BY arm, unit)
		WHERE d > 0 GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var s [5]string
			sums := stats.IntSums{}
			if err := scan(&arm, &sums.Units, &s[0], &s[1], &s[2], &s[3], &s[4]); err != nil {
				return err
			}
			var v [5]*big.Int
			for i := range s {
				b, ok := new(big.Int).SetString(s[i], 10)
				if !ok {
					return fmt.Errorf("sum %q is not an integer", s[i])
				}
				v[i] = b
			}
			sums.Sum[stats.Num], sums.Sum[stats.Den] = v[0], v[1]
			sums.Product[stats.Num][stats.Num], sums.Product[stats.Den][stats.Den] = v[2], v[4]
			sums.Product[stats.Num][stats.Den], sums.Product[stats.Den][stats.Num] = v[3], v[3]
			mom, err := sums.Moments()
			if err != nil {
				return err
			}
			out[arm] = mom
			return nil
		})
	return out, err
}

// histograms gives each arm's log-histograms by hash bucket of the unit.
func (q *queries) histograms(ctx context.Context, bins, counts string) (map[string][]stats.BucketHist, error) {
	out := map[string][]stats.BucketHist{}
	err := q.run(ctx, fmt.Sprintf(`SELECT arm, sumMap(%s, %s) AS m FROM `, bins, counts)+q.slices()+
		fmt.Sprintf(` GROUP BY arm, sipHash64('report', unit) %% %d AS bucket ORDER BY arm, bucket`, clusterBuckets),
		func(scan func(...any) error) error {
			var arm string
			var m []any
			if err := scan(&arm, &m); err != nil {
				return err
			}
			h, err := bucketHist(m)
			if err != nil {
				return err
			}
			out[arm] = append(out[arm], h)
			return nil
		})
	return out, err
}

// bucketHist reads the tuple of keys and counts that sumMap gives.
func bucketHist(m []any) (stats.BucketHist, error) {
	h := stats.BucketHist{Bins: map[int32]uint64{}}
	if len(m) != 2 {
		return h, fmt.Errorf("histogram has %d columns: bins and counts are expected", len(m))
	}
	bins, ok1 := m[0].([]int64)
	counts, ok2 := m[1].([]int64)
	if !ok1 || !ok2 || len(bins) != len(counts) {
		return h, fmt.Errorf("histogram is of %T and %T: two lists of integers of one length are expected", m[0], m[1])
	}
	for i, b := range bins {
		switch {
		case counts[i] == 0:
		case counts[i] < 0:
			return h, fmt.Errorf("histogram bin %d has the count %d: corrections exceed what was counted", b, counts[i])
		case b >= schemas.FailedStartBin:
			h.Inf += uint64(counts[i])
		case b < 0 || b > math.MaxInt32:
			return h, fmt.Errorf("histogram bin %d is out of range", b)
		default:
			h.Bins[int32(b)] = uint64(counts[i])
		}
	}
	return h, nil
}
