package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// insertTwice inserts a block and repeats it with its token, as a loader does that was killed in between.
func insertTwice(t *testing.T, conn driver.Conn, token, sql string) {
	t.Helper()
	ctx := clickhouse.Context(testContext(t), clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplication_token": token, "insert_deduplicate": 1, "deduplicate_blocks_in_dependent_materialized_views": 1, "async_insert": 0,
		"deduplicate_insert_select": "force_enable",
	}))
	for range 2 {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
}

// same compares two queries of one row.
func same(t *testing.T, conn driver.Conn, what, got, want string) {
	t.Helper()
	var g, w string
	if err := conn.QueryRow(testContext(t), "SELECT toString(tuple(*)) FROM ("+got+")").Scan(&g); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := conn.QueryRow(testContext(t), "SELECT toString(tuple(*)) FROM ("+want+")").Scan(&w); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if g != w || strings.Trim(g, "(0,)") == "" {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

const rollupSums = "sum(sessions), sum(starts), sum(played_ms), sum(stalled_ms), sum(stalled_network_ms), sum(stalled_cdn_ms), sum(stalled_background_ms), sum(frames_weight_ms), sum(reports), sumMap(first_screen), sumMap(latency)"

// TestRollupsOfRepeatedBlocks: blocks that are inserted twice are in every
// roll-up once, also in those that are fed by other roll-ups.
func TestRollupsOfRepeatedBlocks(t *testing.T) {
	conn := connect(t, clickhousetest.Start(t))
	if err := Migrate(testContext(t), conn, Options{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now().UTC().Truncate(time.Hour).Add(-26 * time.Hour).UnixMilli()
	for block := range 4 {
		insertTwice(t, conn, fmt.Sprint("slices/", block), fmt.Sprintf(`INSERT INTO spillway.session_slices
			(time_ms, kind, session_id, viewer_id, app, stream, cdn, region, arms, end_reason, sessions, ended, attempts, starts, startup_ms, played_ms, stalled_ms, stalled_network_ms, stalled_cdn_ms, stalled_background_ms, frames_weight_ms, stalls, reports, latency_ms_sum, latency_weight_ms,
			 first_screen_bins, first_screen_counts, latency_bins, latency_counts, bus_seq, bus_row)
			SELECT %d + %d * 5000000 + number, if(%d = 3, 'final', 'delta'), 's' || toString(number %% 300), if(%d = 1, 'v' || toString(number %% 7), ''), 'live', 'show', if(%d = 2, '', ['a', 'b'][1 + (number + %d) %% 2]), 'eu', 'x=c', if(%d = 3, 'quit', ''),
				%d = 0, %d = 3, %d = 0, %d = 0, 300 + number, 5000, number %% 70, number %% 11, number %% 7, number %% 5, 4000, 1, 3, 5000 * 2000, 5000,
				if(%d = 0, [250 + number %% 40], []), if(%d = 0, [1], []), [300 + number %% 9], [2], %d, number
			FROM numbers(300)`, start, block, block, block, block, block, block, block, block, block, block, block, block, block+10))
		insertTwice(t, conn, fmt.Sprint("telemetry/", block), fmt.Sprintf(`INSERT INTO spillway.telemetry
			(received_us, source, session_id, app, stream, cdn, server, response_code, cache_hit, bytes, first_byte_ms, fps, publish_bps, publish_stall_ms)
			SELECT (%d + %d * 5000000 + number) * 1000, ['cdn_log', 'publisher', 'cmcd_event'][1 + number %% 3], 's' || toString(number), 'live', 'show', 'a', 'e1', if(number %% 10 = 0, 503, 200), number %% 2 = 0, 1000, 1 + number %% 100,
				if(number %% 3 = 1, 29.97, NULL), if(number %% 3 = 1, 2500000, NULL), if(number %% 3 = 1, 10, NULL)
			FROM numbers(600)`, start, block))
	}
	insertTwice(t, conn, "telemetry/publishers", fmt.Sprintf(`INSERT INTO spillway.telemetry (received_us, source, app, stream, client_version, publish_stall_ms, background, detail)
		SELECT (%d + number) * 1000, 'publisher_report', 'live', 'show' || toString(number %% 3), 'enc 2', if(number < 4, 1000, 0), number = 0, '{"interval_ms":"5000","app_version":"7.1"}' FROM numbers(10)`, start))
	same(t, conn, "publishers' own stalls", "SELECT encoder, app_version, streams, reports, behind_reports, background_reports, interval_ms, behind_ms, behind_ratio FROM spillway.v_publisher_app_minute",
		"SELECT 'enc 2', '7.1', 3, 10, 4, 1, 50000, 4000, 0.08")
	same(t, conn, "minutes", "SELECT sum(sessions), sum(played_ms), sum(reports) FROM spillway.rollup_minute", "SELECT sum(sessions), sum(played_ms), sum(reports) FROM spillway.session_slices")
	// Nobody numbered their reports: what was lost is unknown.
	same(t, conn, "lost reports", "SELECT countIf(isNull(lost_reports)), sum(numbered_reports) FROM spillway.v_sessions", "SELECT 300, 0")
	same(t, conn, "slices", "SELECT count(), sum(sessions) FROM spillway.session_slices", "SELECT 1200, 300")
	same(t, conn, "hours", "SELECT "+rollupSums+" FROM spillway.rollup_hour", "SELECT "+rollupSums+" FROM spillway.rollup_minute")
	same(t, conn, "hours of streams", "SELECT "+rollupSums+" FROM spillway.rollup_stream_hour", "SELECT "+rollupSums+" FROM spillway.rollup_minute")
	same(t, conn, "hours of arms", "SELECT "+rollupSums+", uniqExact(bucket) FROM spillway.rollup_arm_hour", "SELECT "+rollupSums+", uniqExact(bucket) FROM spillway.rollup_arm_minute")
	same(t, conn, "view of hours of arms", "SELECT sum(sessions), sum(reports) FROM spillway.v_arm_hour WHERE experiment = 'x' AND arm = 'c'", "SELECT sum(sessions), sum(reports) FROM spillway.session_slices")
	for _, dimension := range []string{"cdn", "region", "isp", "device"} {
		same(t, conn, "segments by "+dimension, fmt.Sprintf("SELECT groupArray(r) FROM (SELECT (value, sum(sessions), sum(stalled_ms), uniqExact(bucket)) AS r FROM spillway.rollup_arm_segment_hour WHERE dimension = '%s' GROUP BY value ORDER BY value)", dimension),
			fmt.Sprintf("SELECT groupArray(r) FROM (SELECT (%s, sum(sessions), sum(stalled_ms), uniqExact(sipHash64('rollup_arm_segment', if(viewer_id = '', session_id, viewer_id)) %% 64)) AS r FROM spillway.session_slices GROUP BY %s ORDER BY %s)", dimension, dimension, dimension))
	}
	same(t, conn, "units that reported", "SELECT uniqExact(unit_hash), count(), any(arm) FROM spillway.experiment_units WHERE experiment = 'x' AND salt = ''", "SELECT 300, 300, 'c'")
	for range 2 {
		insertTwice(t, conn, "exposures", `INSERT INTO spillway.exposures (time, id, experiment, salt, unit, session_id, viewer_id, arm, reason)
			SELECT toDateTime('2026-01-30 00:00:00', 'UTC') + number * 86400, toString(number), 'x', 's', 'u1', 's1', 'u1', ['c', 'd'][1 + (number = 3)], ['assigned', 'forced'][1 + (number = 0)] FROM numbers(4)`)
	}
	same(t, conn, "units exposed", "SELECT groupArray(r) FROM (SELECT (unit_hash = sipHash64('u1'), arm, toString(month), toString(min(first)), toString(max(last)), bucket = sipHash64('rollup_arm', 'x', 'u1') % 256) AS r FROM spillway.experiment_units WHERE salt = 's' GROUP BY unit_hash, arm, month, bucket ORDER BY arm, month)",
		"SELECT [(1, 'c', '2026-01-01', '2026-01-31 00:00:00', '2026-01-31 00:00:00', 1), (1, 'c', '2026-02-01', '2026-02-01 00:00:00', '2026-02-01 00:00:00', 1), (1, 'd', '2026-02-01', '2026-02-02 00:00:00', '2026-02-02 00:00:00', 1)]")
	for _, unit := range []string{"minute", "hour", "day"} {
		same(t, conn, "CDN by "+unit, "SELECT sum(requests), sum(server_errors), sum(bytes) FROM spillway.v_cdn_health_"+unit, "SELECT count(), countIf(response_code >= 500), sum(bytes) FROM spillway.telemetry WHERE source = 'cdn_log'")
		same(t, conn, "publishers by "+unit, "SELECT sum(reports), sum(publish_stall_ms) FROM spillway.v_publisher_"+unit, "SELECT count(), sum(publish_stall_ms) FROM spillway.telemetry WHERE source = 'publisher'")
		same(t, conn, "sessions by "+unit, "SELECT sum(sessions), sum(reports) FROM spillway.v_audience_"+unit, "SELECT sum(sessions), sum(reports) FROM spillway.session_slices")
	}
	// Every session, column by column, is what its slices say: the table before merges, and after.
	rows := "SELECT cityHash64(groupArray(tuple(*))), count(), sum(final) FROM (SELECT * REPLACE(arraySort(cdns) AS cdns) FROM spillway.%s ORDER BY session_id)"
	same(t, conn, "sessions", fmt.Sprintf(rows, "v_sessions"), fmt.Sprintf(rows, "v_sessions_from_slices"))
	if err := conn.Exec(testContext(t), "OPTIMIZE TABLE spillway.sessions FINAL"); err != nil {
		t.Fatal(err)
	}
	same(t, conn, "whole rows", "SELECT countIf(sessions = 1 AND ended = 1) FROM spillway.sessions", "SELECT 300")
	// A closed session that is corrected late, and one that came back, are put together with their whole rows.
	insertTwice(t, conn, "slices/late", fmt.Sprintf(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, ended, played_ms, reports, bus_seq, bus_row) VALUES
		(%d, 'delta', 's1', 'live', 'show', 'b', 0, -70, 1, 20, 0), (%d, 'delta', 's2', 'live', 'show', 'c', -1, 500, 2, 20, 1)`, start+30_000_000, start+30_000_000))
	same(t, conn, "corrected sessions", fmt.Sprintf(rows, "v_sessions"), fmt.Sprintf(rows, "v_sessions_from_slices"))
	if err := conn.Exec(testContext(t), "OPTIMIZE TABLE spillway.sessions FINAL"); err != nil {
		t.Fatal(err)
	}
	same(t, conn, "merged sessions", fmt.Sprintf(rows, "v_sessions"), fmt.Sprintf(rows, "v_sessions_from_slices"))
	same(t, conn, "rows of merged sessions", "SELECT count() FROM spillway.sessions", "SELECT 300")
	same(t, conn, "balance", "SELECT sum(raw_rows), sum(publisher_rows), sum(slice_reports), sum(rollup_reports) FROM spillway.v_balance_minute", "SELECT 1610, 800, 3603, 3603")
	var p50, hit float64
	var p5 *float64
	if err := conn.QueryRow(testContext(t), "SELECT assumeNotNull(first_byte_p50_ms), assumeNotNull(hit_ratio) FROM spillway.v_cdn_health_day LIMIT 1").Scan(&p50, &hit); err != nil {
		t.Fatal(err)
	}
	if math.Abs(p50-50) > 2 || hit != 0.5 {
		t.Errorf("time to first byte %v ms, hit ratio %v; want 50 within 1 %% and a rank, 0.5", p50, hit)
	}
	if err := conn.QueryRow(testContext(t), "SELECT fps_p5 FROM spillway.v_publisher_hour LIMIT 1").Scan(&p5); err != nil || p5 == nil || math.Abs(*p5-29.97) > 0.3 {
		t.Errorf("frame rate reached by 95 %%: %v %v", p5, err)
	}
}

// changedQueries is a next file that gives each materialized view of others its own query again, which is a change to the server.
func changedQueries(t *testing.T, others []File) File {
	t.Helper()
	f := File{Name: fmt.Sprintf("tables/%04d_queries.sql", len(others)+1)}
	create := regexp.MustCompile(`(?s)CREATE MATERIALIZED VIEW IF NOT EXISTS (\S+) TO \S+ AS\n(.*)`)
	n := 0
	for _, o := range others {
		for _, s := range o.Statements("${database}") {
			if m := create.FindStringSubmatch(s); m != nil {
				f.SQL += "ALTER TABLE " + m[1] + " MODIFY QUERY\n" + m[2] + ";\n"
				n++
			}
		}
	}
	if n < 19 {
		t.Fatalf("only %d materialized views", n)
	}
	return f
}

// TestBlocksCutShort: a block whose roll-ups were written and whose own part was
// not, because the server was killed in between, is in every roll-up once when
// it is repeated after the server's next start. This holds for a server that
// was migrated just before, too: a view's query that was changed must not
// change the tokens it hands on (see loadedAnew).
func TestBlocksCutShort(t *testing.T) {
	srv := clickhousetest.Start(t)
	conn := connect(t, srv)
	if err := Migrate(testContext(t), conn, Options{}); err != nil {
		t.Fatal(err)
	}
	// A file that changes the query of every materialized view, applied by several processes at once.
	all := mustLoad(t)
	all.tables = append(all.tables, changedQueries(t, all.tables))
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() { errs[i] = migrate(testContext(t), conn, Options{}, all) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	insert := func() {
		t.Helper()
		at := time.Now().Truncate(24 * time.Hour).UnixMilli()
		insertTwice(t, conn, "slices", fmt.Sprintf(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, arms, sessions, played_ms, reports)
			SELECT %d, 'delta', 's' || toString(number), 'v', 'live', 'show', 'a', 'x=c', 1, 10, 2 FROM numbers(50)`, at))
		insertTwice(t, conn, "telemetry", fmt.Sprintf(`INSERT INTO spillway.telemetry (received_us, source, session_id, app, stream, cdn, server, response_code, bytes, fps)
			SELECT %d000, ['cdn_log', 'publisher'][1 + number %% 2], 's', 'live', 'show', 'a', 'e1', 200, 10, if(number %% 2 = 1, 30, NULL) FROM numbers(100)`, at))
	}
	insert()
	for _, table := range []string{"session_slices", "telemetry"} {
		if err := conn.Exec(testContext(t), "ALTER TABLE spillway."+table+" DROP PARTITION ALL"); err != nil {
			t.Fatal(err)
		}
		same(t, conn, "what is left of "+table, "SELECT 1 + count() FROM spillway."+table, "SELECT 1")
	}
	if err := srv.Kill(); err != nil {
		t.Fatal(err)
	}
	next, err := srv.Restart(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Stop(context.Background()) })
	conn = connect(t, next)
	insert()
	same(t, conn, "slices", "SELECT sum(reports) FROM spillway.session_slices", "SELECT 100")
	for _, table := range []string{"rollup_minute", "rollup_stream_minute", "rollup_arm_minute", "rollup_hour", "rollup_stream_hour", "rollup_arm_hour", "sessions"} {
		same(t, conn, table, "SELECT sum(sessions), sum(reports) FROM spillway."+table, "SELECT 50, 100")
	}
	same(t, conn, "CDN health", "SELECT sum(requests) FROM spillway.v_cdn_health_minute", "SELECT 50")
	same(t, conn, "publishers", "SELECT sum(reports) FROM spillway.v_publisher_minute", "SELECT 50")
	same(t, conn, "balance", "SELECT sum(raw_rows), sum(rollup_reports) FROM spillway.v_balance_minute", "SELECT 50, 100")
}

// TestUnknownIsNull: what nobody told is NULL in views and never 0, and stalls are put down to what is known.
func TestUnknownIsNull(t *testing.T) {
	conn := connect(t, clickhousetest.Start(t))
	if err := Migrate(testContext(t), conn, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		// told: everything is known. mute: a player that says no state, seen by no edge. failed: never started.
		// untimed: first heard of when it played. pub: stalls while its publisher is behind, and while it is not.
		`INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, sessions, ended, attempts, starts, startup_ms, start_failures, played_ms, stalled_ms, stalls,
			stalled_network_ms, stalled_cdn_ms, stalled_background_ms, bitrate_weight_ms, requests, request_bytes, frames_weight_ms, reports, first_screen_bins, first_screen_counts, bus_seq) VALUES
			(1790000000000, 'final', 'told', 'live', 'told', 'a', 1, 1, 1, 1, 400, 0, 9000, 1000, 1, 600, 300, 100, 9000, 5, 900, 9000, 3, [300], [1], 1),
			(1790000000000, 'final', 'mute', 'live', 'mute', 'b', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, [], [], 2),
			(1790000000000, 'final', 'failed', 'live', 'failed', 'c', 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, [1073741824], [1], 3),
			(1790000000000, 'delta', 'untimed', 'live', 'told', 'a', 1, 0, 1, 1, 0, 0, 5000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, [], [], 4),
			(1790000000000, 'final', 'pub', 'live', 'pub', 'a', 1, 1, 1, 1, 10, 0, 5000, 900, 1, 200, 0, 0, 0, 0, 0, 0, 3, [], [], 5),
			(1790000200000, 'delta', 'pub', 'live', 'pub', 'a', 0, 0, 0, 0, 0, 0, 5000, 800, 1, 200, 0, 0, 0, 0, 0, 0, 3, [], [], 6)`,
		`INSERT INTO spillway.telemetry (received_us, source, app, stream, publish_stall_ms) VALUES (1789999960000000, 'publisher', 'live', 'pub', 1500), (1790000200000000, 'publisher', 'live', 'pub', 400)`,
	} {
		if err := conn.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, view := range []string{"v_sessions", "v_sessions_from_slices"} {
		for session, want := range map[string]string{
			"told":    "1, 1, 400, 0, 0, 9000, 1000, 1, 0, 0, 0, 0, 5, 0, 900, 600, 300, 100",
			"mute":    "0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL",
			"failed":  "1, 0, NULL, 1, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, NULL, NULL, 0, 0, 0",
			"untimed": "1, 1, NULL, 0, 0, 5000, 0, 0, 0, 0, NULL, NULL, 0, NULL, NULL, 0, 0, 0",
		} {
			same(t, conn, session+" in "+view, `SELECT attempts, starts, startup_ms, start_failures, playback_failures, played_ms, stalled_ms, stalls, seek_ms, paused_ms, switches, dropped_frames,
				requests, request_errors, request_bytes, stalled_network_ms, stalled_cdn_ms, stalled_background_ms FROM spillway.`+view+" WHERE session_id = '"+session+"'", "SELECT "+want)
		}
	}
	// The mean start-up is that of starts that were timed.
	for _, view := range []string{"v_cdn_minute", "v_stream_minute", "v_cdn_hour", "v_audience_day", "v_client_hour", "v_stream_day"} {
		where := " WHERE attempts = 0 AND played_ms = 0" // of the mute session alone
		if strings.Contains(view, "client") {
			where = " WHERE attempts > 0" // all are of one player that has no name
			same(t, conn, view, "SELECT sum(dropped_frames), sum(request_bytes) FROM spillway."+view+where, "SELECT 0, 900")
			continue
		}
		same(t, conn, view+" of who tells nothing", "SELECT count(), countIf(isNull(dropped_frames)), countIf(isNull(switches)), countIf(isNull(egress_bps)), countIf(isNull(first_screen_mean_ms)), sum(stalled_network_ms) FROM spillway."+view+where,
			"SELECT 1, 1, 1, 1, 1, 0")
	}
	same(t, conn, "first screen", "SELECT first_screen_mean_ms, dropped_frames, switches, request_bytes FROM spillway.v_stream_minute WHERE stream = 'told'", "SELECT 400, 0, 0, 900")
	same(t, conn, "causes", "SELECT groupArray((stream, cdn, stalled_ms, background_ms, cdn_ms, network_ms, publisher_ms, unknown_ms, publisher_behind_ms)) FROM (SELECT * FROM spillway.v_stall_causes_minute WHERE stalled_ms > 0 ORDER BY stream DESC, minute)",
		"SELECT [('told', 'a', 1000, 100, 300, 600, 0, 0, NULL), ('pub', 'a', 900, 0, 0, 200, 700, 0, 1500), ('pub', 'a', 800, 0, 0, 200, 0, 600, 400)]")
}

// TestBalanceReadsEvents: counts told in events, also told twice, stand beside what is stored.
func TestBalanceReadsEvents(t *testing.T) {
	conn := connect(t, clickhousetest.Start(t))
	if err := Migrate(testContext(t), conn, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Exec(testContext(t), `INSERT INTO spillway.events (time, kind, id, detail) VALUES
		('2026-01-01 10:00:59.9', 'collector_counts', 'a', {'accepted.cdn_log': '5', 'accepted.cmcd_event': '6', 'rejected.bad_json': '2', 'rejected.name': '1', 'shed': '4', 'repeated': '3'}),
		('2026-01-01 10:00:59.9', 'collector_counts', 'a', {'accepted.cdn_log': '5', 'accepted.cmcd_event': '6', 'rejected.bad_json': '2', 'rejected.name': '1', 'shed': '4', 'repeated': '3'}),
		('2026-01-01 10:00:30', 'collector_counts', 'b', {'rejected.bad_json': '7'}),
		('2026-01-01 10:00:30', 'loader_left_out', 'c', {'lane': 'telemetry.0', 'duplicate_rows': '8', 'dead_messages': '1'}),
		('2026-01-01 10:00:30', 'loader_left_out', 'd', {'lane': 'session_slices.0', 'duplicate_rows': '9', 'dead_messages': '1'})`); err != nil {
		t.Fatal(err)
	}
	same(t, conn, "balance", "SELECT accepted, rejected, rejected_by_reason, shed, repeated_lines, duplicate_rows, dead_messages FROM spillway.v_balance_minute WHERE minute = '2026-01-01 10:00:00'",
		"SELECT 11, 10, map('bad_json', 9, 'name', 1), 4, 3, 8, 2")
}
