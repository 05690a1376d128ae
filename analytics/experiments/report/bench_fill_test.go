package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
	schema "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// benchDays is how long the experiment of the benchmark has run.
const benchDays = 7

// benchSessions is how many sessions are reported on: SPILLWAY_BENCH_SESSIONS, or 10 million.
func benchSessions(b *testing.B) int {
	v := os.Getenv("SPILLWAY_BENCH_SESSIONS")
	if v == "" {
		return 10_000_000
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 10_000 {
		b.Fatalf("SPILLWAY_BENCH_SESSIONS=%q: give a number from 10000", v)
	}
	return n
}

// filled gives a server that holds a week of sessions in one experiment, and the moment until which. With
// SPILLWAY_BENCH_DIR the data stay in a folder of that one, and a later run with as many sessions begins at once. With
// SPILLWAY_BENCH_FILL beside it, a duration, filling ends after so long and is taken up by the next run.
func filled(b *testing.B, sessions int) (driver.Conn, *schemas.Experiment, time.Time) {
	b.Helper()
	o := clickhouse.Options{MemoryLimitBytes: 6 << 30}
	p := progress{Until: time.Now().UTC().Truncate(time.Hour).Add(-30 * time.Minute)}
	if dir := os.Getenv("SPILLWAY_BENCH_DIR"); dir != "" {
		o.DataDir = filepath.Join(dir, "sessions-"+strconv.Itoa(sessions))
		if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
			b.Fatal(err)
		}
		p.read(b, filepath.Join(o.DataDir, "filled.json"))
	}
	srv := clickhousetest.StartOptions(b, o)
	dial, err := chgo.ParseDSN(srv.NativeURL(clickhouse.Admin))
	if err != nil {
		b.Fatal(err)
	}
	dial.ReadTimeout = 10 * time.Minute
	conn, err := chgo.Open(dial)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	x := experiment("week")
	x.StartedUnixUs = p.Until.Add(-benchDays * 24 * time.Hour).UnixMicro()
	x.PrimaryMetric = "stall_ratio"
	// The planned run is over: what there was at its end is read beside what there is now.
	x.Plan = &schemas.ExperimentPlan{Effect: 0.02, Mean: 1, Variance: 1, UnitsPerDay: 1e6, Days: benchDays - 1}
	x.Guardrails = []schemas.Guardrail{{Metric: "first_screen_mean", Margin: 0.05}, {Metric: "start_failure_ratio", Margin: 0.2}, {Metric: "played_per_unit", Margin: 0.05}}
	if !p.Merged {
		if err := schema.Migrate(b.Context(), conn, schema.Options{}); err != nil {
			b.Fatal(err)
		}
		week(b, conn, sessions, &p)
	}
	return conn, x, p.Until
}

// progress says how far filling has come.
type progress struct {
	Until    time.Time
	Sessions int
	Merged   bool
	file     string // empty: nothing is kept
}

func (p *progress) read(b *testing.B, file string) {
	b.Helper()
	p.file = file
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err != nil {
		b.Fatalf("%s: %v: remove the folder", file, err)
	}
}

func (p *progress) write(b *testing.B) {
	b.Helper()
	if p.file == "" {
		return
	}
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(p.file, text, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// unread are the materialized views that feed nothing that a report asks.
func unread(b *testing.B, conn driver.Conn) []string {
	b.Helper()
	rows, err := conn.Query(b.Context(), "SELECT name FROM system.tables WHERE database = 'spillway' AND engine = 'MaterializedView' AND name NOT LIKE 'rollup_arm_%' AND name NOT LIKE 'experiment_units_%'")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			b.Fatal(err)
		}
		out = append(out, name)
	}
	return out
}

// week writes the sessions of seven days, of a third as many viewers, each in one of two arms, with stalls and first
// screens that depend on the viewer. They go through the materialized views that fill the roll-ups live.
func week(b *testing.B, conn driver.Conn, sessions int, p *progress) {
	b.Helper()
	exec := func(text string) {
		b.Helper()
		if err := conn.Exec(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	exec("INSERT INTO spillway.schema_migrations SELECT name, sha256, toDateTime64('2020-01-01 00:00:00', 3) FROM spillway.schema_migrations")
	// Roll-ups that no report reads would only make the inserts slower, and so would merges of what is merged at the end.
	for _, view := range unread(b, conn) {
		exec("DETACH TABLE spillway." + view + " PERMANENTLY")
	}
	for _, table := range []string{"rollup_arm_minute", "session_slices", "exposures"} {
		exec("SYSTEM STOP MERGES spillway." + table)
	}
	const block = 500_000
	limit, _ := time.ParseDuration(os.Getenv("SPILLWAY_BENCH_FILL"))
	begin := time.Now()
	for p.Sessions < sessions {
		if limit > 0 && p.file != "" && time.Since(begin) > limit {
			b.Skipf("%d of %d sessions are written: run it again to go on", p.Sessions, sessions)
		}
		n := min(block, sessions-p.Sessions)
		fillBlock(b, conn, sessions, p.Sessions, n, p.Until)
		p.Sessions += n
		p.write(b)
		fmt.Fprintf(os.Stderr, "filling: %d of %d sessions, %.0f s\n", p.Sessions, sessions, time.Since(begin).Seconds())
	}
	for _, table := range []string{"rollup_arm_hour", "rollup_arm_segment_hour", "experiment_units"} {
		// As they lie on the next day: parts of a roll-up are merged within minutes.
		exec("OPTIMIZE TABLE spillway." + table + " FINAL")
	}
	p.Merged = true
	p.write(b)
	fmt.Fprintf(os.Stderr, "filling: merged, %.0f s\n", time.Since(begin).Seconds())
}

// fillBlock writes n sessions from the first on, one block of the server.
func fillBlock(b *testing.B, conn driver.Conn, sessions, first, n int, until time.Time) {
	b.Helper()
	// Time grows with the number, as it does live; viewers come back on any day.
	source := fmt.Sprintf(`(SELECT number, toDateTime64(%d + intDiv(number * %d, %d), 3, 'UTC') AS at, sipHash64(number) %% %d AS v, lower(hex(sipHash64(v, 1))) AS viewer, lower(hex(sipHash128(number))) AS session,
		if(sipHash64(v, 2) %% 2 = 0, 'control', 'low') AS arm, exp(0.6 * (sipHash64(v, 3) %% 1000 / 500. - 1)) AS level FROM numbers(%d, %d))`,
		until.Add(-benchDays*24*time.Hour).Unix(), benchDays*86400, sessions, sessions/3, first, n)
	settings := chgo.Settings{"max_insert_block_size": n, "max_block_size": n, "min_insert_block_size_rows": n, "min_insert_block_size_bytes": 0, "parallel_view_processing": 1}
	for _, insert := range []string{
		`INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, app, stream, arm, propensity, reason)
			SELECT at, session, 'week', 'p1', viewer, 'viewer', session, viewer, 'live', 'show', arm, 0.5, 'assigned' FROM ` + source,
		`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, device, arms, sessions, ended, attempts, starts, startup_ms, start_failures, played_ms, stalled_ms, stalls, switches,
			latency_ms_sum, latency_weight_ms, bitrate_kbps_ms_sum, bitrate_weight_ms, frames_weight_ms, dropped_frames, requests, request_errors, request_bytes, reports, lost_reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts)
			SELECT toUnixTimestamp64Milli(at), 'final', session, viewer, 'live', 'stream' || toString(number % 40), ['a', 'b', 'c'][1 + number % 3], ['eu', 'us', 'ap', 'sa', 'af'][1 + v % 5], 'isp' || toString(v % 12), ['phone', 'tv', 'desktop', 'tablet', 'console'][1 + v % 5],
			'week=' || arm, 1, 1, 1, 1 - failed, (1 - failed) * first, failed, (1 - failed) * (600000 - stalled), (1 - failed) * stalled, (1 - failed) * (number % 3), number % 4,
			1500 * 600000, 600000, 3000 * 600000, 600000, 600000, number % 7, 300, number % 5, 200000000, 60, number % 97 = 0,
			[if(failed = 1, 1073741824, toInt64(floor(log(first) / 0.01980262729617973)))], [1], [toInt64(floor(log(1200 + 600 * level + number % 400) / 0.01980262729617973)), toInt64(floor(log(1300 + 600 * level) / 0.01980262729617973))], [8, 2]
			FROM (SELECT *, toInt64(number % 199 = 0) AS failed, toInt64((300 + number % 300) * level * if(arm = 'low', 0.85, 1)) AS first, toInt64(6000 * level * (1 + (arm = 'low') * 0.02)) AS stalled FROM ` + source + `)`,
	} {
		if err := conn.Exec(chgo.Context(b.Context(), chgo.WithSettings(settings)), insert); err != nil {
			b.Fatal(err)
		}
	}
}
