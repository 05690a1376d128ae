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

	better float64 // by how much the arm is better than the control, by what was decided on
}

// nStar is the number of units at which sequences are tightest: the planned ones, or what is usual where nothing was.
func nStar(x *schemas.Experiment) float64 {
	if x.Plan != nil {
		if s, err := plan.Of(x); err == nil && s.Needed > 0 {
			return s.Needed
		}
	}
	if x.Unit == schemas.UnitBlock {
		return 4 * float64(leastUnits(x)) // of thousands of blocks no run ever hears: intervals would never be narrow
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
	each := make([]Decision, len(primary.Comparisons))
	for i := range each {
		each[i] = r.judgeArm(primary, i, ripe, wait, d.Guardrails)
	}
	// The weightiest verdict is the report's; of several arms to ship the best one, of several to stop for the worst.
	slices.SortStableFunc(each, func(a, b Decision) int {
		best := cmp.Compare(b.better, a.better)
		if a.Verdict == Stop {
			best = -best
		}
		return cmp.Or(cmp.Compare(rank(b.Verdict), rank(a.Verdict)), best)
	})
	d.Verdict, d.Arm = each[0].Verdict, each[0].Arm
	for _, v := range each {
		d.Why = append(d.Why, v.Why...)
	}
	return d
}

func rank(verdict string) int {
	return slices.Index([]string{CannotTell, KeepRunning, Stop, Ship}, verdict)
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
	least := leastUnits(&r.Experiment)
	few := min(r.Arms[0].Exposed, r.Arms[i+1].Exposed) < least
	e, counted := r.primaryEvents(m, i)
	if few || c.Difference.Undefined != "" && counted && e.side(m, m.Alpha) == 0 {
		counted = false
	}
	if !counted && c.Difference.Undefined != "" {
		return because(CannotTell, "%s cannot be compared: %s", m.Name, c.Difference.Undefined)
	}
	if few {
		return because(KeepRunning, "%d units are too few for any verdict, %d an arm are the least", min(r.Arms[0].Exposed, r.Arms[i+1].Exposed), least)
	}
	if why := m.tooFew(i, r.Experiment.Unit); why != "" && !counted {
		return because(waiting(ripe), "%s", why)
	}
	var side int // -1: worse, 1: better
	var change string
	if counted {
		side, change, d.better = e.side(m, m.Alpha), e.String(), sign(m)*e.difference*m.scale
	} else {
		side, change, d.better = m.side(c.Sequence, c.P), describe(m, c), sign(m)*c.Difference.Estimate
	}
	if side == 0 && ripe && !counted {
		end, when := c, ""
		if m.PlannedEnd != nil {
			end, when = &m.PlannedEnd.Comparisons[i], " at the planned end"
		}
		if side = m.side(end.Difference, end.P); side != 0 {
			change, d.better = describe(m, end)+when, sign(m)*end.Difference.Estimate
		}
	}
	if side < 0 {
		return because(Stop, "%s is worse: %s", m.Name, change)
	}
	if side > 0 {
		if ran := r.Until.Sub(r.From); ran < minRun(&r.Experiment) {
			return because(KeepRunning, "%s is better (%s), and it has run for %s of at least %s", m.Name, change, hours(ran), hours(minRun(&r.Experiment)))
		}
		var open, quiet []string
		for _, g := range guards {
			switch {
			case g.Arm != c.Arm || g.State == GuardPassed:
			case g.State == GuardQuiet:
				quiet = append(quiet, "; "+title(g.Metric)+": "+g.Shown)
			default:
				open = append(open, title(g.Metric))
			}
		}
		if len(open) > 0 {
			return because(waiting(ripe), "%s is better (%s), and it is not shown that %s stays within its margin", m.Name, change, strings.Join(open, ", "))
		}
		return because(Ship, "%s is better: %s; every guardrail holds%s", m.Name, change, strings.Join(quiet, ""))
	}
	if ripe {
		return because(CannotTell, "the planned run is over and no difference of %s is shown: %s", m.Name, change)
	}
	return because(KeepRunning, "no difference of %s is shown yet: %s; %s", m.Name, change, wait)
}

// waiting is the verdict while something is not shown: before the planned end it may still be.
func waiting(ripe bool) string {
	if ripe {
		return CannotTell
	}
	return KeepRunning
}

// side says what an interval and the p-value of one look show: 1 better, -1 worse, 0 nothing. Both are asked: for blocks
// the p-value is that of the randomization test, which needs less to be true than Student's interval.
func (m *MetricReport) side(s Span, p Figure) int {
	switch {
	case s.Undefined != "" || p.Undefined != "" || p.Value >= m.Alpha:
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
