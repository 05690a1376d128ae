package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Verdicts of a report.
const (
	Ship        = "ship"
	Stop        = "stop"
	KeepRunning = "keep running"
	CannotTell  = "cannot tell"
)

// Decision says what to do with the experiment, for people first.
type Decision struct {
	Verdict string `json:"verdict"`
	// Arm is the arm to ship, or the one that does harm.
	Arm string `json:"arm,omitempty"`
	// Why in plain words, the weightiest reason first.
	Why []string `json:"why"`
	// Guardrails by arm and metric.
	Guardrails []GuardrailState `json:"guardrails,omitempty"`
}

// States of a guardrail.
const (
	GuardPassed = "passed" // worse by less than the margin, shown
	GuardHarmed = "harmed" // worse than the control, shown at every look
	GuardOpen   = "open"   // neither is shown yet
)

// GuardrailState is what one guardrail says of one arm.
type GuardrailState struct {
	Metric string  `json:"metric"`
	Arm    string  `json:"arm"`
	Margin float64 `json:"margin"`
	State  string  `json:"state"`
	// Harm is how much worse the arm is than the control, in the metric's unit, with the lower bound that holds at
	// every look together.
	Harm Span `json:"harm"`
	// Reason of an open guardrail that could not be computed.
	Reason string `json:"reason,omitempty"`
}

// nStar is the number of units at which sequences are tightest: the planned ones.
func nStar(x *schemas.Experiment) float64 {
	if x.Plan != nil {
		if s, err := plan.Of(x); err == nil && s.Needed > 0 {
			return s.Needed
		}
	}
	return 10_000
}

// leastUnits is how many units each arm needs before anything is judged. Blocks are few by nature; their pairs take the
// time of day out.
func leastUnits(x *schemas.Experiment) int64 {
	if x.Unit == schemas.UnitBlock {
		return 20
	}
	return stats.MinUnitsPerArm
}

// decide judges the arms: what voids the comparison, what does harm, what wins, what is missing.
func (r *Report) decide() Decision {
	d := Decision{Guardrails: r.guardrails()}
	if len(r.Health.Problems) > 0 {
		d.Verdict, d.Why = CannotTell, r.Health.Problems
		return d
	}
	for _, g := range d.Guardrails {
		if g.State == GuardHarmed {
			d.Verdict, d.Arm = Stop, g.Arm
			d.Why = append(d.Why, fmt.Sprintf("arm %s harms %s: %s", g.Arm, title(g.Metric), g.HarmText()))
		}
	}
	if d.Verdict != "" {
		return d
	}
	primary := r.primary()
	if primary == nil {
		d.Verdict, d.Why = CannotTell, []string{"no primary metric was named before the start: whatever looks best now would be picked"}
		return d
	}
	ripe, wait := r.ripe()
	for i := range primary.Comparisons {
		v := r.judgeArm(primary, i, ripe, wait, d.Guardrails)
		if rank(v.Verdict) > rank(d.Verdict) {
			d.Verdict, d.Arm, d.Why = v.Verdict, v.Arm, v.Why
		} else {
			d.Why = append(d.Why, v.Why...)
		}
	}
	return d
}

func rank(verdict string) int {
	return slices.Index([]string{"", CannotTell, KeepRunning, Stop, Ship}, verdict)
}

func (r *Report) primary() *MetricReport {
	for i := range r.Metrics {
		if r.Metrics[i].Role == "primary" {
			return &r.Metrics[i]
		}
	}
	return nil
}

// ripe says whether the planned run is over, or what it waits for.
func (r *Report) ripe() (bool, string) {
	x := &r.Experiment
	if x.Plan == nil {
		return false, "no size was planned: only what holds at every look counts"
	}
	ran := r.Until.Sub(r.From)
	days := ran.Hours() / 24
	size, err := plan.Of(x)
	if err != nil {
		return false, err.Error()
	}
	units := int64(0)
	for _, a := range r.Arms {
		units += a.Exposed
	}
	if days >= x.Plan.Days {
		return true, ""
	}
	return false, fmt.Sprintf("day %.1f of %g, %d of about %.0f units", days, x.Plan.Days, units, size.Needed)
}

// minRun is how long an experiment runs before anything ships.
func minRun(x *schemas.Experiment) time.Duration {
	if x.Plan != nil && x.Plan.MinRunHours > 0 {
		return time.Duration(x.Plan.MinRunHours * float64(time.Hour))
	}
	return stats.MinRunDays * 24 * time.Hour
}

// judgeArm gives the verdict on one arm by the primary metric.
func (r *Report) judgeArm(m *MetricReport, i int, ripe bool, wait string, guards []GuardrailState) Decision {
	c := &m.Comparisons[i]
	d := Decision{Arm: c.Arm}
	because := func(verdict, format string, a ...any) Decision {
		d.Verdict, d.Why = verdict, append(d.Why, "arm "+c.Arm+": "+fmt.Sprintf(format, a...))
		return d
	}
	if c.Difference.Undefined != "" {
		return because(CannotTell, "%s cannot be compared: %s", m.Name, c.Difference.Undefined)
	}
	if n := min(r.Arms[0].Exposed, r.Arms[i+1].Exposed); n < leastUnits(&r.Experiment) {
		return because(KeepRunning, "%d units are too few for any verdict, %d an arm are the least", n, leastUnits(&r.Experiment))
	}
	change := describe(m, c)
	side := r.side(m, c.Sequence, c.P) // -1: worse, 1: better
	if side == 0 && ripe {
		end, when := c, ""
		if m.PlannedEnd != nil {
			end, when = &m.PlannedEnd.Comparisons[i], " at the planned end"
		}
		if side = r.side(m, end.Difference, end.P); side != 0 {
			change = describe(m, end) + when
		}
	}
	if side < 0 {
		return because(Stop, "%s is worse: %s", m.Name, change)
	}
	if side > 0 {
		if ran := r.Until.Sub(r.From); ran < minRun(&r.Experiment) {
			return because(KeepRunning, "%s is better (%s), and it has run for %s of at least %s", m.Name, change, hours(ran), hours(minRun(&r.Experiment)))
		}
		var open []string
		for _, g := range guards {
			if g.Arm == c.Arm && g.State != GuardPassed {
				open = append(open, title(g.Metric))
			}
		}
		if len(open) > 0 {
			verdict := KeepRunning
			if ripe {
				verdict = CannotTell
			}
			return because(verdict, "%s is better (%s), and it is not shown that %s stays within its margin", m.Name, change, strings.Join(open, ", "))
		}
		return because(Ship, "%s is better: %s; every guardrail holds", m.Name, change)
	}
	if ripe {
		return because(CannotTell, "the planned run is over and no difference of %s is shown: %s", m.Name, change)
	}
	return because(KeepRunning, "no difference of %s is shown yet: %s; %s", m.Name, change, wait)
}

// side says what an interval and the p-value of one look show: 1 better, -1 worse, 0 nothing. Both are asked: for blocks
// the p-value is that of the randomization test, which needs less to be true than Student's interval.
func (r *Report) side(m *MetricReport, s Span, p Figure) int {
	switch {
	case s.Undefined != "" || p.Undefined != "" || p.Value >= r.Alpha:
	case sign(m)*s.Lower > 0 && sign(m)*s.Upper > 0:
		return 1
	case sign(m)*s.Lower < 0 && sign(m)*s.Upper < 0:
		return -1
	}
	return 0
}

func sign(m *MetricReport) float64 {
	if m.HigherIsBetter {
		return 1
	}
	return -1
}

// describe says a comparison in words.
func describe(m *MetricReport, c *Comparison) string {
	s := fmt.Sprintf("%s %s [%s, %s]", num(c.Difference.Estimate), apart(m.Unit), num(c.Difference.Lower), num(c.Difference.Upper))
	if c.Lift.Undefined == "" {
		s += fmt.Sprintf(", %+.3g %%", 100*c.Lift.Estimate)
	}
	return s
}

// apart is the unit of a difference in words: of percentages, percentage points, which are not the lift.
func apart(unit string) string {
	if unit == "%" {
		return "percentage points"
	}
	return unit
}

func hours(d time.Duration) string { return fmt.Sprintf("%.1f h", d.Hours()) }

func title(metric string) string {
	m, _ := schemas.MetricNamed(metric)
	return m.Title
}

// guardrails tests each guardrail of each arm for harm, at every look at once, and for being within its margin.
func (r *Report) guardrails() []GuardrailState {
	var out []GuardrailState
	tests := float64(len(r.Experiment.Guardrails) * (len(r.Experiment.Arms) - 1))
	for _, g := range r.Experiment.Guardrails {
		i := slices.IndexFunc(r.Metrics, func(m MetricReport) bool { return m.Key == g.Metric })
		m := &r.Metrics[i]
		for j := range r.Experiment.Arms[1:] {
			s := GuardrailState{Metric: g.Metric, Arm: r.Experiment.Arms[j+1].Name, Margin: g.Margin, State: GuardOpen}
			n := float64(r.Arms[0].Exposed + r.Arms[j+1].Exposed)
			if got, least := min(r.Arms[0].Exposed, r.Arms[j+1].Exposed), leastUnits(&r.Experiment); got < least {
				s.Reason = fmt.Sprintf("%d units an arm are too few, %d are the least", got, least)
				s.Harm.Undefined = s.Reason
			} else {
				s.judge(m, j, n, r.Alpha/tests, nStar(&r.Experiment))
			}
			out = append(out, s)
		}
	}
	return out
}

func (s *GuardrailState) judge(m *MetricReport, j int, n, alpha, nStar float64) {
	control, arm := m.estimates[0], m.estimates[j+1]
	fail := func(err error) { s.Reason = why(err); s.Harm.Undefined = s.Reason }
	if err := cmp.Or(control.err, arm.err); err != nil {
		fail(err)
		return
	}
	dir := stats.LowerIsBetter
	if m.HigherIsBetter {
		dir = stats.HigherIsBetter
	}
	d, err := stats.Difference(control.e, arm.e, stats.Test{Alpha: alpha})
	if m.pairs != nil {
		d, err = m.pairs[j].difference, m.pairs[j].err
	}
	if err != nil {
		fail(err)
		return
	}
	harm := dir.Harm(d.Estimate)
	seq, err := stats.CS{Alpha: alpha, NStar: nStar, Alternative: stats.Greater, DF: d.DF}.At(harm, d.SE, n)
	if err != nil {
		fail(err)
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

// MarshalJSON writes ends that are infinite as null: JSON has no infinity.
func (s Span) MarshalJSON() ([]byte, error) {
	finite := func(v float64) *float64 {
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil
		}
		return &v
	}
	if s.Undefined != "" {
		return json.Marshal(map[string]string{"undefined": s.Undefined})
	}
	return json.Marshal(map[string]*float64{"estimate": finite(s.Estimate), "lower": finite(s.Lower), "upper": finite(s.Upper)})
}
