package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Whoever looks again after the planned end looks at the same fixed test: what comes later does not change it.
func TestFixedTestIsOfThePlannedEnd(t *testing.T) {
	x := experiment("planned")
	x.PrimaryMetric = "stall_ratio"
	x.Plan = &schemas.ExperimentPlan{Effect: 0.1, Mean: 0.01, Variance: 0.0001, UnitsPerDay: 1000, Days: 14}
	from := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	seen := func(days int, z float64) Seen {
		const se = 0.0001 // of each arm
		control := stats.Estimate{Value: 0.01, Var: se * se / 2, Units: 5000}
		arm := control
		arm.Value += z * se
		return Seen{From: from, Until: from.AddDate(0, 0, days), Units: []int64{5000, 5000}, Estimates: map[string][]stats.Estimate{"stall_ratio": {control, arm}}}
	}
	for _, c := range []struct {
		then, now float64 // standard errors
		want      string
		why       string
	}{
		{0.5, 2.5, CannotTell, "no difference"},
		{0.5, -2.5, CannotTell, "no difference"},
		{2.5, 0.5, Stop, "at the planned end"},
		{-2.5, -0.5, Ship, "at the planned end"},
		{0.5, 9, Stop, "is worse"}, // shown at every look
		{2.5, -9, Ship, "is better"},
	} {
		s, then := seen(20, c.now), seen(14, c.then)
		s.PlannedEnd = &then
		if d := Judge(x, s, 0.05).Decision; d.Verdict != c.want || !strings.Contains(strings.Join(d.Why, "; "), c.why) {
			t.Errorf("%v standard errors at the planned end, %v now: %+v, want %s because %s", c.then, c.now, d, c.want, c.why)
		}
	}
}

// The p-value of a switchback is that of the difference that is shown: heavy blocks full of noise do not hide what every
// pair says.
func TestBlocksHaveOneStatistic(t *testing.T) {
	x := experiment("blocks")
	x.Unit, x.BlockSec, x.PrimaryMetric = schemas.UnitBlock, 3600, "stall_ratio"
	a := arms{}
	for n := range 60 {
		arm, share, viewed := x.Arms[n%2].Name, 0.010+0.001*float64(n%2)+0.0001*float64(n%7), 1e6
		if n < 6 {
			viewed, share = 1e9, share+0.004*float64(n*n%5)-0.003*float64(n%2)
		}
		c := newCluster()
		c.unit, c.units = fmt.Sprintf("eu/%d", n), 1
		c.sums[columnIndex["stalled_ms"]] = int64(viewed * share)
		c.sums[columnIndex["played_ms"]] = int64(viewed * (1 - share))
		a[arm] = append(a[arm], c)
	}
	m, _ := schemas.MetricNamed("stall_ratio")
	p := a.pair(x, m, true, 0.05)
	if p.err != nil || p.randomErr != nil || !near(p.random.Difference, p.difference.Estimate) {
		t.Errorf("redrawn is the difference %v, shown is %+v (%v, %v)", p.random.Difference, p.difference, p.err, p.randomErr)
	}
	if (p.random.P < 0.01) != (p.difference.P < 0.01) {
		t.Errorf("p-value %v of the redraws, %v of Student's t", p.random.P, p.difference.P)
	}
	// An interval without the p-value decides nothing.
	r := Report{Experiment: *x, Alpha: 0.05, From: time.Unix(0, 0), Until: time.Unix(0, 0).AddDate(0, 0, 30), Arms: []ArmSize{{Exposed: 100}, {Exposed: 100}}}
	better := Span{Estimate: -2, Lower: -3, Upper: -1}
	for pv, want := range map[float64]string{0.3: CannotTell, 0.01: Ship} {
		mr := MetricReport{Key: m.Name, Alpha: 0.05, Comparisons: []Comparison{{Arm: "low", Difference: better, Sequence: better, P: Figure{Value: pv}}}}
		if d := r.judgeArm(&mr, 0, true, "", nil); d.Verdict != want {
			t.Errorf("p = %v: %+v, want %s", pv, d, want)
		}
	}
}

func near(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }
