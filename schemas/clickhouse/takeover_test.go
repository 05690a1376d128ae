package clickhouse

import (
	"errors"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// takenOver makes conn's database, which has every table and view, one that the
// earlier files have made: their record, a row of data, and views as they were.
// The tables stay what they are, with their rows; the views become today's.
func takenOver(t *testing.T, conn driver.Conn) {
	all := mustLoad(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if err := conn.Exec(testContext(t), sql, args...); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
	exec("TRUNCATE TABLE spillway.schema_migrations")
	last := len(all.earlier) - 1
	record := func(f appliedFile) {
		t.Helper()
		exec("INSERT INTO spillway.schema_migrations SELECT ?, ?, now64(3)", f.name, f.sha256)
	}
	for _, f := range all.earlier[:last] {
		record(f)
	}
	exec("CREATE OR REPLACE VIEW spillway.v_arm AS SELECT 'old' AS arm")
	exec("DROP VIEW spillway.v_stall_causes_minute")
	exec("INSERT INTO spillway.events (time, kind, id) VALUES ('2026-01-01 10:00:00', 'kept', 'kept')")

	err := migrate(testContext(t), conn, Options{}, all)
	if !errors.Is(err, ErrEarlier) || !strings.Contains(err.Error(), all.earlier[last].name) {
		t.Fatalf("without its last file: %v, want ErrEarlier naming %s", err, all.earlier[last].name)
	}
	same(t, conn, "the old view, not touched yet", "SELECT arm FROM spillway.v_arm", "SELECT 'old'")

	record(all.earlier[last])
	uuids := "SELECT groupArray((name, uuid)) FROM (SELECT name, uuid FROM system.tables WHERE database = 'spillway' AND engine != 'View' ORDER BY name)"
	var before, after string
	if err := conn.QueryRow(testContext(t), "SELECT toString(("+uuids+"))").Scan(&before); err != nil {
		t.Fatal(err)
	}
	// Cut off when half of it was recorded, and begun again.
	half := all
	half.tables, half.views = all.tables[:5], nil
	for _, s := range []schema{half, all, all} {
		if err := migrate(testContext(t), conn, Options{}, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.QueryRow(testContext(t), "SELECT toString(("+uuids+"))").Scan(&after); err != nil || before != after {
		t.Errorf("tables or materialized views are others than before (%v):\n%s\n%s", err, before, after)
	}
	same(t, conn, "rows", "SELECT count() FROM spillway.events WHERE id = 'kept'", "SELECT 1")
	definitionsArePinned(t, conn)
	done, err := appliedFiles(testContext(t), conn, "spillway")
	if err != nil || len(done) != len(all.earlier)+len(all.all()) {
		t.Errorf("%d files recorded (%v), want %d", len(done), err, len(all.earlier)+len(all.all()))
	}
	if todo, err := plan(all, done); err != nil || len(todo) != 0 {
		t.Errorf("still to apply: %v %v", todo, err)
	}
}
