package report

import (
	"fmt"
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

// eventConcentration is the prior weight, in units with an event, of the test that compares their numbers: few tell
// apart arms of which one has many times the other's (12 against none, at 0.05).
const eventConcentration = 10

// events are how many units of two arms have any of what a metric counts. Where the numbers are small, or one arm does
// not vary (nobody has any, or everybody nothing else), no interval of a ratio holds, and this test does: the arm in
// which the next unit with an event lies is drawn by the arms' weights, if they do not differ.
type events struct {
	control, arm int64
	units        [2]int64 // of control and arm
	share        float64  // of units with an event that are the arm's, if the arms do not differ
	difference   float64  // of the metric, as estimated
	every        bool     // units were counted, not hash buckets of them
	lnBayes      float64
}

// events compares a further arm with the control by counts, where an interval would not hold. ok: that is so, and they
// are known.
func (r *Report) events(m *MetricReport, j int, control, arm armEstimate) (e events, ok bool) {
	f := formulas[m.Key]
	switch {
	case !f.events && f.hist == "", control.active < 0, arm.active < 0, control.err != nil, arm.err != nil:
		return e, false
	}
	rare := m.pairs == nil && min(control.active, arm.active) < stats.MinActivePerArm
	if _, err := stats.Difference(control.e, arm.e, stats.Test{Alpha: r.Alpha}); !rare {
		if reason, _ := stats.ReasonOf(err); reason != stats.ZeroVariance {
			return e, false
		}
	}
	a := r.Experiment.Arms
	weights := []float64{a[0].Weight, a[j+1].Weight}
	e = events{control: control.active, arm: arm.active, units: [2]int64{r.Arms[0].Exposed, r.Arms[j+1].Exposed},
		share: weights[1] / (weights[0] + weights[1]), difference: arm.e.Value - control.e.Value, every: m.Exact}
	var err error
	e.lnBayes, err = stats.SequentialSRM([]int64{e.control, e.arm}, weights, eventConcentration)
	return e, err == nil
}

// primaryEvents is events of a metric's own estimates.
func (r *Report) primaryEvents(m *MetricReport, j int) (events, bool) {
	if len(m.estimates) == 0 {
		return events{}, false
	}
	return r.events(m, j, m.estimates[0], m.estimates[j+1])
}

// side says what the counts show at every look: 1 the arm is better, -1 worse, 0 nothing.
func (e *events) side(m *MetricReport, alpha float64) int {
	if math.Exp(-e.lnBayes) >= alpha {
		return 0
	}
	if more := float64(e.arm) > e.share*float64(e.control+e.arm); more == m.HigherIsBetter {
		return 1
	}
	return -1
}

// String says the counts in words.
func (e events) String() string {
	least := ""
	if !e.every {
		least = "at least "
	}
	return fmt.Sprintf("%s%d of %d units have any, of the control %d of %d", least, e.arm, e.units[1], e.control, e.units[0])
}
