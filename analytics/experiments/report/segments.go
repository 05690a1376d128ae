package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Segment is one dimension that sessions differ in.
type Segment struct {
	Dimension string `json:"dimension"` // cdn, region, isp, device
	// After says why the arms are not compared there: empty where they are.
	After string `json:"after_assignment,omitempty"`
	// Caution says why a comparison there is weaker than one of all sessions; empty: the segment was fixed before the
	// assignment.
	Caution string         `json:"caution,omitempty"`
	Values  []SegmentValue `json:"values"`
}

// SegmentValue are the arms within one value of a dimension.
type SegmentValue struct {
	Value string `json:"value"`
	// Sessions by arm.
	Sessions []int64         `json:"sessions"`
	Metrics  []SegmentMetric `json:"metrics"`
}

// SegmentMetric is one metric there. Holm in its comparisons is over every comparison of the report's segments together:
// all values, metrics and arms.
type SegmentMetric struct {
	Key         string       `json:"key"`
	Name        string       `json:"name"`
	Unit        string       `json:"unit"`
	Arms        []Span       `json:"arms"`
	Comparisons []Comparison `json:"comparisons,omitempty"`
}

// dimensions that rollup_arm_segment_hour knows.
var dimensions = []string{"cdn", "region", "isp", "device"}

// maxValues of a dimension are shown: those with the most sessions. More would be a list of noise.
const maxValues = 8

// segmentColumns are the sums that rollup_arm_segment_hour has.
var segmentColumns = []string{
	"sessions", "attempts", "starts", "startup_ms", "exits_before_start", "start_failures", "playback_failures", "played_ms", "stalled_ms", "stalls",
	"latency_ms_sum", "latency_weight_ms", "bitrate_kbps_ms_sum", "bitrate_weight_ms",
}

// meanOf are the means that stand for quantiles, which segments have no histograms for.
func meanOf(metric string) string {
	for _, family := range []string{"first_screen", "latency"} {
		if strings.HasPrefix(metric, family+"_p") {
			return family + "_mean"
		}
	}
	return metric
}

// segmentMetrics are those that decide, as far as the sums there tell them, and what viewers notice first.
func segmentMetrics(x *schemas.Experiment) []schemas.Metric {
	names := []string{meanOf(x.PrimaryMetric)}
	for _, g := range x.Guardrails {
		names = append(names, meanOf(g.Metric))
	}
	names = append(names, "stall_ratio", "first_screen_mean", "start_failure_ratio")
	var out []schemas.Metric
	for _, name := range names {
		m, ok := schemas.MetricNamed(name)
		f := formulas[name]
		told := ok && f.den != nil && !slices.ContainsFunc(slices.Concat(f.num, f.den), func(c string) bool { return !slices.Contains(segmentColumns, c) })
		if told && !slices.ContainsFunc(out, func(o schemas.Metric) bool { return o.Name == name }) {
			out = append(out, m)
		}
	}
	return out
}

// segments reads and compares. Sums are of whole hours where units are many.
func (q *queries) segments(ctx context.Context, r *Report) ([]Segment, error) {
	sums := "sum(" + strings.Join(segmentColumns, "), sum(") + ")"
	rows := q.db + `.rollup_arm_segment_hour WHERE experiment = {experiment:String} AND hour >= toStartOfHour({from:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')} AND`
	cluster := "toString(bucket)"
	if !q.rolled || q.x.Unit != schemas.UnitViewer && q.x.Unit != schemas.UnitSession {
		// Clusters are the units themselves, or the roll-up does not go back far enough.
		cluster = "unit"
		if q.x.Unit == schemas.UnitViewer || q.x.Unit == schemas.UnitSession {
			cluster = "toString(sipHash64(unit) % 64)"
		}
		rows = `(SELECT segment.1 AS dimension, left(segment.2, 64) AS value, arm, unit, ` + strings.Join(segmentColumns, ", ") + ` FROM ` + q.slices() + `
			ARRAY JOIN [('cdn', toString(cdn)), ('region', toString(region)), ('isp', toString(isp)), ('device', toString(device))] AS segment) WHERE`
	}
	// Telemetry may bring any number of values: those with the most sessions are read.
	text := `SELECT dimension, value, arm, ` + cluster + ` AS cluster, ` + sums + ` FROM ` + rows + `
		(dimension, value) GLOBAL IN (SELECT dimension, value FROM ` + rows + ` 1
			GROUP BY dimension, value ORDER BY sum(sessions) DESC, value LIMIT ` + fmt.Sprint(maxValues) + ` BY dimension)
		GROUP BY dimension, value, arm, cluster`
	found := map[string]map[string]arms{}
	err := q.run(ctx, "sums by segment, arm and hash bucket", text, func(scan func(...any) error) error {
		var dimension, value, arm, unit string
		read := make([]int64, len(segmentColumns))
		dest := []any{&dimension, &value, &arm, &unit}
		for i := range read {
			dest = append(dest, &read[i])
		}
		if err := scan(dest...); err != nil {
			return err
		}
		c := newCluster()
		c.unit = unit
		for i, name := range segmentColumns {
			c.sums[columnIndex[name]] = read[i]
		}
		if found[dimension] == nil {
			found[dimension] = map[string]arms{}
		}
		if found[dimension][value] == nil {
			found[dimension][value] = arms{}
		}
		found[dimension][value][arm] = append(found[dimension][value][arm], c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return segmentsOf(q.x, found, r.Alpha), nil
}

// segmentsOf compares the arms in each segment.
func segmentsOf(x *schemas.Experiment, found map[string]map[string]arms, alpha float64) []Segment {
	var out []Segment
	for _, d := range dimensions {
		s := Segment{Dimension: d, Values: []SegmentValue{}}
		if d == "cdn" {
			s.Caution = "the CDN is chosen after the assignment, for each request anew: where an arm makes viewers move away from a CDN, a part of the difference there is who stayed"
			if plan.MovesLoad(x) {
				s.Caution, s.After = "", "the arms route differently, so the arm itself decides who is on which CDN: the figures say where each arm's sessions played, not what the arm did to them"
			}
		}
		for value, a := range found[d] {
			s.Values = append(s.Values, segmentValue(x, value, a, s.After == "", alpha))
		}
		slices.SortFunc(s.Values, func(a, b SegmentValue) int {
			return cmp.Or(cmp.Compare(all(b.Sessions), all(a.Sessions)), strings.Compare(a.Value, b.Value))
		})
		s.Values = s.Values[:min(len(s.Values), maxValues)]
		out = append(out, s)
	}
	correctSegments(out)
	return out
}

func all(n []int64) (sum int64) {
	for _, v := range n {
		sum += v
	}
	return sum
}

func segmentValue(x *schemas.Experiment, value string, a arms, fair bool, alpha float64) SegmentValue {
	v := SegmentValue{Value: value, Metrics: []SegmentMetric{}}
	units := make([]float64, len(x.Arms))
	for i, arm := range x.Arms {
		n := int64(0)
		for _, c := range a[arm.Name] {
			n += c.sums[columnIndex["sessions"]]
		}
		v.Sessions = append(v.Sessions, n)
		units[i] = float64(len(a[arm.Name]))
	}
	for _, m := range segmentMetrics(x) {
		f := formulas[m.Name]
		e := a.estimates(x, m, nil, alpha)
		sm := SegmentMetric{Key: m.Name, Name: m.Title, Unit: m.Unit}
		for _, arm := range e {
			sm.Arms = append(sm.Arms, armSpan(arm.e, arm.iv, arm.err, f.scale, alpha))
		}
		if fair {
			sm.Comparisons = compare(x, e, nil, units, f.scale, alpha)
			for i := range sm.Comparisons {
				c := &sm.Comparisons[i]
				c.Sequence, c.SequenceP = Span{Undefined: "not kept by segment"}, Figure{Undefined: "not kept by segment"}
			}
		}
		v.Metrics = append(v.Metrics, sm)
	}
	return v
}

// correctSegments adds Holm's correction over every comparison by segment: all values, metrics and arms. Holm rather than
// Benjamini and Hochberg: a single segment is acted on by itself, and segments of one dimension hold the same sessions as
// those of another, in any dependence.
func correctSegments(segments []Segment) {
	var family []*Comparison
	var ps []float64
	for s := range segments {
		for v := range segments[s].Values {
			for m := range segments[s].Values[v].Metrics {
				cs := segments[s].Values[v].Metrics[m].Comparisons
				for i := range cs {
					if cs[i].Holm.Undefined = cs[i].P.Undefined; cs[i].P.Undefined == "" {
						family, ps = append(family, &cs[i]), append(ps, cs[i].P.Value)
					}
				}
			}
		}
	}
	adjusted, err := stats.AdjustP(ps)
	for i, c := range family {
		if err != nil {
			c.Holm.Undefined = why(err)
		} else {
			c.Holm.Value = adjusted.Holm[i]
		}
	}
}
