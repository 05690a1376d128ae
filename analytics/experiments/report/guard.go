package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// States of a guardrail.
const (
	GuardPassed = "passed" // worse by less than the margin, shown
	GuardHarmed = "harmed" // worse than the control, shown at every look
	GuardOpen   = "open"   // neither is shown yet
	GuardQuiet  = "quiet"  // nothing of what it counts happened in either arm, of units enough to say so
)

// quietShare is the share of units in which something may happen at most for a guardrail to be quiet: with nothing in
// n units of an arm, more than ln(1/alpha)/n is ruled out (rule of three), at every look at once: who has seen
// nothing now saw nothing before.
const quietShare = 0.01

// GuardrailState is what one guardrail says of one arm.
type GuardrailState struct {
	Metric string  `json:"metric"`
	Arm    string  `json:"arm"`
	Margin float64 `json:"margin"`
	State  string  `json:"state"`
	// Harm is how much worse the arm is than the control, in the metric's unit, with the lower bound that holds at
	// every look together.
	Harm Span `json:"harm"`
	// Shown is what was counted, in words, where units with an event are too few for an interval.
	Shown string `json:"shown,omitempty"`
	// Reason of an open guardrail that could not be computed.
	Reason string `json:"reason,omitempty"`
}

// guardrails tests each guardrail of each arm for harm, at every look at once, and for being within its margin.
func (r *Report) guardrails() []GuardrailState {
	var out []GuardrailState
	alpha := r.Alpha / float64(len(r.Experiment.Guardrails)*(len(r.Experiment.Arms)-1))
	for _, g := range r.Experiment.Guardrails {
		m := &r.Metrics[slices.IndexFunc(r.Metrics, func(m MetricReport) bool { return m.Key == g.Metric })]
		for j := range r.Experiment.Arms[1:] {
			s := GuardrailState{Metric: g.Metric, Arm: r.Experiment.Arms[j+1].Name, Margin: g.Margin, State: GuardOpen}
			if got, least := min(r.Arms[0].Exposed, r.Arms[j+1].Exposed), leastUnits(&r.Experiment); got < least {
				s.fail(fmt.Sprintf("%d units an arm are too few, %d are the least", got, least))
			} else {
				s.judge(r, m, j, alpha)
			}
			out = append(out, s)
		}
	}
	return out
}

func (s *GuardrailState) fail(reason string) { s.Reason, s.Harm.Undefined = reason, reason }

func (s *GuardrailState) judge(r *Report, m *MetricReport, j int, alpha float64) {
	control, arm := m.estimates[0], m.estimates[j+1]
	if arm.err != nil && control.err == nil && arm.failed != nil && control.failed != nil {
		// Too many starts failed for the quantile to be finite, it may be: their share says whether that is harm.
		quantile := arm.err
		s.compare(r, m, j, *control.failed, *arm.failed, alpha)
		if s.State != GuardHarmed {
			s.State, s.Shown = GuardOpen, ""
			s.fail(why(quantile))
			return
		}
		s.Shown = fmt.Sprintf("%s %% of starts fail, of the control %s %%, so that it has no end", num(100*arm.failed.e.Value), num(100*control.failed.e.Value))
		s.Harm = Span{Undefined: s.Shown}
		return
	}
	if reason := m.tooFew(j, r.Experiment.Unit); reason != "" && !formulas[m.Key].events {
		s.fail(reason)
		return
	}
	s.compare(r, m, j, control, arm, alpha)
}

// compare judges by the estimates of both arms, or by counts where events are few.
func (s *GuardrailState) compare(r *Report, m *MetricReport, j int, control, arm armEstimate, alpha float64) {
	if e, ok := r.events(m, j, control, arm); ok {
		s.byEvents(e, m, r.reporting(j), alpha)
		return
	}
	if err := cmp.Or(control.err, arm.err); err != nil {
		s.fail(why(err))
		return
	}
	dir := m.direction()
	d, err := stats.Difference(control.e, arm.e, stats.Test{Alpha: alpha})
	if m.pairs != nil {
		d, err = m.pairs[j].difference, m.pairs[j].err
	}
	if err != nil {
		s.fail(why(err))
		return
	}
	harm := dir.Harm(d.Estimate)
	n := float64(r.Arms[0].Exposed + r.Arms[j+1].Exposed)
	seq, err := stats.CS{Alpha: alpha, NStar: nStar(&r.Experiment), Alternative: stats.Greater, DF: d.DF}.At(harm, d.SE, n)
	if err != nil {
		s.fail(why(err))
		return
	}
	s.Harm = Span{Estimate: harm * m.scale, Lower: seq.Lower * m.scale, Upper: math.Inf(1)}
	if seq.Lower > 0 {
		s.State = GuardHarmed
		return
	}
	passed := false
	if m.pairs != nil {
		passed, err = m.pairs[j].within(s.Margin, dir, alpha)
	} else {
		var ni stats.NonInferiorityResult
		ni, err = stats.NonInferiorityExact(control.e, arm.e, s.Margin, dir, alpha, stats.Normal)
		passed = ni.NonInferior
	}
	if err != nil {
		s.Reason = why(err)
	} else if passed {
		s.State = GuardPassed
	}
}

// byEvents judges by how many units of each arm have an event. Of few events no margin relative to the control can be
// shown to hold: such a guardrail stays open, without a reason for a ramp to wait.
func (s *GuardrailState) byEvents(e events, m *MetricReport, reporting int64, alpha float64) {
	s.Harm = Span{Estimate: -sign(m) * e.difference * m.scale, Lower: math.Inf(-1), Upper: math.Inf(1)}
	if e.control == 0 && e.arm == 0 {
		s.quiet(m, reporting, alpha)
		return
	}
	s.Shown = e.String()
	if e.side(m, alpha) < 0 {
		s.State, s.Harm.Lower = GuardHarmed, 0
	}
}

// quiet is the state of a guardrail of which nothing happened in either arm.
func (s *GuardrailState) quiet(m *MetricReport, reporting int64, alpha float64) {
	if m.HigherIsBetter {
		s.fail("no unit of either arm has any")
		return
	}
	most := -math.Log(alpha) / math.Max(float64(reporting), 1)
	if most > quietShare {
		s.fail(fmt.Sprintf("nothing happened in %d units of an arm; it takes %.0f to say so of %g %% of them", reporting, math.Ceil(-math.Log(alpha)/quietShare), 100*(1-quietShare)))
		return
	}
	s.State = GuardQuiet
	s.Shown = fmt.Sprintf("nothing happened in %d units of either arm, so in less than %s %% of all", reporting, num(100*most))
}

// reporting is how many units the smaller of control and further arm j has telemetry of.
func (r *Report) reporting(j int) int64 { return min(r.Arms[0].Units, r.Arms[j+1].Units) }

// direction is which way the metric is good.
func (m *MetricReport) direction() stats.Direction {
	if m.HigherIsBetter {
		return stats.HigherIsBetter
	}
	return stats.LowerIsBetter
}

// tooFew says why the further arm j must not be judged by the asymptotics of its estimate yet; empty: it may. Blocks are
// few by nature, and judged by their pairs.
func (m *MetricReport) tooFew(j int, unit string) string {
	if len(m.estimates) == 0 || unit == schemas.UnitBlock {
		return ""
	}
	control, arm := m.estimates[0], m.estimates[j+1]
	if control.few || arm.few {
		return m.Name + ": too few units lie above it, it is the story of a handful"
	}
	if n := min(control.active, arm.active); n >= 0 && n < stats.MinActivePerArm {
		return fmt.Sprintf("%s: %d units of an arm have any, %d are the least", m.Name, n, stats.MinActivePerArm)
	}
	return ""
}
