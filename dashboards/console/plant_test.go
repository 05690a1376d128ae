package console

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// hostileSession is a session whose id and player are markup and SQL at once.
const hostileSession = `<img src=x onerror="document.title='owned'">' OR 1=1 --`

// hostileLabel is what viewers' regions, providers and players are called, and what was wrong.
const hostileLabel = `<b onclick=alert(1)>"'); DROP TABLE x --`

// plantHostile writes a session, its reports and decisions, everything in them hostile, and an alert about it.
func plantHostile(t testing.TB, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	const bad = hostileLabel
	now := time.Now()
	exec := func(q string, a ...any) {
		t.Helper()
		if err := conn.Exec(t.Context(), q, a...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		at := now.Add(-time.Duration(100-5*i) * time.Second)
		stalled := 0
		if i > 12 {
			stalled = 4000
		}
		exec(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, region, isp, client, played_ms, stalled_ms, stalls, starts, startup_ms)
			VALUES (?, 'delta', ?, 'live', 'demo', ?, ?, ?, ?, ?, ?, ?, ?, ?)`, at.UnixMilli(), hostileSession, []string{"a", "b"}[i/14], bad, bad, bad, 5000-stalled, stalled, stalled/4000, 0, 0)
		exec(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, event, session_id, app, stream, cdn, state, buffer_ms, live_latency_ms, error_code)
			VALUES (?, ?, 'cmcd_event', 'ps', ?, 'live', 'demo', 'a', ?, ?, 2000, ?)`, at.UnixMicro(), at.UnixMilli()-7000, hostileSession, []string{"s", "p", "r", "p"}[min(i, 2+i%2)], 100*i, strings.Repeat(bad, i/19))
	}
	exec(`INSERT INTO spillway.decisions (time, kind, id, app, stream, session_id, policy, previous, chosen, probability, reason_code, candidate_cdns, candidate_scores, candidate_viewers, candidate_excluded)
		VALUES (fromUnixTimestamp64Milli(?), 'steering', 'd', 'live', 'demo', ?, ?, 'a', 'b', 1, ?, ['b'], [1], [2], [?])`, now.Add(-40*time.Second).UnixMilli(), hostileSession, bad, bad, bad)
	a := schemas.Alert{Rule: "raised", Subject: bad, State: schemas.AlertOpen, SinceUs: now.UnixMicro(), OpenedUs: now.UnixMicro(), Reason: bad, Page: "/cdns#b"}
	put(t, bucket(t, js, schemas.BucketAlerts), schemas.AlertKey(a.Rule, a.Subject), a)
}

// plantExperiment makes an experiment that runs, with viewers in both arms.
func plantExperiment(t testing.TB, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	now := time.Now()
	x := schemas.Experiment{
		Name: "delay", Hypothesis: "later is steadier", Salt: "p1", Unit: schemas.UnitViewer, Layer: "player", Coverage: 1, PrimaryMetric: "stall_ratio",
		Arms: []schemas.Arm{{Name: "control", Weight: 1}, {Name: "low", Weight: 1}}, Status: schemas.ExperimentRunning, StartedUnixUs: now.Add(-time.Hour).UnixMicro(),
	}
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	put(t, bucket(t, js, schemas.BucketExperiments), x.Name, x)
	for _, sql := range []string{
		`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason)
			SELECT fromUnixTimestamp64Milli(?), 'delay', 'p1', 'v' || toString(number), 'x' || toString(number), 'v' || toString(number), ['control', 'low'][1 + number % 2], 'assigned' FROM numbers(600)`,
		// Older than what pages show of the present.
		`INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, app, stream, cdn, arms, sessions, attempts, starts, startup_ms, played_ms, stalled_ms, first_screen_bins, first_screen_counts)
			SELECT ?, 'x' || toString(number), 'v' || toString(number), 'shop', 'gone', 'a', 'delay=' || ['control', 'low'][1 + number % 2], 1, 1, 1, 400, 60000, number % 91 * 10, [300 + number % 9], [1] FROM numbers(600)`,
	} {
		if err := conn.Exec(t.Context(), sql, now.Add(-20*time.Minute).UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
}
