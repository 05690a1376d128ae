package report

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
)

// side is what one arm of a made-up experiment has had: failed of starts, each of a unit of its own.
type side struct{ failed, units int64 }

func (s side) estimate() stats.Estimate {
	p := float64(s.failed) / float64(s.units)
	return stats.Estimate{Value: p, Var: p * (1 - p) / float64(s.units), Units: float64(s.units)}
}

// seenOf is what a report on so many failed starts of each arm has seen.
func seenOf(metric string, arms ...side) Seen {
	from := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := Seen{From: from, Until: from.AddDate(0, 0, 10), Estimates: map[string][]stats.Estimate{}, Active: map[string][]int64{}}
	for _, a := range arms {
		s.Units = append(s.Units, a.units)
		s.Estimates[metric] = append(s.Estimates[metric], a.estimate())
		s.Active[metric] = append(s.Active[metric], a.failed)
	}
	return s
}

// The worst harm is seen where nothing ever fails in the control, or everything does in the arm; nothing at all in
// either is no reason to wait for ever.
func TestGuardrailsOfFewEvents(t *testing.T) {
	for _, c := range []struct {
		metric        string
		control, arm  side
		state         string
		shown, reason string // part of it; empty: none
	}{
		{"start_failure_ratio", side{0, 100}, side{30, 100}, GuardHarmed, "30 of 100 units have any, of the control 0 of 100", ""},
		{"start_failure_ratio", side{0, 1000}, side{13, 1000}, GuardHarmed, "13 of 1000", ""},
		{"start_failure_ratio", side{0, 1000}, side{4, 1000}, GuardOpen, "4 of 1000", ""},
		{"start_failure_ratio", side{30, 1000}, side{0, 1000}, GuardOpen, "0 of 1000", ""},
		{"start_failure_ratio", side{2, 1000}, side{25, 1000}, GuardHarmed, "25 of 1000", ""},
		{"start_failure_ratio", side{100, 2000}, side{2000, 2000}, GuardHarmed, "2000 of 2000", ""},
		{"start_failure_ratio", side{60, 2000}, side{60, 2000}, GuardOpen, "", ""}, // by intervals
		{"start_failure_ratio", side{60, 2000}, side{300, 2000}, GuardHarmed, "", ""},
		{"start_failure_ratio", side{0, 1000}, side{0, 900}, GuardQuiet, "nothing happened in 900 units", ""},
		{"start_failure_ratio", side{0, 150}, side{0, 200}, GuardOpen, "", "nothing happened in 150 units of an arm; it takes 300"},
		// Of something good, nothing is harm.
		{"played_per_unit", side{500, 1000}, side{0, 1000}, GuardHarmed, "0 of 1000", ""},
		{"played_per_unit", side{0, 1000}, side{500, 1000}, GuardOpen, "500 of 1000", ""},
		{"played_per_unit", side{0, 1000}, side{0, 1000}, GuardOpen, "", "no unit of either arm has any"},
		// More units with a latency are not a worse latency.
		{"latency_mean", side{5, 1000}, side{500, 1000}, GuardOpen, "", "5 units of an arm have any, 30 are the least"},
	} {
		x := experiment("few")
		x.Guardrails = []schemas.Guardrail{{Metric: c.metric, Margin: 0.05}}
		r := Judge(x, seenOf(c.metric, c.control, c.arm), 0.05)
		r.Experiment.Name = "few"
		g := r.guardrails()[0]
		if g.State != c.state || (g.Reason == "") != (c.reason == "") || !strings.Contains(g.Reason, c.reason) || (g.Shown == "") != (c.shown == "") || !strings.Contains(g.Shown, c.shown) {
			t.Errorf("%s %+v, control %+v: %+v, want %s, shown %q, reason %q", c.metric, c.arm, c.control, g, c.state, c.shown, c.reason)
		}
		if c.state == GuardHarmed && (r.Decision.Verdict != Stop || !strings.Contains(strings.Join(r.Decision.Why, ";"), c.shown)) {
			t.Errorf("%s %+v, control %+v: %+v", c.metric, c.arm, c.control, r.Decision)
		}
	}
}

// screens are an arm's first screens by hash bucket: in each so many of ten starts fail.
func screens(failed uint64, units int) []stats.BucketHist {
	out := make([]stats.BucketHist, units/10)
	for i := range out {
		out[i] = stats.BucketHist{Bins: map[int32]uint64{}, Inf: failed}
		for k := failed; k < 10; k++ {
			out[i].Bins[loghist.BinOf(300*math.Exp(0.1*float64(k)+0.01*float64(i%13)))]++
		}
	}
	out[0].Inf, out[0].Bins = 0, map[int32]uint64{loghist.BinOf(300): 10 + failed} // buckets differ
	return out
}

// A p90 that has no end because starts fail is harm, and not just undefined.
func TestGuardrailOfAQuantileWithoutEnd(t *testing.T) {
	x := experiment("p90")
	x.Guardrails = []schemas.Guardrail{{Metric: "first_screen_p90", Margin: 0.05}}
	for _, c := range []struct {
		failed uint64 // of ten starts of the arm
		state  string
		text   string
	}{{3, GuardHarmed, "of starts fail, of the control 0.00 %"}, {10, GuardHarmed, "of starts fail"}, {0, GuardPassed, ""}} {
		s := seenOf(failedStarts.Name, side{0, 2000}, side{int64(c.failed) * 200, 2000})
		s.Histograms = map[string][][]stats.BucketHist{"first_screen": {screens(0, 2000), screens(c.failed, 2000)}}
		r := Judge(x, s, 0.05)
		if g := r.Decision.Guardrails[0]; g.State != c.state || !strings.Contains(g.Shown, c.text) {
			t.Errorf("%d of 10 starts fail: %+v", c.failed, g)
		}
	}
	// As many fail in both: it is not known, and nobody is blamed.
	s := seenOf(failedStarts.Name, side{210, 2000}, side{210, 2000})
	s.Histograms = map[string][][]stats.BucketHist{"first_screen": {screens(0, 2000), screens(2, 2000)}}
	if g := Judge(x, s, 0.05).Decision.Guardrails[0]; g.State != GuardOpen || g.Reason == "" || g.Shown != "" {
		t.Errorf("as many failures in both arms: %+v", g)
	}
}

// Each of several arms may win: the primary metric's error rate is divided among them, and the best of those that win
// is named, whatever its place, with what is known of all.
func TestSeveralArms(t *testing.T) {
	x := experiment("several")
	x.Arms = append(x.Arms, schemas.Arm{Name: "third", Weight: 1}, schemas.Arm{Name: "fourth", Weight: 1})
	x.PrimaryMetric = "stall_ratio"
	x.Plan = &schemas.ExperimentPlan{Effect: 0.1, Mean: 0.01, Variance: 0.0001, UnitsPerDay: 1000, Days: 9}
	seen := func(z ...float64) Seen {
		const se = 0.0001 // of a difference
		s := Seen{From: time.Unix(0, 0), Until: time.Unix(0, 0).AddDate(0, 0, 10), Estimates: map[string][]stats.Estimate{}}
		for _, v := range append([]float64{0}, z...) {
			s.Units = append(s.Units, 5000)
			s.Estimates["stall_ratio"] = append(s.Estimates["stall_ratio"], stats.Estimate{Value: 0.01 + v*se, Var: se * se / 2, Units: 5000})
		}
		return s
	}
	for _, c := range []struct {
		z         []float64
		want, arm string
	}{
		{[]float64{-2.2, 0, 0}, CannotTell, ""}, // 0.028 of one arm, not of three
		{[]float64{-2.6, 0, 0}, Ship, "low"},
		{[]float64{-9, -12, -10}, Ship, "third"},
		{[]float64{9, 12, 0}, Stop, "third"},
		{[]float64{9, -9, 12}, Ship, "third"},
	} {
		d := Judge(x, seen(c.z...), 0.05).Decision
		if d.Verdict != c.want || c.arm != "" && d.Arm != c.arm || len(d.Why) != 3 || c.arm != "" && !strings.HasPrefix(d.Why[0], "arm "+c.arm) {
			t.Errorf("%v standard errors: %+v, want %s %s", c.z, d, c.want, c.arm)
		}
	}
	m := Judge(x, seen(-2, 0, 0), 0.05).primary()
	if got, want := m.Comparisons[0].Difference.Upper-m.Comparisons[0].Difference.Estimate, 0.01*stats.StudentQuantile(1-0.05/6, 9998); math.Abs(got-want) > 0.001*want {
		t.Errorf("half width %v, want %v", got, want)
	}
}

// A primary metric of few events is judged by their counts, others not before there are enough units with any.
func TestPrimaryOfFewEvents(t *testing.T) {
	for _, c := range []struct {
		metric       string
		control, arm side
		want         string
	}{
		{"start_failure_ratio", side{0, 500}, side{40, 500}, Stop},
		{"start_failure_ratio", side{60, 500}, side{0, 500}, Ship},
		{"start_failure_ratio", side{3, 500}, side{5, 500}, KeepRunning},
		{"start_failure_ratio", side{0, 500}, side{0, 500}, CannotTell},
		{"latency_mean", side{20, 500}, side{200, 500}, KeepRunning},
	} {
		x := experiment("primary")
		x.PrimaryMetric = c.metric
		if d := Judge(x, seenOf(c.metric, c.control, c.arm), 0.05).Decision; d.Verdict != c.want {
			t.Errorf("%s %+v, control %+v: %+v, want %s", c.metric, c.arm, c.control, d, c.want)
		}
	}
}

// Blocks without a plan are as many as blocks are: 40 of them can stop an experiment.
func TestBlocksStopWithoutAPlan(t *testing.T) {
	x := experiment("blocks")
	x.Unit, x.BlockSec, x.Guardrails = schemas.UnitBlock, 3600, []schemas.Guardrail{{Metric: "stall_ratio", Margin: 0.05}}
	a := arms{}
	for n := range 40 {
		c := newCluster()
		c.unit, c.units = fmt.Sprintf("eu/%d", n), 1
		c.sums[columnIndex["stalled_ms"]] = int64(10_000 + 6000*(n%2) + 500*(n%7))
		c.sums[columnIndex["played_ms"]] = 1_000_000
		a[x.Arms[n%2].Name] = append(a[x.Arms[n%2].Name], c)
	}
	r := Report{Experiment: *x, Alpha: 0.05, Arms: []ArmSize{{Exposed: 20, Units: 20}, {Exposed: 20, Units: 20}}}
	for _, m := range schemas.Metrics() {
		r.Metrics = append(r.Metrics, r.metric(m, data{all: a}, a.hists(x), nil))
	}
	if g := r.guardrails()[0]; g.State != GuardHarmed || nStar(x) != 80 {
		t.Errorf("%+v at %v planned units", g, nStar(x))
	}
}

// Who looks every minute holds on the tests that may be looked at every minute.
func TestHealthAtEveryLook(t *testing.T) {
	r := func(one, sequential float64) *Report {
		return &Report{Experiment: *experiment("health"), Arms: []ArmSize{{Arm: "control", Exposed: 1000, Units: 1000}, {Arm: "low", Exposed: 1000, Units: 1000}},
			SRMP: Figure{Value: one}, SRMSequentialP: Figure{Value: sequential}}
	}
	for _, c := range []struct {
		one, sequential     float64
		atOneLook, everyone bool
	}{{0.0005, 0.2, true, false}, {0.5, 0.0005, false, true}, {0.5, 0.5, false, false}} {
		rep := r(c.one, c.sequential)
		if got := len(rep.health(&units{}, false).Problems) > 0; got != c.atOneLook {
			t.Errorf("%+v at one look: %v", c, got)
		}
		if got := len(rep.health(&units{}, true).Problems) > 0; got != c.everyone {
			t.Errorf("%+v at every look: %v", c, got)
		}
	}
	for _, c := range []struct {
		silent              int64 // of an arm; 20 of the other
		atOneLook, everyone bool
	}{{48, true, false}, {90, true, true}, {25, false, false}} {
		rep := r(1, 1)
		rep.Arms[0].Silent, rep.Arms[1].Silent = 20, c.silent
		one, every := rep.health(&units{}, false), rep.health(&units{}, true)
		if len(one.Problems) > 0 != c.atOneLook || len(every.Problems) > 0 != c.everyone {
			t.Errorf("%d and 20 silent units: %q, %q (%v, %v)", c.silent, one.Problems, every.Problems, one.LossP, every.LossSequentialP)
		}
	}
}

// A quantile above which only a handful of units lie is not judged, however far apart the arms' values are; one that its
// bins cannot tell better is said to be.
func TestQuantilesOfAHandful(t *testing.T) {
	arm := func(slowBuckets, slow int, ms float64) []stats.BucketHist {
		out := make([]stats.BucketHist, 100)
		for i := range out {
			fast := 20 + uint64(i%3)
			out[i].Bins = map[int32]uint64{loghist.BinOf(300): fast / 2, loghist.BinOf(310 + float64(i)): fast - fast/2}
			if i < slowBuckets {
				out[i].Bins[loghist.BinOf(ms)], out[i].Bins[loghist.BinOf(1.2*ms)] = uint64(slow/2), uint64(slow-slow/2)
			}
		}
		return out
	}
	x := experiment("handful")
	x.Guardrails = []schemas.Guardrail{{Metric: "first_screen_p90", Margin: 0.05}}
	judge := func(control, test []stats.BucketHist) *Report {
		s := seenOf("bytes_per_hour", side{1, 2000}, side{1, 2000})
		s.Histograms = map[string][][]stats.BucketHist{"first_screen": {control, test}}
		return Judge(x, s, 0.05)
	}
	if g := judge(arm(100, 4, 500), arm(12, 40, 5000)).Decision.Guardrails[0]; g.State != GuardOpen || !strings.Contains(g.Reason, "handful") {
		t.Errorf("twelve buckets lie above: %+v", g)
	}
	if g := judge(arm(100, 4, 500), arm(100, 4, 5000)).Decision.Guardrails[0]; g.State != GuardHarmed {
		t.Errorf("all buckets have some above: %+v", g)
	}
	x.Guardrails[0].Metric = "first_screen_p50"
	if notes := judge(arm(100, 400, 500), arm(100, 400, 500)).Health.Notes; len(notes) != 2 || !strings.Contains(notes[0], "bins of two percent") {
		t.Errorf("forty thousand rows an arm: %q", notes)
	}
}
