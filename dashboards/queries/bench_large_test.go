package queries

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

var largeRows = flag.Int64("rows", 100_000_000, "raw rows that BenchmarkLarge fills, over the last 24 hours")

// largeCopies is how often each generated raw row and slice is stored: copies of parts cost no inserts. Their times
// and sessions are the same, so that each session has that many times its rows.
const largeCopies = 20

// BenchmarkLarge times every panel, variable, console query and documented query as the analyst, over a day of raw
// rows (three quarters edges' log lines), a quarter as many slices, and the roll-ups and sessions made of them. Ranges
// are those that the walls open with, and thirty days, which only tell of the choice of tables: rows are of the last day. Merges are stopped, so that the same parts are read each time.
//
//	go test ./dashboards/queries -run xxx -bench Large -benchtime 3x -timeout 3h
func BenchmarkLarge(b *testing.B) {
	srv := clickhousetest.StartOptions(b, chserver.Options{MemoryLimitBytes: 6 << 30})
	admin := connect(b, srv, chserver.Admin)
	if err := clickhouse.Migrate(b.Context(), admin, clickhouse.Options{}); err != nil {
		b.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	fillLarge(b, admin, now)
	analyst := connect(b, srv, chserver.Analyst)
	run := func(name, sql string) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				drain(b, analyst, sql)
			}
		})
	}
	expand := func(sql string, back, step time.Duration) string {
		q, err := Expand(sql, All(), now.Add(-back), now, step)
		if err != nil {
			b.Fatal(err)
		}
		return q
	}
	for _, w := range Walls(DefaultThresholds()) {
		back, err := time.ParseDuration(strings.TrimPrefix(w.From, "now-"))
		if err != nil {
			b.Fatalf("%s: range %q: %v", w.UID, w.From, err)
		}
		for _, p := range w.Panels() {
			run("panel/"+p.ID, expand(p.SQL, back, time.Minute))
			run("month/"+p.ID, expand(p.SQL, 30*24*time.Hour, 30*time.Minute))
		}
		for _, a := range w.Annotations {
			run("annotation/"+w.UID+"-"+a.Name, expand(a.SQL, back, time.Minute))
		}
		for _, v := range w.Variables {
			run("variable/"+w.UID+"-"+v.Name, expand(v.SQL, back, time.Minute))
		}
	}
	for _, a := range Alerts() {
		if a.SQL != "" {
			run("alert/"+a.Name, expand(a.SQL, a.Window, time.Minute))
		}
	}
	for name, q := range map[string]string{
		"viewers": expand(ViewersNow, 30*time.Second, time.Second), "quality": expand(QualityNow, 20*time.Second, time.Second),
		"streams": expand(StreamQualityNow, 20*time.Second, time.Second), "first_screen": expand(FirstScreenNow, 5*time.Minute, time.Second),
		"recent": expand(Recent, 15*time.Minute, 10*time.Second), "minutes": expand(RecentFirstScreen, 30*time.Minute, time.Minute),
	} {
		run("console/"+name, q)
	}
	page, err := os.ReadFile("../../docs/analyst.md")
	if err != nil {
		b.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?s)([^\n]*):\n```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		run(fmt.Sprintf("analyst/%02d %.60s", i+1, m[1]), strings.TrimSpace(m[2]))
	}
}

// drain reads a whole answer.
func drain(b *testing.B, conn driver.Conn, sql string) {
	b.Helper()
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
}

// fillLarge generates a share of the rows inside ClickHouse, by the hour, and copies the parts.
func fillLarge(b *testing.B, admin driver.Conn, now time.Time) {
	b.Helper()
	do := func(sql string) {
		b.Helper()
		if err := admin.Exec(context.Background(), sql); err != nil {
			b.Fatalf("%v\n%s", err, sql)
		}
	}
	const hours = 24
	raw := *largeRows / largeCopies / hours
	viewers := max(raw/100, 1) // 100 raw rows and 25 slices of each in the hour
	for h := range hours {
		start := now.Add(-time.Duration(hours-h) * time.Hour).UnixMilli()
		common := fmt.Sprintf("'h%d-' || hex(sipHash64(number %% %d)) AS session_id, lower(hex(sipHash64(number %% %d, 1))) AS viewer_id, 'live' AS app, 'stream' || toString(number %% %d %% 50) AS stream, ['a', 'b', 'c'][1 + number %% %d %% 3] AS cdn, "+
			"['eu', 'us', 'as', 'sa'][1 + intDiv(number %% %d, 3) %% 4] AS region, 'isp' || toString(intDiv(number %% %d, 12) %% 10) AS isp, ['phone', 'desktop', 'tv'][1 + intDiv(number %% %d, 7) %% 3] AS device, ['hls.js', 'native'][1 + intDiv(number %% %d, 5) %% 2] AS client",
			h, viewers, viewers, viewers, viewers, viewers, viewers, viewers, viewers)
		do(fmt.Sprintf(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, session_id, viewer_id, app, stream, cdn, region, isp, device, client, server, url_path, response_code, cache_hit, bytes, first_byte_ms, last_byte_ms, buffer_ms, live_latency_ms, fps, publish_bps, publish_stall_ms)
			WITH intDiv(number, %d) AS k, %d + k * 36000 + cityHash64(number) %% 36000 AS ms, k %% 4 != 0 AS edge, k = 4 AND number %% 40 = 0 AS publisher
			SELECT ms * 1000, ms - 40, multiIf(publisher, 'publisher', edge, 'cdn_log', 'cmcd_event'), if(publisher, '', session_id), if(publisher, '', viewer_id), app, stream, cdn, region, isp, device, client, 'edge' || toString(number %% 6),
			if(edge, '/live/' || stream || '/src/video/7-' || toString(intDiv(ms, 2000)) || '.m4s', ''), if(edge, 200, NULL), if(edge, number %% 10 > 0, NULL), if(edge, 60000 + cityHash64(number, 1) %% 9000, NULL), if(edge, 2 + cityHash64(number, 2) %% 60, NULL),
			if(edge, 20 + cityHash64(number, 3) %% 300, NULL), if(edge, NULL, 1500 + number %% 2500), if(edge, NULL, 2000 + number %% 900), if(publisher, 30, NULL), if(publisher, 2500000, NULL), if(publisher, 0, NULL)
			FROM (SELECT number, %s FROM numbers(%d))`, viewers, start, common, raw))
		do(fmt.Sprintf(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, device, client, arms, end_reason, sessions, ended, attempts, starts, startup_ms, played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms,
			bitrate_kbps_ms_sum, bitrate_weight_ms, requests, request_bytes, reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts, bus_seq, bus_row)
			WITH intDiv(number, %d) AS k, k = 0 AS first, k = 24 AS last
			SELECT %d + k * 144000 + number %% 144000, if(last, 'final', 'delta'), session_id, viewer_id, app, stream, cdn, region, isp, device, client, ['player-delay=control', 'player-delay=treat'][1 + number %% %d %% 2], if(last, 'quit', ''),
			first, last, first, first, if(first, 300 + number %% 400, 0), 9900, number %% 200, number %% 9 = 0, 9900 * 2400, 9900, 9900 * 2500, 9900, 3, 200000, 4,
			if(first, [toInt64(270 + number %% 60)], []), if(first, [toInt64(1)], []), [toInt64(380 + number %% 30)], [toInt64(1)], k, number
			FROM (SELECT number, %s FROM numbers(%d))`, viewers, start, viewers, common, viewers*25))
	}
	do(fmt.Sprintf(`INSERT INTO spillway.decisions (time, kind, id, app, stream, session_id, policy, policy_version, chosen, probability, reason_code, candidate_cdns, candidate_scores)
		SELECT fromUnixTimestamp64Milli(%d - number * 80000000 %% 86400000), 'dispatch', toString(number), 'live', 'stream' || toString(number %% 50), 's' || toString(number), 'p', '1', ['a', 'b'][1 + number %% 2], 1, ['affinity', 'spill'][1 + number %% 2], ['a', 'b'], [1, 2]
		FROM numbers(%d)`, now.UnixMilli(), *largeRows/100))
	copyParts(b, admin, do, "telemetry")
	copyParts(b, admin, do, "session_slices")
	for _, table := range []string{"telemetry", "session_slices", "sessions", "rollup_minute", "rollup_stream_minute", "rollup_arm_minute", "rollup_cdn_minute"} {
		var n, parts uint64
		if err := admin.QueryRow(context.Background(), "SELECT sum(rows), count() FROM system.parts WHERE database = 'spillway' AND active AND table = ?", table).Scan(&n, &parts); err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %d rows in %d parts", table, n, parts)
	}
}

// copyParts attaches each partition of a table again and again.
func copyParts(b *testing.B, admin driver.Conn, do func(string), table string) {
	b.Helper()
	do("OPTIMIZE TABLE spillway." + table)
	do("SYSTEM STOP MERGES spillway." + table)
	do("CREATE TABLE spillway." + table + "_once AS spillway." + table)
	rows, err := admin.Query(context.Background(), "SELECT DISTINCT partition_id FROM system.parts WHERE database = 'spillway' AND active AND table = ?", table)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			b.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		do(fmt.Sprintf("ALTER TABLE spillway.%s_once ATTACH PARTITION ID '%s' FROM spillway.%s", table, id, table))
	}
	for range largeCopies - 1 {
		for _, id := range ids {
			do(fmt.Sprintf("ALTER TABLE spillway.%s ATTACH PARTITION ID '%s' FROM spillway.%s_once", table, id, table))
		}
	}
}
