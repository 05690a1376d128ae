package report

import (
	"fmt"
	"strings"
)

// Effect says what a comparison within a segment shows, "worse" or "better"; empty: nothing.
func (p *page) Effect(m SegmentMetric, c Comparison) string {
	return strings.ToLower(m.word(&c, p.Alpha))
}

// RowsOf is how many rows of a table a value of a segment takes: one for each metric and further arm, one for each metric
// where arms are not compared.
func (p *page) RowsOf(s Segment, v SegmentValue) int {
	n := 0
	for i := range v.Metrics {
		n += len(p.Rows(s, v.Metrics[i]))
	}
	return n
}

// Rows are the comparisons of a metric of a segment, an empty one where arms are not compared.
func (p *page) Rows(s Segment, m SegmentMetric) []Comparison {
	if s.After != "" || len(m.Comparisons) == 0 {
		return []Comparison{{}}
	}
	return m.Comparisons
}

// Columns are those before the comparisons of a row: metric and arms.
func (p *page) Columns() int { return 1 + len(p.Names) }

// More is how many segments are hurt beside the first one.
func (p *page) More() int { return len(p.Hurt()) - 1 }

// Sentence says the curves in plain words.
func (c curveView) Sentence() string {
	var out []string
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Undefined != "" {
			continue
		}
		half, most := a.reaches(0.5), a.reaches(0.9)
		switch {
		case most > 0:
			out = append(out, fmt.Sprintf("%s: half within %s ms, nine in ten within %s ms", a.Arm, num(half), num(most)))
		case half > 0:
			out = append(out, fmt.Sprintf("%s: half within %s ms, fewer than nine in ten ever", a.Arm, num(half)))
		default:
			out = append(out, a.Arm+": fewer than half ever")
		}
	}
	return strings.Join(out, "; ")
}
