package queries

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas/nap"
)

// Where the rows of BenchmarkLarge lie: raw rows are kept for 14 days, slices for longer. Half of both are of the last
// day, as if something large had been on; the rest is spread evenly over the days before.
const (
	largeDays    = 30
	largeRawDays = 13
)

// filler fills the tables inside ClickHouse, a day at a time and in the order of time as a loader does, through the
// same materialized views. It notes each day that is there, so that a fill that was stopped goes on with the next.
type filler struct {
	b     testing.TB
	admin driver.Conn
	rows  int64     // raw rows in all
	end   time.Time // of the newest row
	began time.Time
	done  int64 // raw rows and slices written by this process
}

func (f *filler) do(sql string) {
	f.b.Helper()
	if err := f.admin.Exec(context.Background(), sql); err != nil {
		f.b.Fatalf("%v\n%s", err, sql)
	}
}

// number asks for one number.
func (f *filler) number(sql string) (n int64) {
	f.b.Helper()
	if err := f.admin.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		f.b.Fatalf("%v\n%s", err, sql)
	}
	return n
}

// fill makes rows that are not there yet.
func (f *filler) fill() {
	f.b.Helper()
	f.do("CREATE TABLE IF NOT EXISTS spillway.large_fill (rows Int64, end_s Int64, day Int64) ENGINE = MergeTree ORDER BY day")
	if rows := f.number("SELECT toInt64(max(rows)) FROM spillway.large_fill"); rows != 0 {
		if rows != f.rows {
			f.b.Fatalf("the data directory holds %d raw rows, not %d: give another -dir", rows, f.rows)
		}
		f.end = time.Unix(f.number("SELECT toInt64(max(end_s)) FROM spillway.large_fill"), 0)
	}
	f.began = time.Now()
	for day := int64(largeDays) - 1; day >= 0; day-- { // the oldest first
		if f.number(fmt.Sprintf("SELECT toInt64(count()) FROM spillway.large_fill WHERE day = %d", day)) != 0 {
			continue
		}
		f.day(day)
		f.do(fmt.Sprintf("INSERT INTO spillway.large_fill VALUES (%d, %d, %d)", f.rows, f.end.Unix(), day))
		took := time.Since(f.began)
		fmt.Fprintf(os.Stderr, "filled the day %d days ago: %d rows in %.0f s, %.0f a second\n", day, f.done, took.Seconds(), float64(f.done)/took.Seconds())
	}
	f.settle()
	for _, table := range []string{"telemetry", "session_slices", "sessions", "rollup_minute", "rollup_hour", "rollup_stream_minute", "rollup_rows", "decisions", "events"} {
		f.b.Logf("%s: %d rows in %d parts", table,
			f.number("SELECT toInt64(sum(rows)) FROM system.parts WHERE database = 'spillway' AND active AND table = '"+table+"'"),
			f.number("SELECT toInt64(count()) FROM system.parts WHERE database = 'spillway' AND active AND table = '"+table+"'"))
	}
}

// settle waits until what was written is merged as far as it is going to be, and stops merges, so that each question
// reads the same parts.
func (f *filler) settle() {
	f.b.Helper()
	fmt.Fprintln(os.Stderr, "waiting for merges")
	running := func() int64 { return f.number("SELECT toInt64(count()) FROM system.merges") }
	for till := time.Now().Add(5 * time.Minute); time.Now().Before(till) && running() > 0; {
		if err := nap.For(f.b.Context(), time.Second); err != nil { // between two looks: the server tells of merges only who asks
			f.b.Fatal(err)
		}
	}
	if n := running(); n > 0 {
		f.b.Logf("%d merges still ran after 5 minutes and were stopped: parts are more, and questions slower, than later", n)
	}
	f.do("SYSTEM STOP MERGES")
}

// share is a day's part of n rows that lie on so many days.
func share(n, day, days int64) int64 {
	switch {
	case day == 0:
		return n / 2
	case day < days:
		return n / 2 / (days - 1)
	}
	return 0
}

// dimensions are those of a viewer v. As in life, providers are of a region, players of a device.
const dimensions = `lower(hex(sipHash64(v, 1))) AS viewer_id, ['live', 'shop'][1 + (v % 5 = 0)] AS app, concat('stream', toString(v % 50)) AS stream, ['a', 'b', 'c'][1 + v % 3] AS cdn,
	['eu', 'us', 'as', 'sa'][1 + intDiv(v, 3) % 4] AS region, concat(region, '-isp', toString(intDiv(v, 12) % 5)) AS isp, ['phone', 'desktop', 'tv'][1 + intDiv(v, 7) % 3] AS device,
	['hls.js', 'native', 'shaka'][1 + intDiv(v, 7) % 3] AS client, concat('2.', toString(intDiv(v, 11) % 4)) AS client_version, ['Android', 'Linux', 'Tizen'][1 + intDiv(v, 7) % 3] AS os,
	concat('edge-', cdn, '-', region, toString(v % 2)) AS server`

// numbers is a table of n rows of a day: ms is the time of each, in order; v its viewer, of as many as have per rows an
// hour each; nth is the how-many-eth row of its viewer it is.
func (f *filler) numbers(day, n, per int64) string {
	viewers := max(n/24/per, 1)
	start := f.end.Add(-time.Duration(day+1) * 24 * time.Hour).UnixMilli()
	return fmt.Sprintf(`(SELECT number, toInt64(%d + intDiv(number * 86400000, %d)) AS ms, number %% %d AS v, intDiv(number, %d) AS nth,
		concat('d%d-', toString(intDiv(ms - %d, 3600000)), '-', hex(sipHash64(v))) AS session_id, %s FROM numbers_mt(%d))`, start, n, viewers, viewers, day, start, dimensions, n)
}

const fillSettings = " SETTINGS max_insert_threads = 2, max_threads = 2, insert_deduplicate = 0, parallel_view_processing = 1"

// day writes one day.
func (f *filler) day(day int64) {
	f.b.Helper()
	if n := share(f.rows, day, largeRawDays); n > 0 {
		// Three of four rows are edges' log lines; one of a hundred is a publisher's report, one a part seen at a hop.
		f.do(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, session_id, viewer_id, app, stream, cdn, region, isp, device, os, client, client_version, server, url_path, response_code, cache_hit, bytes, first_byte_ms, last_byte_ms,
			buffer_ms, live_latency_ms, fps, publish_bps, publish_stall_ms, hop, msn, hop_delay_ms, rendition, track)
			WITH number % 100 = 7 AS publisher, number % 100 = 13 AS hops, nth % 4 != 0 AND NOT publisher AS edge
			SELECT ms * 1000, ms - 40, multiIf(publisher, 'publisher', edge, 'cdn_log', 'cmcd_event'), if(publisher, '', session_id), if(publisher, '', viewer_id), if(publisher, 'live', app), if(publisher, concat('stream', toString(cityHash64(number) % 50)), stream),
			cdn, region, isp, device, os, client, client_version, server, if(edge, concat('/live/', stream, '/src/video/7-', toString(intDiv(ms, 2000)), '.m4s'), ''), if(edge, 200, NULL), if(edge, number % 10 > 0, NULL),
			if(edge, 60000 + cityHash64(number, 1) % 9000, NULL), if(edge, 2 + cityHash64(number, 2) % 60, NULL), if(edge, 20 + cityHash64(number, 3) % 300, NULL), if(edge, NULL, 1500 + number % 2500), if(edge, NULL, 2000 + number % 900),
			if(publisher, 30, NULL), if(publisher, 2500000, NULL), if(publisher, 0, NULL), if(hops, ['ingest', 'stored', 'origin', 'edge', 'player'][1 + nth % 5], ''), if(hops, intDiv(ms, 2000), NULL), if(hops, 20 + cityHash64(number, 4) % 200, NULL), 'src', 'video'
			FROM ` + f.numbers(day, n, 100) + fillSettings)
		f.done += n
	}
	n := share(f.rows/4, day, largeDays)
	f.do(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, device, os, client, client_version, arms, end_reason, sessions, ended, attempts, starts, startup_ms, played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms,
		bitrate_kbps_ms_sum, bitrate_weight_ms, requests, request_bytes, reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts, bus_seq, bus_row)
		WITH nth % 25 = 0 AS first, nth % 25 = 24 AS last
		SELECT ms, if(last, 'final', 'delta'), session_id, viewer_id, app, stream, cdn, region, isp, device, os, client, client_version, ['player-delay=control', 'player-delay=treat'][1 + v % 2], if(last, 'quit', ''),
		first, last, first, first, if(first, 300 + number % 400, 0), 143000, number % 2000, number % 9 = 0, 143000 * 2400, 143000, 143000 * 2500, 143000, 70, 4600000, 4,
		if(first, [toInt64(270 + number % 60)], []), if(first, [toInt64(1)], []), [toInt64(380 + number % 30)], [toInt64(1)], nth, number
		FROM ` + f.numbers(day, n, 25) + fillSettings)
	f.done += n
	f.records(day)
}

// records are a day's decisions, exposures and events.
func (f *filler) records(day int64) {
	f.b.Helper()
	at := "fromUnixTimestamp64Milli(ms)"
	f.do(`INSERT INTO spillway.decisions (time, kind, id, app, stream, session_id, viewer_id, region, isp, policy, policy_version, chosen, previous, probability, reason_code, candidate_cdns, candidate_scores)
		SELECT ` + at + `, ['dispatch', 'steering'][1 + number % 2], hex(sipHash64(ms, number)), app, stream, session_id, viewer_id, region, isp, 'weighted', '3', cdn, ['a', 'b', 'c'][1 + (v + (number % 40 = 0)) % 3], 1, ['affinity', 'spill', 'health'][1 + number % 3], ['a', 'b', 'c'], [1, 2, 3]
		FROM ` + f.numbers(day, share(f.rows/50, day, largeDays), 10) + fillSettings)
	f.do(`INSERT INTO spillway.exposures (time, id, experiment, salt, unit, unit_kind, session_id, viewer_id, app, stream, arm, propensity, reason)
		SELECT ` + at + `, hex(sipHash64(ms, number, 2)), 'player-delay', 'p1', viewer_id, 'viewer', session_id, viewer_id, app, stream, ['control', 'treat'][1 + v % 2], 0.5, 'assigned'
		FROM ` + f.numbers(day, share(f.rows/400, day, largeDays), 1) + fillSettings)
	minutes := fmt.Sprintf("(SELECT number, toInt64(%d + intDiv(number, 3) * 60000) AS ms FROM numbers(4320))", f.end.Add(-time.Duration(day+1)*24*time.Hour).UnixMilli())
	f.do(`INSERT INTO spillway.events (time, kind, id, cdn, reason, detail)
		SELECT ` + at + `, 'cdn_state', concat('u', toString(ms), toString(number)), ['a', 'b', 'c'][1 + number % 3], '', map('state', 'active', 'capacity_bps', '10000000000', 'capacity_viewers', '20000', 'spend_usd', toString(number), 'gb', toString(number * 3))
		FROM ` + minutes)
	f.do(`INSERT INTO spillway.events (time, kind, id, reason, detail)
		SELECT ` + at + `, if(number % 3 = 0, 'bus_state', 'collector_counts'), concat('s', toString(ms), toString(number)), '', if(number % 3 = 0, mapFromArrays(arrayMap(i -> concat(['pending.', 'rate.', 'bytes.', 'dead.', 'query_ms.'][1 + i % 5], 'STREAM', toString(intDiv(i, 5)), '/c'), range(60)),
			arrayMap(i -> toString(cityHash64(ms, i) % 1000), range(60))), map('accepted', '1000', 'rejected.too_long', toString(number % 4), 'rejected.not_plausible', toString(number % 7)))
		FROM ` + minutes)
	f.do(`INSERT INTO spillway.events (time, kind, id, app, stream, cdn, reason, detail)
		SELECT ` + at + `, ['cdn_changed', 'cdn_fault', 'alert_opened', 'alert_resolved', 'stream_started', 'stream_ended', 'publish_refused', 'picture_failed'][1 + number % 8], concat('e', toString(ms), toString(number)), 'live', concat('stream', toString(number % 50)), ['a', 'b', 'c'][1 + number % 3],
			'as the benchmark has it', map('rule', 'cdn_stalls')
		FROM ` + minutes + ` WHERE number % 9 = 0`)
}
