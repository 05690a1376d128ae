package loop_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/loop"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
	"github.com/spillway-live/spillway/testenv/running"
)

// plant writes one session a viewer; the second arm stalls harm times as much as the first, and of its starts so many of
// ten fail. In the first arm none fails.
func plant(t *testing.T, conn driver.Conn, x *schemas.Experiment, viewers int, harm int64, failing int) {
	t.Helper()
	b, err := conn.PrepareBatch(t.Context(), "INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, arms, sessions, attempts, start_failures, played_ms, stalled_ms)")
	if err != nil {
		t.Fatal(err)
	}
	e, err := conn.PrepareBatch(t.Context(), "INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, arm, propensity, reason)")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-10 * time.Minute)
	for v := range viewers {
		viewer := fmt.Sprintf("v%d", v)
		arm, p, ok := assign.Assign(x, viewer)
		if !ok {
			continue
		}
		stalled := int64(1000 + v%7*100)
		if arm == 1 {
			stalled *= harm
		}
		failures := int64(0)
		if arm == 1 && v%10 < failing {
			failures = 1
		}
		sid, name := fmt.Sprintf("%s-%d", x.Name, v), x.Arms[arm].Name
		if err := b.Append(at.UnixMilli(), "final", sid, viewer, "live", "demo", x.Name+"="+name, int64(1), int64(1), failures, 100_000-stalled, stalled); err != nil {
			t.Fatal(err)
		}
		if err := e.Append(at, sid, x.Name, x.Salt, viewer, "viewer", sid, viewer, name, p, "assigned"); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Send(); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
}

// hook records what a webhook is told; it fails the first time.
type hook struct {
	mu      sync.Mutex
	failed  bool
	notices []loop.Notice
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n loop.Notice
	err := json.NewDecoder(r.Body).Decode(&n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || !h.failed {
		h.failed = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h.notices = append(h.notices, n)
}

func (h *hook) told(status string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.notices {
		if n.Status == status {
			return true
		}
	}
	return false
}

func check(t *testing.T, js jetstream.JetStream, name string) *schemas.ExperimentCheck {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), schemas.BucketChecks)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), name)
	if err != nil {
		return &schemas.ExperimentCheck{}
	}
	c, err := schemas.ParseExperimentCheck(name, e.Value())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// analyst is the connection that the loop has in production: one that may only read, within limits.
func analyst(t *testing.T, s *clickhouse.Server) driver.Conn {
	t.Helper()
	o, err := chgo.ParseDSN(s.NativeURL(clickhouse.Analyst))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// runs starts a loop, which ends with the test at the latest.
func runs(t *testing.T, s loop.Settings) (stop func()) {
	t.Helper()
	stop = running.Start(t, s.Run).Stop
	return stop
}

// Without data nothing happens and that is said; a harmful experiment is
// stopped for good and its webhook told; a harmless one covers more.
func TestLoop(t *testing.T) {
	b := bustest.Start(t)
	srv, conn := tablestest.Start(t)
	reader := analyst(t, srv)
	var h hook
	webhooks := httptest.NewServer(&h)
	defer webhooks.Close()
	ctx := t.Context()
	// They began an hour ago: a look ends with a minute that is over.
	people := &control.Control{JS: b.JS, By: "ana", Now: func() time.Time { return time.Now().Add(-time.Hour) }}
	begin := func(name string, ramp *schemas.Ramp, guards ...schemas.Guardrail) *schemas.Experiment {
		x := &schemas.Experiment{
			Name: name, Salt: name, Unit: schemas.UnitViewer, Layer: name, Coverage: 1, PrimaryMetric: "played_per_unit", WebhookURL: webhooks.URL, Ramp: ramp,
			Arms:       []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
			Guardrails: guards,
		}
		if _, err := people.Save(ctx, x); err != nil {
			t.Fatal(err)
		}
		x, err := people.Start(ctx, name, "")
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	stalls, failures := schemas.Guardrail{Metric: "stall_ratio", Margin: 0.05}, schemas.Guardrail{Metric: "start_failure_ratio", Margin: 0.05}
	harmful := begin("harmful", nil, stalls)
	failing := begin("failing", nil, failures) // nothing ever fails in its control
	harmless := begin("harmless", &schemas.Ramp{Steps: []float64{0.5, 1}, HoldHours: 1e-9}, stalls, failures)

	settings := loop.Settings{JS: b.JS, Conn: b.Conn, ClickHouse: reader, Every: 300 * time.Millisecond, Watermark: time.Nanosecond, Stale: time.Hour}
	stop := runs(t, settings)
	await.True(t, "both are held for want of data", func() bool {
		return strings.Contains(check(t, b.JS, "harmful").Held, "no session") && strings.Contains(check(t, b.JS, "harmless").Held, "no session")
	})
	for _, x := range []*schemas.Experiment{harmful, failing, harmless} {
		if now, err := people.Get(ctx, x.Name); err != nil || now.Status != schemas.ExperimentRunning || now.Coverage != x.Coverage {
			t.Fatalf("changed without data: %+v, %v", now, err)
		}
	}
	// It restarts in the middle: nothing of what it knows is in memory alone.
	stop()
	plant(t, conn, harmless, 3000, 1, 0)
	plant(t, conn, harmful, 3000, 3, 0)
	plant(t, conn, failing, 400, 1, 3)
	runs(t, settings)
	await.True(t, "the harmful one is stopped", func() bool {
		x, err := people.Get(ctx, "harmful")
		return err == nil && x.Status == schemas.ExperimentStopped && x.ChangedBy == loop.By && strings.Contains(x.ChangeReason, "arm test harms stall_ratio")
	})
	await.True(t, "the one whose starts fail is stopped", func() bool {
		x, err := people.Get(ctx, "failing")
		return err == nil && x.Status == schemas.ExperimentStopped && x.ChangedBy == loop.By && strings.Contains(x.ChangeReason, "arm test harms start_failure_ratio")
	})
	await.True(t, "the harmless one covers all", func() bool {
		x, err := people.Get(ctx, "harmless")
		return err == nil && x.Status == schemas.ExperimentRunning && x.Coverage == 1 && x.ChangedBy == loop.By
	})
	await.True(t, "the webhook was told of start and stop, though it failed at first", func() bool {
		return h.told(schemas.ExperimentRunning) && h.told(schemas.ExperimentStopped)
	})
	await.True(t, "the check says that the ramp is over", func() bool { return check(t, b.JS, "harmless").Next == "the ramp is complete" })
}

// Old data, and none at all because ClickHouse is gone, stop nothing.
func TestWithoutClickHouseNothingIsJudged(t *testing.T) {
	b := bustest.Start(t)
	s, conn := tablestest.Start(t)
	people := &control.Control{JS: b.JS, By: "ana", Now: func() time.Time { return time.Now().Add(-time.Hour) }}
	x := &schemas.Experiment{
		Name: "x", Salt: "x", Unit: schemas.UnitViewer, Layer: "x", Coverage: 1, PrimaryMetric: "stall_ratio",
		Arms:       []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
		Guardrails: []schemas.Guardrail{{Metric: "stall_ratio", Margin: 0.05}},
	}
	if _, err := people.Save(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x, err := people.Start(t.Context(), "x", "")
	if err != nil {
		t.Fatal(err)
	}
	plant(t, conn, x, 3000, 3, 0) // it would be stopped at once
	settings := loop.Settings{JS: b.JS, Conn: b.Conn, ClickHouse: conn, Every: 300 * time.Millisecond, Watermark: time.Nanosecond, Stale: time.Minute}
	stop := runs(t, settings)
	await.True(t, "it is held for old data", func() bool { return strings.Contains(check(t, b.JS, "x").Held, "the newest data is") })
	stop()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	settings.Stale = time.Hour
	stop = runs(t, settings)
	await.True(t, "it is held", func() bool { return strings.Contains(check(t, b.JS, "x").Held, "ClickHouse does not answer") })
	stop()
	if x, err := people.Get(t.Context(), "x"); err != nil || x.Status != schemas.ExperimentRunning {
		t.Errorf("status %+v, %v", x, err)
	}
}
