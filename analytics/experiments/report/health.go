package report

import (
	"fmt"
	"slices"

	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Health says whether the comparison can be trusted.
type Health struct {
	// Problems void the comparison; Notes do not.
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	// LossP is the p-value of equal telemetry loss in all arms, LossSequentialP one that holds at every look.
	LossP           Figure `json:"loss_p"`
	LossSequentialP Figure `json:"loss_sequential_p"`
	// Several is how many units were exposed to more than one arm.
	Several int64 `json:"several_arms_units"`
	// Interference says why one arm may have changed the other's figures; empty: nothing speaks for it.
	Interference string `json:"interference,omitempty"`
}

// trusted is the p-value below which a check of the experiment's machinery fails.
const trusted = 0.001

// shareSeveral is the share of units in more than one arm from which on the comparison is void.
const shareSeveral = 0.01

// health checks the machinery of the experiment. Who asks every minute gets tests that hold at every look: the one-look
// tests would alarm now and then for nothing, and an alarm keeps guardrails from stopping anything.
func (r *Report) health(u *units, everyLook bool) Health {
	h := Health{Several: u.several}
	problem := func(format string, a ...any) { h.Problems = append(h.Problems, fmt.Sprintf(format, a...)) }
	note := func(format string, a ...any) { h.Notes = append(h.Notes, fmt.Sprintf(format, a...)) }
	all := int64(0)
	loss := make([][2]int64, len(r.Arms)) // silent, reporting
	silent, exposed := make([]int64, len(r.Arms)), exposedUnits(r.Arms)
	for i, a := range r.Arms {
		all += a.Exposed
		silent[i] = a.Silent
		loss[i] = [2]int64{a.Silent, a.Exposed - a.Silent}
	}
	// The silent ones are drawn from those exposed, and vary less than the test takes them to: it alarms too rarely
	// rather than too often.
	lossP, err := stats.SequentialSplit(silent, exposed)
	h.LossSequentialP = figure(lossP, err)
	chi, err := homogeneity(loss)
	h.LossP = figure(chi, err)
	split, lost := r.SRMP, h.LossP
	if everyLook {
		split, lost = r.SRMSequentialP, h.LossSequentialP
	}
	if split.Undefined == "" && split.Value < trusted {
		problem("units are not split as planned (p = %.2g): something assigns or loses units unevenly", split.Value)
	}
	if all > 0 && float64(u.several) > shareSeveral*float64(all) {
		problem("%d of %d units were exposed to more than one arm: the assignment changed under way", u.several, all)
	} else if u.several > 0 {
		note("%d of %d units were exposed to more than one arm; they count in the arm they met first, what they viewed in the arm they viewed it in", u.several, all)
	}
	if lost.Undefined == "" && lost.Value < trusted {
		problem("telemetry is lost unevenly between the arms (p = %.2g): who reports is no fair sample", lost.Value)
	}
	for i := range r.Arms {
		if a := r.Arms[i]; a.Exposed == 0 && a.Unexposed == 0 && r.Experiment.Arms[i].Weight > 0 {
			note("arm %s has no units yet", a.Arm)
		} else if a.Unexposed > a.Exposed/100 {
			note("arm %s: %d units report and were never exposed, beside %d that were: exposures are lost or late", a.Arm, a.Unexposed, a.Exposed)
		} else if a.Silent > a.Exposed/10 {
			note("arm %s: %d of %d exposed units never reported; they count in the split and in figures per unit, and in no other", a.Arm, a.Silent, a.Exposed)
		}
	}
	for arm, n := range u.reported {
		if n > 0 && !slices.ContainsFunc(r.Arms, func(a ArmSize) bool { return a.Arm == arm }) {
			note("%d units report an arm %q that the experiment does not have; they are left out", n, arm)
		}
	}
	if r.clamped > 0 {
		note("busiest hours: %d values were corrected in them that were counted in other hours; quantiles there are without them", r.clamped)
	}
	for i := range r.Metrics {
		for j, e := range r.Metrics[i].estimates {
			if m := &r.Metrics[i]; e.coarse && m.Role != "" {
				note("%s of arm %s is known better than its histogram's bins of two percent tell: more units will hardly narrow it", m.Name, r.Arms[j].Arm)
			}
		}
	}
	if m := r.primary(); m != nil && len(m.pairs) > 0 && m.pairs[0].dropped > 0 {
		note("%d blocks have no partner with anything viewed and are left out of the paired comparison", m.pairs[0].dropped)
	}
	if r.Experiment.Unit != schemas.UnitBlock && plan.MovesLoad(&r.Experiment) {
		h.Interference = "arms route differently and share the CDNs' capacity: one arm's load may have changed the other's figures (interference); a full roll-out may do less, or more, than this says. To be sure, run it again with unit block, where a whole region follows one arm at a time"
	}
	return h
}

// homogeneity is the chi-square test that all rows of a table of two columns have the same shares.
func homogeneity(rows [][2]int64) (float64, error) {
	var col [2]float64
	used := 0
	for _, r := range rows {
		if r[0]+r[1] > 0 {
			used++
		}
		col[0] += float64(r[0])
		col[1] += float64(r[1])
	}
	if used < 2 {
		return 0, &stats.Undefined{Reason: stats.EmptyArm, Detail: "fewer than two arms have units"}
	}
	if col[0] == 0 || col[1] == 0 {
		return 1, nil // all alike
	}
	chi := 0.0
	for _, r := range rows {
		n := float64(r[0] + r[1])
		for c := range col {
			if want := n * col[c] / (col[0] + col[1]); want > 0 {
				chi += (float64(r[c]) - want) * (float64(r[c]) - want) / want
			}
		}
	}
	return stats.ChiSquareSF(chi, float64(used-1)), nil
}
