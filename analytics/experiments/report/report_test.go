package report

import (
	"bytes"
	"context"
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

func open(t *testing.T) driver.Conn {
	t.Helper()
	_, conn := tablestest.Start(t)
	return conn
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
	e, err := conn.PrepareBatch(ctx, "INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, arm, propensity, reason)")
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
		if err := e.Append(now, fmt.Sprintf("x%d", v), x.Name, x.Salt, viewer, "viewer", fmt.Sprintf("s%d-0", v), name, p, "assigned"); err != nil {
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
			if err := b.Append(now.UnixMilli(), "final", fmt.Sprintf("s%d-%d", v, s), viewer, "live", "demo", "a", x.Name+"="+name+",other=z",
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

func TestReportFindsPlantedEffects(t *testing.T) {
	conn := open(t)
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
	for i, want := range []float64{1 * mean, 2 * mean} {
		s := stall.Arms[i]
		if s.Undefined != "" || !(s.Lower < s.Estimate && s.Estimate < s.Upper) || math.Abs(s.Estimate-want) > 0.1*want {
			t.Errorf("stall ratio of arm %d: %+v, want about %.3f %%", i, s, want)
		}
	}
	if c := stall.Comparisons[0]; !(c.Difference.Lower > 0 && c.Lift.Lower > 0.5 && c.Lift.Upper < 1.7 && c.P.Value < 1e-6) {
		t.Errorf("the doubled stall ratio is reported as %+v", c)
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

func TestReportWithoutDataSaysSo(t *testing.T) {
	conn := open(t)
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
	bad := experiment("x")
	bad.Unit = "user"
	if _, err := Build(t.Context(), conn, bad, Options{}); err == nil {
		t.Error("an experiment with an unknown unit was reported on")
	}
}
