package report

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
	schema "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// BenchmarkReport makes a report of a week of sessions, 10 million unless SPILLWAY_BENCH_SESSIONS says otherwise, from
// the roll-ups and with the exact variance beside. It reports the seconds of a report and, of these, the milliseconds of
// processor time in Go; the rest is ClickHouse's.
func BenchmarkReport(b *testing.B) {
	sessions := 10_000_000
	if v := os.Getenv("SPILLWAY_BENCH_SESSIONS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 10_000 {
			b.Fatalf("SPILLWAY_BENCH_SESSIONS=%q: give a number from 10000", v)
		}
		sessions = n
	}
	srv := clickhousetest.StartOptions(b, clickhouse.Options{MemoryLimitBytes: 6 << 30})
	o, err := chgo.ParseDSN(srv.NativeURL(clickhouse.Admin))
	if err != nil {
		b.Fatal(err)
	}
	o.ReadTimeout = 10 * time.Minute
	conn, err := chgo.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := schema.Migrate(b.Context(), conn, schema.Options{}); err != nil {
		b.Fatal(err)
	}
	x := week(b, conn, sessions)
	for _, exact := range []bool{false, true} {
		name := "rollups"
		if exact {
			name = "exact"
		}
		b.Run(name, func(b *testing.B) {
			var r *Report
			log := &loggedConn{Conn: conn}
			all, ours := time.Hour, time.Hour
			for b.Loop() {
				log.each = log.each[:0]
				begin, cpu := time.Now(), processorTime(b)
				if r, err = Build(b.Context(), log, x, Options{Exact: exact}); err != nil {
					b.Fatal(err)
				}
				if t := time.Since(begin); t < all {
					all, ours = t, processorTime(b)-cpu
				}
			}
			b.ReportMetric(all.Seconds(), "s")
			b.ReportMetric(float64(ours.Microseconds())/1000, "go-ms")
			b.ReportMetric(0, "ns/op")
			n := r.Arms[0].Sessions + r.Arms[1].Sessions
			if n < int64(sessions)*99/100 || r.primary().Comparisons[0].Difference.Undefined != "" || len(r.Segments) != 4 || len(r.Health.Problems) > 0 {
				b.Fatalf("%d sessions in the report, primary %+v, health %+v", n, r.primary(), r.Health)
			}
			for i, q := range r.Queries {
				b.Logf("%.2f s: %s", log.each[len(log.each)-len(r.Queries)+i].Seconds(), q.Purpose)
			}
		})
	}
}

// processorTime is how long this process has worked, which the load of the machine does not lengthen. The server is a
// process of its own.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loggedConn measures each statement from its begin until all rows are read.
type loggedConn struct {
	driver.Conn
	each []time.Duration
}

func (c *loggedConn) Query(ctx context.Context, text string, args ...any) (driver.Rows, error) {
	begin := time.Now()
	rows, err := c.Conn.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return &loggedRows{rows, c, begin}, nil
}

type loggedRows struct {
	driver.Rows
	c     *loggedConn
	begin time.Time
}

func (r *loggedRows) Close() error {
	r.c.each = append(r.c.each, time.Since(r.begin))
	return r.Rows.Close()
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

// week writes sessions of the last seven days, of a third as many viewers, each in one of two arms, with stalls and first
// screens that depend on the viewer.
func week(b *testing.B, conn driver.Conn, sessions int) *schemas.Experiment {
	b.Helper()
	ctx := b.Context()
	until := time.Now().UTC().Truncate(time.Hour)
	x := experiment("week")
	x.StartedUnixUs = until.Add(-7 * 24 * time.Hour).UnixMicro()
	x.PrimaryMetric = "stall_ratio"
	x.Guardrails = []schemas.Guardrail{{Metric: "first_screen_mean", Margin: 0.05}, {Metric: "start_failure_ratio", Margin: 0.2}, {Metric: "played_per_unit", Margin: 0.05}}
	if err := conn.Exec(ctx, "INSERT INTO spillway.schema_migrations SELECT name, sha256, toDateTime64('2020-01-01 00:00:00', 3) FROM spillway.schema_migrations"); err != nil {
		b.Fatal(err)
	}
	// Roll-ups that no report reads would only make the inserts slower.
	for _, view := range unread(b, conn) {
		if err := conn.Exec(ctx, "DETACH TABLE spillway."+view); err != nil {
			b.Fatal(err)
		}
	}
	const inserts = 20
	viewers := sessions / 3
	for part := range inserts {
		n := sessions / inserts
		// Time grows with the number, as it does live; viewers come back on any day.
		source := fmt.Sprintf(`(SELECT number, toDateTime64(%d + intDiv(number * 604800, %d), 3, 'UTC') AS at, sipHash64(number) %% %d AS v, lower(hex(sipHash64(v, 1))) AS viewer, lower(hex(sipHash128(number))) AS session,
			if(sipHash64(v, 2) %% 2 = 0, 'control', 'low') AS arm, exp(0.6 * (sipHash64(v, 3) %% 1000 / 500. - 1)) AS level FROM numbers(%d, %d))`, until.Add(-7*24*time.Hour).Unix(), sessions, viewers, part*n, n)
		for _, insert := range []string{
			`INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, app, stream, arm, propensity, reason)
				SELECT at, session, 'week', 'p1', viewer, 'viewer', session, viewer, 'live', 'show', arm, 0.5, 'assigned' FROM ` + source,
			`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, device, arms, sessions, ended, attempts, starts, startup_ms, start_failures, played_ms, stalled_ms, stalls, switches,
				latency_ms_sum, latency_weight_ms, bitrate_kbps_ms_sum, bitrate_weight_ms, frames_weight_ms, dropped_frames, requests, request_errors, request_bytes, reports, lost_reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts)
				SELECT toUnixTimestamp64Milli(at), 'final', session, viewer, 'live', 'stream' || toString(number % 40), ['a', 'b', 'c'][1 + number % 3], ['eu', 'us', 'ap', 'sa', 'af'][1 + v % 5], 'isp' || toString(v % 12), ['phone', 'tv', 'desktop', 'tablet', 'console'][1 + v % 5],
				'other=z,week=' || arm, 1, 1, 1, 1 - failed, (1 - failed) * first, failed, (1 - failed) * (600000 - stalled), (1 - failed) * stalled, (1 - failed) * (number % 3), number % 4,
				1500 * 600000, 600000, 3000 * 600000, 600000, 600000, number % 7, 300, number % 5, 200000000, 60, number % 97 = 0,
				[if(failed = 1, 1073741824, toInt64(floor(log(first) / 0.01980262729617973)))], [1], [toInt64(floor(log(1200 + 600 * level + number % 400) / 0.01980262729617973)), toInt64(floor(log(1300 + 600 * level) / 0.01980262729617973))], [8, 2]
				FROM (SELECT *, toInt64(number % 199 = 0) AS failed, toInt64((300 + number % 300) * level) AS first, toInt64(6000 * level * (1 + (arm = 'low') * 0.02)) AS stalled FROM ` + source + `)`,
		} {
			if err := conn.Exec(chgo.Context(ctx, chgo.WithSettings(chgo.Settings{"max_insert_block_size": 200_000, "max_block_size": 65_536, "min_insert_block_size_rows": 200_000, "max_insert_threads": 2})), insert); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("%d sessions are written", sessions)
	for _, table := range []string{"rollup_arm_minute", "rollup_arm_hour", "rollup_arm_segment_hour", "experiment_units"} {
		// As they lie on the next day: parts of a roll-up are merged within minutes.
		if err := conn.Exec(ctx, "OPTIMIZE TABLE spillway."+table+" FINAL"); err != nil {
			b.Fatal(err)
		}
	}
	return x
}
