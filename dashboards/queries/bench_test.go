package queries

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// BenchmarkQueries times every panel and every query of the console, as the
// analyst, over an hour that holds 2,000 viewers: 7.2 million slices, a slice a
// second each, and 1.44 million raw rows.
func BenchmarkQueries(b *testing.B) {
	const viewers, seconds = 2000, 3600
	srv := clickhousetest.StartOptions(b, chserver.Options{MemoryLimitBytes: 2 << 30})
	admin := connect(b, srv, chserver.Admin)
	if err := clickhouse.Migrate(b.Context(), admin, clickhouse.Options{}); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	now := time.Now().Truncate(time.Second)
	for i := 0; i < seconds; i += 60 { // a block a minute, as a loader writes them
		start := now.Add(-time.Duration(seconds-i) * time.Second).UnixMilli()
		if err := admin.Exec(ctx, fmt.Sprintf(`INSERT INTO spillway.session_slices (time_ms, session_id, app, stream, cdn, region, isp, client, device, sessions, attempts, starts,
			played_ms, stalled_ms, latency_ms_sum, latency_weight_ms, requests, request_bytes, reports, first_screen_bins, first_screen_counts)
			SELECT %d + intDiv(number, %d) * 1000, concat('s', toString(number %% %d)), 'live', concat('stream-', toString(number %% 50)), ['a','b','c'][number %% 3 + 1],
			['eu','us'][number %% 2 + 1], concat('isp-', toString(number %% 20)), ['hls.js','native'][number %% 2 + 1], 'phone', 0, number %% 60 = 0, number %% 60 = 0,
			990, 10, 1990000, 990, 3, 300000, 1, if(number %% 60 = 0, [toInt64(250 + number %% 100)], []), if(number %% 60 = 0, [toInt64(1)], [])
			FROM numbers(%d)`, start, viewers, viewers, viewers*60)); err != nil {
			b.Fatal(err)
		}
		if err := admin.Exec(ctx, fmt.Sprintf(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, session_id, app, stream, cdn)
			SELECT (%d + intDiv(number, %d) * 5000) * 1000, %d, 'cmcd_event', concat('s', toString(number %% %d)), 'live', 'stream-1', 'a' FROM numbers(%d)`,
			start, viewers, start, viewers, viewers*12)); err != nil {
			b.Fatal(err)
		}
	}
	analyst := connect(b, srv, chserver.Analyst)
	run := func(b *testing.B, sql string, from time.Time, step time.Duration) {
		q, err := Expand(sql, All(), from, now, step)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			rows, err := analyst.Query(ctx, q)
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
			}
			if err := rows.Err(); err != nil {
				b.Fatal(err)
			}
			rows.Close()
		}
	}
	for _, c := range []struct {
		name, sql string
		back      time.Duration
		step      time.Duration
	}{
		{"viewers", ViewersNow, 30 * time.Second, time.Second}, {"quality", QualityNow, 20 * time.Second, time.Second},
		{"streams", StreamQualityNow, 20 * time.Second, time.Second}, {"first_screen", FirstScreenNow, 5 * time.Minute, time.Second},
		{"recent", Recent, 15 * time.Minute, 10 * time.Second}, {"minutes", RecentFirstScreen, 30 * time.Minute, time.Minute},
	} {
		b.Run("console/"+c.name, func(b *testing.B) { run(b, c.sql, now.Add(-c.back), c.step) })
	}
	for _, w := range Walls(DefaultThresholds()) {
		for _, p := range w.Panels() {
			b.Run(p.ID, func(b *testing.B) { run(b, p.SQL, now.Add(-time.Hour), time.Minute) })
		}
	}
}
