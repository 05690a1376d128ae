package clickhouse

import (
	"context"
	"flag"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	ch "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func benchServer(b *testing.B) driver.Conn {
	b.Helper()
	srv := clickhousetest.StartOptions(b, ch.Options{MemoryLimitBytes: 4 << 30})
	o, err := clickhouse.ParseDSN(srv.NativeURL(ch.Admin))
	if err != nil {
		b.Fatal(err)
	}
	o.ReadTimeout = 10 * time.Minute
	conn, err := clickhouse.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	if err := Migrate(context.Background(), conn, Options{}); err != nil {
		b.Fatal(err)
	}
	return conn
}

func run(b *testing.B, conn driver.Conn, sql string) time.Duration {
	b.Helper()
	start := time.Now()
	if !strings.HasPrefix(sql, "SELECT") {
		if err := conn.Exec(context.Background(), sql); err != nil {
			b.Fatalf("%v\n%s", err, sql)
		}
		return time.Since(start)
	}
	rows, err := conn.Query(context.Background(), sql)
	if err != nil {
		b.Fatalf("%v\n%s", err, sql)
	}
	defer rows.Close()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		b.Fatalf("%v\n%s", err, sql)
	}
	return time.Since(start)
}

var benchSessions = flag.Int("sessions", 10_000_000, "closed sessions that BenchmarkSessionsByCDN fills; there are 3 % as many open ones")

// BenchmarkSessionsByCDN asks v_sessions for the sums of ten million sessions by CDN: closed ones, a row each, and
// 300,000 open ones in three pieces each. It reports the best of three in seconds, as inserts leave the parts, and merged.
func BenchmarkSessionsByCDN(b *testing.B) {
	const inserts = 10
	sessions := *benchSessions / inserts * inserts
	conn := benchServer(b)
	insert := func(from, n, opening, closing int) {
		run(b, conn, fmt.Sprintf(`INSERT INTO spillway.sessions (app, stream, session_id, viewer_id, first_time, last_time, end_reason, cdn, protocol, region, isp, client,
			attempts, starts, startup_ms, played_ms, stalled_ms, stalls, sessions, ended)
			SELECT 'live', 'stream' || toString(number %% 50), lower(hex(sipHash128(number))), toString(number %% 3000000), at, at, 'quit', ['a', 'b', 'c'][1 + number %% 3],
				'h', ['eu', 'us'][1 + number %% 2], 'isp' || toString(number %% 20), 'hls.js', 1, 1, number %% 900, 60000, number %% 700, number %% 3, %d, %d
			FROM (SELECT number, now64(3) - INTERVAL number %% 2000000 SECOND AS at FROM numbers(%d, %d))`, opening, closing, from, n))
	}
	for part := range inserts {
		insert(part*(sessions/inserts), sessions/inserts, 1, 1)
	}
	for piece := range 3 {
		insert(2*sessions, sessions/100*3, 1-min(piece, 1), 0)
	}
	const q = "SELECT cdn, count(), sum(stalled_ms) / (sum(played_ms) + sum(stalled_ms)) FROM spillway.v_sessions GROUP BY cdn"
	measure := func(name string) {
		best := time.Hour
		for range 3 {
			best = min(best, run(b, conn, q))
		}
		b.ReportMetric(best.Seconds(), name+"-s")
	}
	b.ResetTimer()
	measure("as-inserted")
	run(b, conn, "OPTIMIZE TABLE spillway.sessions FINAL")
	measure("merged")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkArmViews inserts slices of sessions in two experiments, with the views of segments and units and without, and
// reports the server's processor time for each slice in microseconds.
func BenchmarkArmViews(b *testing.B) {
	const rows, blocks = 50_000, 6
	conn := benchServer(b)
	ctx := context.Background()
	columns := `time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, device, arms, sessions, attempts, starts, startup_ms, played_ms, stalled_ms, stalls,
		latency_ms_sum, latency_weight_ms, bitrate_kbps_ms_sum, bitrate_weight_ms, reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts`
	run(b, conn, "CREATE TABLE default.staged ENGINE = Memory AS SELECT "+columns+" FROM spillway.session_slices LIMIT 0")
	// One slice in eight begins a session, as ticks of some ten seconds make of sessions of a minute and a half.
	run(b, conn, fmt.Sprintf(`INSERT INTO default.staged SELECT %d + number %% 20000, 'delta', lower(hex(sipHash128(number))), lower(hex(sipHash64(number))), 'live', 'stream' || toString(number %% 50),
		['a', 'b', 'c'][1 + number %% 3], ['eu', 'us', 'ap'][1 + number %% 3], 'isp' || toString(number %% 20), ['phone', 'tv', 'desktop'][1 + number %% 3], ['player=control,route=new', 'player=low,route=old'][1 + number %% 2],
		number %% 8 = 0, number %% 8 = 0, number %% 8 = 0, 300 + number %% 900, 10000, number %% 400, number %% 2, 10000 * 2000, 10000, 10000 * 3000, 10000, 3,
		if(number %% 8 = 0, [250 + number %% 100], []), if(number %% 8 = 0, [1], []), [300 + number %% 50], [3] FROM numbers(%d)`, time.Now().UnixMilli(), rows))
	measure := func(name string) {
		least := int64(math.MaxInt64)
		for block := range blocks {
			us := int64(0)
			count := func(events []clickhouse.ProfileEvent) {
				for _, e := range events {
					if e.ThreadID == 0 && e.Name == "OSCPUVirtualTimeMicroseconds" {
						us += e.Value
					}
				}
			}
			ctx := clickhouse.Context(ctx, clickhouse.WithProfileEvents(count), clickhouse.WithSettings(clickhouse.Settings{
				"insert_deduplication_token": fmt.Sprint(name, block), "deduplicate_blocks_in_dependent_materialized_views": 1, "max_block_size": rows, "min_insert_block_size_rows": rows,
			}))
			if err := conn.Exec(ctx, "INSERT INTO spillway.session_slices ("+columns+") SELECT * FROM default.staged"); err != nil {
				b.Fatal(err)
			}
			least = min(least, us)
		}
		b.ReportMetric(float64(least)/rows, name+"-us/slice")
	}
	measure("all")
	run(b, conn, "DETACH TABLE spillway.rollup_arm_segment_hour_mv")
	measure("without-segments")
	run(b, conn, "DETACH TABLE spillway.experiment_units_reported_mv")
	measure("without-both")
	b.ReportMetric(0, "ns/op")
}
