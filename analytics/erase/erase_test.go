package erase_test

import (
	"strings"
	"testing"

	chgo "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/spillway-live/spillway/analytics/erase"
	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// TestViewer stores two viewers under two salts and erases one: nothing of it is left, and everything of the other.
func TestViewer(t *testing.T) {
	srv := clickhousetest.Start(t)
	native := srv.NativeURL(chserver.Writer)
	dsn, err := chserver.AdminURL(srv.DataDir(), native)
	if err != nil {
		t.Fatal(err)
	}
	o, err := chgo.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := t.Context()
	if err := clickhouse.Migrate(ctx, conn, clickhouse.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		// s1 and s2 are the viewer's, under two salts; s3 is another's. Rows that an edge logged have no viewer.
		"INSERT INTO telemetry (received_us, source, session_id, viewer_id, app) SELECT toUnixTimestamp(now()) * 1000000, ['beacon', 'cdn_log'][1 + number % 2], ['s1', 's2', 's3'][1 + number % 3], if(number % 2 = 1, '', ['aaaa0001', 'aaaa0002', 'bbbb0001'][1 + number % 3]), 'live' FROM numbers(60)",
		"INSERT INTO session_slices (time_ms, session_id, viewer_id, app, sessions, reports, arms) SELECT toUnixTimestamp(now()) * 1000, ['s1', 's2', 's3'][1 + number % 3], ['aaaa0001', 'aaaa0002', 'bbbb0001'][1 + number % 3], 'live', 1, 2, 'x=c' FROM numbers(9)",
		// Another viewer's player has chosen the id s1, too.
		"INSERT INTO telemetry (received_us, source, session_id, viewer_id, app) SELECT toUnixTimestamp(now()) * 1000000, 'beacon', 's1', 'cccc0001', 'other' FROM numbers(5)",
		"INSERT INTO session_slices (time_ms, session_id, viewer_id, app, sessions, reports) SELECT toUnixTimestamp(now()) * 1000, 's1', 'cccc0001', 'other', 1, 2 FROM numbers(3)",
		"INSERT INTO decisions (time, id, session_id, viewer_id) VALUES (now64(6), 'd3', 's1', 'cccc0001')",
		"INSERT INTO exposures (time, id, unit, viewer_id, session_id) VALUES (now64(6), 'e3', 'cccc0001', 'cccc0001', 's1')",
		"INSERT INTO decisions (time, id, session_id, viewer_id) VALUES (now64(6), 'd1', 's1', 'aaaa0001'), (now64(6), 'd2', 's3', 'bbbb0001')",
		"INSERT INTO exposures (time, id, unit, viewer_id, session_id) VALUES (now64(6), 'e1', 'aaaa0002', '', ''), (now64(6), 'e2', 'bbbb0001', 'bbbb0001', 's3')",
	} {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	r, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn}, []string{"aaaa0001", "aaaa0002"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, x := range r.Tables {
		got[x.Table] = x.Deleted
	}
	want := map[string]uint64{"telemetry": 40, "session_slices": 6, "decisions": 1, "exposures": 1, "sessions": 2, "experiment_units": 2}
	for table, n := range want {
		if got[table] != n {
			t.Errorf("%s: %d rows deleted, want %d", table, got[table], n)
		}
		var left, others, same uint64
		if table == "experiment_units" {
			if err := conn.QueryRow(ctx, "SELECT countIf(unit_hash != sipHash64('bbbb0001')), count() FROM "+table).Scan(&left, &others); err != nil || left != 0 || others != 1 {
				t.Errorf("%s: %d rows left of the viewer, %d of all (%v); want 0 and 1", table, left, others, err)
			}
			continue
		}
		cond := "session_id IN ('s1', 's2') AND viewer_id = '' OR viewer_id LIKE 'aaaa%'"
		if table == "exposures" {
			cond += " OR unit LIKE 'aaaa%'"
		}
		if err := conn.QueryRow(ctx, "SELECT countIf("+cond+"), countIf(session_id = 's3'), countIf(session_id = 's1' AND viewer_id = 'cccc0001') FROM "+table).Scan(&left, &others, &same); err != nil {
			t.Fatal(err)
		}
		if all := map[string]uint64{"telemetry": 5, "session_slices": 3}[table]; left != 0 || others == 0 || same < max(all, 1) {
			t.Errorf("%s: %d rows left of the viewer, %d of the other, %d of one with the same session id", table, left, others, same)
		}
	}
	if r.Sessions != 2 || r.Hashes != 2 || len(got) != len(want) {
		t.Errorf("report %+v", r)
	}
	var sum int64
	if err := conn.QueryRow(ctx, "SELECT sum(reports) FROM rollup_minute").Scan(&sum); err != nil || sum != 24 {
		t.Errorf("roll-ups hold %d reports (%v), want all 24", sum, err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "telemetry        40 rows deleted") {
		t.Errorf("%v\n%s", err, text.String())
	}
	again, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn}, []string{"aaaa0001", "aaaa0002"})
	if err != nil || again.Sessions != 0 {
		t.Errorf("second time: %+v %v", again, err)
	}
	if _, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn}, []string{"x' OR 1 --"}); err == nil {
		t.Error("a hash that is none was taken")
	}
}
