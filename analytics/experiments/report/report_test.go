package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
)

// TestReport runs on one ClickHouse; each part has an experiment of its own.
func TestReport(t *testing.T) {
	_, conn := tablestest.Start(t)
	for name, part := range map[string]func(*testing.T, driver.Conn){
		"finds planted effects": findsPlantedEffects, "buckets agree with units": bucketsAgreeWithUnits, "without data": withoutDataSaysSo,
		"decides": decides, "blocks": blocks, "units kept agree with rows": unitsKeptAgree, "bad input": badInput, "corrections": corrections, "delivered twice": deliveredTwice,
		"old": oldIsNotExact, "baseline": baselineOfTargets,
	} {
		t.Run(name, func(t *testing.T) { part(t, conn) })
	}
}

func experiment(name string) *schemas.Experiment {
	return &schemas.Experiment{
		Name: name, Status: schemas.ExperimentRunning, Salt: "p1", Unit: "viewer", Layer: "player", Coverage: 1,
		Arms:          []schemas.Arm{{Name: "control", Weight: 1}, {Name: "low", Weight: 1}},
		StartedUnixUs: time.Now().Add(-time.Hour).UnixMicro(),
	}
}

// plant writes sessions of known stall ratio and first screen: every viewer has
// its own level, and several sessions, so that sessions of a viewer hang together.
func plant(t *testing.T, conn driver.Conn, x *schemas.Experiment, viewers int) {
	t.Helper()
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 2))
	b, err := conn.PrepareBatch(ctx, `INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, arms,
		sessions, attempts, starts, startup_ms, played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms,
		first_screen_bins, first_screen_counts, latency_bins, latency_counts)`)
	if err != nil {
		t.Fatal(err)
	}
	e, err := conn.PrepareBatch(ctx, "INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, arm, propensity, reason)")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-10 * time.Minute)
	for v := range viewers {
		viewer := fmt.Sprintf("viewer-%d", v)
		arm, p, ok := assign.Assign(x, viewer)
		if !ok {
			t.Fatal("a viewer is in no arm at full coverage")
		}
		name := x.Arms[arm].Name
		level := math.Exp(0.5 * r.NormFloat64())
		stallShare, first := 0.01*level, 400*level
		if arm == 1 {
			stallShare, first = 0.02*level, 300*level
		}
		if err := e.Append(now, fmt.Sprintf("x%d", v), x.Name, x.Salt, viewer, "viewer", fmt.Sprintf("%s-s%d-0", x.Name, v), viewer, name, p, "assigned"); err != nil {
			t.Fatal(err)
		}
		for s := range 1 + v%4 {
			const watched = 600_000
			stalled := int64(watched * stallShare)
			ms := first * math.Exp(0.2*r.NormFloat64())
			bin := int64(loghist.BinOf(ms))
			if v%50 == 0 && s == 0 {
				bin = schemas.FailedStartBin // one start in fifty viewers fails
			}
			if err := b.Append(now.UnixMilli(), "final", fmt.Sprintf("%s-s%d-%d", x.Name, v, s), viewer, "live", "demo", "a", x.Name+"="+name+",other=z",
				int64(1), int64(1), int64(1), int64(ms), watched-stalled, stalled, int64(1), int64(1500)*(watched-stalled), watched-stalled,
				[]int64{bin}, []int64{1}, []int64{int64(loghist.BinOf(1500))}, []int64{1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
	if err := e.Send(); err != nil {
		t.Fatal(err)
	}
}

func findsPlantedEffects(t *testing.T, conn driver.Conn) {
	x := experiment("latency")
	plant(t, conn, x, 2000)
	r, err := Build(t.Context(), conn, x, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Log(text.String())
	var statements bytes.Buffer
	if err := r.WriteSQL(&statements); err != nil || !strings.Contains(statements.String(), "stall ratio, %: 100 * sum(stalled_ms)") {
		t.Errorf("the statements (%v) do not say how metrics come from them: %.500s", err, statements.String())
	}
	for _, q := range r.Queries {
		if !strings.Contains(statements.String(), q.SQL) || len(q.Parameters) == 0 {
			t.Errorf("%s: not among the statements, or without parameters", q.Purpose)
		}
	}
	if r.SRMP.Undefined != "" || r.SRMP.Value < 0.001 {
		t.Errorf("split check %+v", r.SRMP)
	}
	if n := r.Arms[0].Exposed + r.Arms[1].Exposed; n != 2000 || r.Arms[0].Units+r.Arms[1].Units != 2000 {
		t.Errorf("sizes %+v, want 2000 units exposed and with telemetry", r.Arms)
	}
	// True values: E[level] = exp(0.125).
	mean := math.Exp(0.125)
	metric := func(name string) *MetricReport {
		for i := range r.Metrics {
			if r.Metrics[i].Name == name {
				return &r.Metrics[i]
			}
		}
		t.Fatalf("no metric %q", name)
		return nil
	}
	stall := metric("stall ratio")
	if stall.Formula != "100 * sum(stalled_ms) / sum(played_ms + stalled_ms)" || metric("played per unit").Formula != "0.001 * sum(played_ms) / exposed units" || !strings.HasPrefix(metric("first screen, p90").Formula, "quantile 0.9 of the histogram first_screen") {
		t.Errorf("formulas: %s; %s; %s", stall.Formula, metric("played per unit").Formula, metric("first screen, p90").Formula)
	}
	for i, want := range []float64{1 * mean, 2 * mean} {
		s := stall.Arms[i]
		if s.Undefined != "" || !(s.Lower < s.Estimate && s.Estimate < s.Upper) || math.Abs(s.Estimate-want) > 0.1*want {
			t.Errorf("stall ratio of arm %d: %+v, want about %.3f %%", i, s, want)
		}
	}
	if c := stall.Comparisons[0]; !(c.Difference.Lower > 0 && c.Lift.Lower > 0.5 && c.Lift.Upper < 1.7 && c.P.Value < 1e-6) {
		t.Errorf("the doubled stall ratio is reported as %+v", c)
	}
	// The last look is at everything; before it there were fewer units.
	looks := stall.Looks
	if len(looks) < 2 || math.Abs(looks[len(looks)-1].Comparisons[0].Difference.Estimate-stall.Comparisons[0].Difference.Estimate) > 1e-9 {
		t.Errorf("looks %+v, want the last to be %+v", looks, stall.Comparisons[0])
	}
	for _, d := range r.Distributions {
		for _, a := range d.Arms {
			if a.Undefined != "" || a.Rows == 0 || len(a.Points) == 0 || a.Points[len(a.Points)-1].F > 1 {
				t.Errorf("distribution %s of %s: %+v", d.Key, a.Arm, a)
			}
		}
	}
	first := metric("first screen, median")
	if c := first.Comparisons[0]; !(c.Difference.Upper < 0 && c.Lift.Lower < -0.25 && c.Lift.Upper > -0.25) {
		t.Errorf("a first screen lower by a quarter is reported as %+v", c)
	}
	// Every session has a latency of 1500 ms: there is no variance, and that is said.
	lat := metric("live latency, mean")
	if lat.Comparisons[0].Difference.Undefined == "" {
		t.Errorf("a latency without variance has the interval %+v", lat.Comparisons[0].Difference)
	}
	if !strings.Contains(text.String(), "stall ratio, %") || strings.Contains(text.String(), "NaN") {
		t.Errorf("the text lacks a metric or prints NaN:\n%s", text.String())
	}
}

// Figures from hash buckets and over every unit agree: the values to the last
// digit, the standard errors within what 256 clusters can tell.
func bucketsAgreeWithUnits(t *testing.T, conn driver.Conn) {
	x := experiment("agree")
	x.PrimaryMetric = "stall_ratio"
	x.Guardrails = []schemas.Guardrail{{Metric: "played_per_unit", Margin: 0.05}, {Metric: "first_screen_mean", Margin: 0.05}}
	plant(t, conn, x, 4000)
	fast, err := Build(t.Context(), conn, x, Options{})
	if err != nil {
		t.Fatal(err)
	}
	exact, err := Build(t.Context(), conn, x, Options{Exact: true})
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i := range fast.Metrics {
		f, e := &fast.Metrics[i], &exact.Metrics[i]
		if !e.Exact {
			continue
		}
		compared++
		for arm := range f.estimates {
			a, b := f.estimates[arm].e, e.estimates[arm].e
			if math.Abs(a.Value-b.Value) > 1e-12*math.Abs(b.Value) || b.Value == 0 {
				t.Errorf("%s of arm %d: %v from buckets, %v from units", f.Name, arm, a.Value, b.Value)
			}
			// The relative error of a variance over 256 clusters is sqrt(2/255) = 0.09; of a standard error half of it.
			if r := a.SE() / b.SE(); r < 0.8 || r > 1.25 {
				t.Errorf("%s of arm %d: standard error %v from buckets, %v from units", f.Name, arm, a.SE(), b.SE())
			}
		}
	}
	if compared != 3 {
		t.Errorf("%d metrics were computed over units, want the primary and two guardrails", compared)
	}
}

func withoutDataSaysSo(t *testing.T, conn driver.Conn) {
	r, err := Build(t.Context(), conn, experiment("nothing"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Metrics {
		for i, s := range m.Arms {
			if s.Undefined == "" {
				t.Errorf("%s of arm %d has the value %v without any data", m.Name, i, s.Estimate)
			}
		}
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "undefined") {
		t.Errorf("text (%v): %s", err, text.String())
	}
	if r.Decision.Verdict == Ship || r.Decision.Verdict == Stop {
		t.Errorf("without data the decision is %+v", r.Decision)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("a report without data is no JSON: %v", err)
	}
	bad := experiment("x")
	bad.Unit = "user"
	if _, err := Build(t.Context(), conn, bad, Options{}); err == nil {
		t.Error("an experiment with an unknown unit was reported on")
	}
}

// What to do, from planted effects: the second arm stalls twice as much and
// starts a quarter sooner.
func decides(t *testing.T, conn driver.Conn) {
	month := func(name, primary string, guards ...schemas.Guardrail) *schemas.Experiment {
		x := experiment(name)
		x.StartedUnixUs = time.Now().Add(-30 * 24 * time.Hour).UnixMicro()
		x.PrimaryMetric, x.Guardrails = primary, guards
		return x
	}
	planned := func(x *schemas.Experiment, days float64) *schemas.Experiment {
		x.Plan = &schemas.ExperimentPlan{Effect: 0.2, Mean: 450, Variance: 50_000, UnitsPerDay: 1000, Days: days}
		return x
	}
	stall := schemas.Guardrail{Metric: "stall_ratio", Margin: 0.05}
	bytes := schemas.Guardrail{Metric: "bytes_per_hour", Margin: 0.05}
	played := schemas.Guardrail{Metric: "played_per_unit", Margin: 0.9}
	young := month("young", "first_screen_mean", played)
	young.StartedUnixUs = time.Now().Add(-time.Hour).UnixMicro()
	split := month("split", "first_screen_mean")
	for _, c := range []struct {
		x       *schemas.Experiment
		viewers int
		want    string
		why     string
	}{
		{month("faster", "first_screen_mean", played), 1500, Ship, "every guardrail holds"},
		{month("guarded", "first_screen_mean", stall), 600, Stop, "harms stall ratio"},
		{month("worse", "stall_ratio"), 600, Stop, "is worse"},
		{month("few", "first_screen_mean"), 60, KeepRunning, "too few"},
		{young, 1500, KeepRunning, "at least 168.0 h"},
		{planned(month("open", "first_screen_mean", bytes), 90), 600, KeepRunning, "not shown that edge bytes"},
		{planned(month("over", "played_per_unit"), 20), 600, CannotTell, "no difference"},
		{planned(month("under-way", "played_per_unit"), 90), 600, KeepRunning, "day 30.0 of 90"},
		{month("none", ""), 300, CannotTell, "no primary metric"},
		{split, 600, CannotTell, "not split as planned"},
	} {
		plant(t, conn, c.x, c.viewers)
		if c.x == split {
			c.x.Arms[0].Weight = 3
		}
		r, err := Build(t.Context(), conn, c.x, Options{Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		if d := r.Decision; d.Verdict != c.want || !strings.Contains(strings.Join(d.Why, "; "), c.why) {
			t.Errorf("%s: decision %+v, want %s because %s", c.x.Name, d, c.want, c.why)
		}
		if c.want == CannotTell && c.x == split && len(r.Health.Problems) == 0 {
			t.Error("a broken split is no problem")
		}
	}
}

// Blocks are units: sessions belong to the block in which they began, those of
// a block's burn-in to none.
func blocks(t *testing.T, conn driver.Conn) {
	x := experiment("blocks")
	x.Unit, x.BlockSec, x.BurnInSec, x.PrimaryMetric = schemas.UnitBlock, 3600, 600, "stall_ratio"
	start := time.Now().Add(-200 * time.Hour).Truncate(2 * time.Hour)
	x.StartedUnixUs = start.UnixMicro()
	ctx := t.Context()
	b, err := conn.PrepareBatch(ctx, "INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, arms, sessions, played_ms, stalled_ms)")
	if err != nil {
		t.Fatal(err)
	}
	e, err := conn.PrepareBatch(ctx, "INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, arm, propensity, reason)")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	const hours, each = 200, 20
	late := 0
	for h := range hours {
		for s := range each {
			at := start.Add(time.Duration(h)*time.Hour + time.Duration(s)*3*time.Minute)
			unit := assign.Unit(x, &assign.Subject{Region: "eu", UnixSec: at.Unix()})
			arm, _, ok := assign.Assign(x, unit)
			if !ok {
				t.Fatal("a block is in no arm")
			}
			stalled := int64(1000*(1+arm)) + rnd.Int64N(200)
			if s*3*60 < 600 {
				stalled = 100_000 // the burn-in must not count
			} else {
				late++
			}
			sid, name := fmt.Sprintf("b%d-%d", h, s), x.Arms[arm].Name
			if err := b.Append(at.UnixMilli(), "final", sid, "live", "demo", x.Name+"="+name, int64(1), int64(100_000)-stalled, stalled); err != nil {
				t.Fatal(err)
			}
			if err := e.Append(at, sid, x.Name, x.Salt, unit, "block", sid, name, 0.5, "assigned"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
	if err := e.Send(); err != nil {
		t.Fatal(err)
	}
	r, err := Build(ctx, conn, x, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Arms[0].Units != hours/2 || r.Arms[1].Units != hours/2 || int(r.Arms[0].Sessions+r.Arms[1].Sessions) != late {
		t.Errorf("arms %+v, want %d blocks each and %d sessions", r.Arms, hours/2, late)
	}
	m := r.primary()
	if a, c := m.Arms[1], m.Arms[0]; math.Abs(c.Estimate-1.1) > 0.02 || math.Abs(a.Estimate-2.1) > 0.02 {
		t.Errorf("stall ratios %+v and %+v, want 1.1 and 2.1 %%", c, a)
	}
	// Pairs of neighbouring blocks, with the p-value of the randomization test: at least one in 2001.
	if c := m.Comparisons[0]; c.Difference.Undefined != "" || c.Difference.Lower < 0.9 || c.P.Value != 1.0/(redraws+1) || c.Lift.Lower < 0.7 || c.Lift.Upper > 1.1 {
		t.Errorf("comparison %+v", c)
	}
	if len(m.pairs) != 1 || len(m.pairs[0].pairs) != hours/2 || m.pairs[0].dropped != 0 {
		t.Errorf("pairs %+v, want %d", m.pairs, hours/2)
	}
	if last := m.Looks[len(m.Looks)-1].Comparisons[0]; last.Difference != m.Comparisons[0].Difference || len(r.Segments) != 4 || len(r.Segments[0].Values) != 1 {
		t.Errorf("the last of the looks is %+v, all is %+v; segments %+v", last, m.Comparisons[0], r.Segments)
	}
}
