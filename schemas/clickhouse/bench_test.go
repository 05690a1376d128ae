package clickhouse

import (
	"context"
	"fmt"
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

// BenchmarkSessionsByCDN asks v_sessions for the sums of ten million sessions by CDN: closed ones, a row each, and
// 300,000 open ones in three pieces each. It reports the best of three in seconds, as inserts leave the parts, and merged.
func BenchmarkSessionsByCDN(b *testing.B) {
	const sessions, inserts = 10_000_000, 10
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
		insert(2*sessions, 300_000, 1-min(piece, 1), 0)
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
