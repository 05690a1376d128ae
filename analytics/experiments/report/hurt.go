package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

// Finding is a segment in which an arm differs from the control by more than looking at so many segments explains.
type Finding struct {
	Dimension string `json:"dimension"` // cdn, region, isp, device
	Value     string `json:"value"`
	Arm       string `json:"arm"`
	Metric    string `json:"metric"`
	// Hurt: the arm is worse there; else it is better.
	Hurt bool `json:"hurt"`
	// P is the p-value with Holm's correction over every comparison by segment.
	P float64 `json:"holm_p"`
	// Text says it in plain words.
	Text string `json:"text"`
}

// findings lists the segments in which an arm is shown to be worse or better, those that are hurt first and the surest of each before the others, and says how
// many comparisons were made.
func (r *Report) findings() (found []Finding, compared int) {
	var helped []Finding
	for i := range r.Segments {
		s := &r.Segments[i]
		for _, v := range s.Values {
			for k := range v.Metrics {
				m := &v.Metrics[k]
				for arm := range m.Comparisons {
					c := &m.Comparisons[arm]
					if c.Holm.Undefined != "" {
						continue
					}
					compared++
					side := m.side(c, r.Alpha)
					if side == 0 {
						continue
					}
					f := Finding{Dimension: s.Dimension, Value: v.Value, Arm: c.Arm, Metric: m.Key, Hurt: side < 0, P: c.Holm.Value}
					f.Text = r.inSegment(s, v.Value, m, arm)
					if f.Hurt {
						found = append(found, f)
					} else {
						helped = append(helped, f)
					}
				}
			}
		}
	}
	for _, f := range [][]Finding{found, helped} {
		slices.SortStableFunc(f, func(a, b Finding) int { return cmp.Compare(a.P, b.P) })
	}
	return append(found, helped...), compared
}

// side says what a comparison within a segment shows once all of them are counted: 1 better, -1 worse, 0 nothing.
func (m *SegmentMetric) side(c *Comparison, alpha float64) int {
	named, _ := schemas.MetricNamed(m.Key)
	better := c.Difference.Estimate < 0
	if named.HigherIsBetter {
		better = c.Difference.Estimate > 0
	}
	switch {
	case c.Holm.Undefined != "" || c.Difference.Undefined != "" || c.Holm.Value >= alpha || c.Difference.Estimate == 0:
		return 0
	case better:
		return 1
	}
	return -1
}

// inSegment says one comparison in plain words.
func (r *Report) inSegment(s *Segment, value string, m *SegmentMetric, arm int) string {
	c, word := &m.Comparisons[arm], "better"
	if m.side(c, r.Alpha) < 0 {
		word = "worse"
	}
	by := fmt.Sprintf("difference %s", spanText(c.Difference, 1, " "+m.Unit))
	if c.Lift.Undefined == "" {
		by = fmt.Sprintf("%+.3g %%, between %+.3g %% and %+.3g %%", 100*c.Lift.Estimate, 100*c.Lift.Lower, 100*c.Lift.Upper)
	}
	return fmt.Sprintf("%s %s: %s of arm %s is %s, %s instead of %s %s (%s)", s.Title(), shown(value), m.Name, c.Arm, word,
		num(m.Arms[arm+1].Estimate), num(m.Arms[0].Estimate), m.Unit, by)
}

// Hurt are the findings of arms that are worse somewhere.
func (r *Report) Hurt() []Finding {
	for i, f := range r.Findings {
		if !f.Hurt {
			return r.Findings[:i]
		}
	}
	return r.Findings
}

// SegmentsText says in a sentence what the segments show.
func (r *Report) SegmentsText() string {
	hurt := len(r.Hurt())
	switch {
	case r.Compared == 0:
		return "No segment has enough to compare the arms in"
	case len(r.Findings) == 0:
		return fmt.Sprintf("Nobody is shown to be hurt or helped apart from the others: of %d comparisons none is beyond what chance brings. A small segment shows only large differences", r.Compared)
	case hurt == 0:
		return fmt.Sprintf("Nobody is shown to be hurt; %d of %d comparisons show an arm to be better", len(r.Findings), r.Compared)
	}
	return fmt.Sprintf("Somebody is hurt: %d of %d comparisons show an arm to be worse, beyond what chance brings among so many", hurt, r.Compared)
}

// shown is a segment's value for people.
func shown(value string) string {
	if value == "" {
		return "(not known)"
	}
	return value
}

// word says what a comparison shows, for a column of them.
func (m *SegmentMetric) word(c *Comparison, alpha float64) string {
	switch m.side(c, alpha) {
	case 1:
		return "better"
	case -1:
		return "WORSE"
	}
	return ""
}
