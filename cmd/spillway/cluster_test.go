package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/erase"
	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/dashboards/queries"
	schemach "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
	"github.com/spillway-live/spillway/testenv/relay"
	"github.com/spillway-live/spillway/testenv/running"
)

func openClickHouse(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	c, err := openDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// blockTurn is the client's turn in which it sends a block: in the first it says hello, in the second it sends the query.
const blockTurn = 3

// TestCluster has the pipeline fill two shards, one of which is away at first, and compares every query of the
// analyst's page and every panel with what a single server answers that holds the same rows.
func TestCluster(t *testing.T) {
	t.Parallel()
	shards := clickhousetest.StartCluster(t, 2)
	dsn := shards[0].NativeURL(clickhouse.Admin)
	admin := openClickHouse(t, dsn)
	cluster, err := findCluster(t.Context(), admin, dsn, clickhousetest.ClusterName)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	for range 2 {
		if err := schemach.Migrate(t.Context(), admin, schemach.Options{Cluster: cluster}); err != nil {
			t.Fatal(err)
		}
	}
	analyst := openClickHouse(t, shards[0].NativeURL(clickhouse.Analyst))

	if err := shards[1].Kill(); err != nil {
		t.Fatal(err)
	}
	b := bustest.Start(t)
	base := time.Now().Add(-2 * time.Minute) // slices of rows that are four minutes old are not of that time
	rows := publishDocs(t, b.JS, base.UnixMilli())
	metrics := prometheus.NewRegistry()
	line := relay.Start(t, shards[0].NativeAddr)
	line.Withhold(func(s relay.Said) bool { return s.Turns >= blockTurn })
	loadDocs(t, b.JS, loader.ClickHouse{Addr: line.Addr(), User: string(clickhouse.Writer), Password: shards[0].Password(clickhouse.Writer)}, metrics)
	within(t, time.Minute, "blocks fail while a shard is away", func() error {
		if n := running.Sum(t, metrics, "spillway_loader_failures_total"); n < 2 {
			return fmt.Errorf("%v failures", n)
		}
		return nil
	})
	again, err := shards[1].Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Kill(); err != nil {
			t.Error(err)
		}
	})
	within(t, time.Minute, "blocks are repeated that both shards hold", func() error {
		var shards uint64
		if err := admin.QueryRow(t.Context(), "SELECT uniqExact(_shard_num) FROM spillway.telemetry").Scan(&shards); err != nil {
			return err
		}
		if n := line.Withheld(); n < 4 || shards < 2 {
			return fmt.Errorf("%d answers withheld, rows on %d shards", n, shards)
		}
		return nil
	})
	line.Withhold(nil)
	awaitDocs(t, analyst, rows)

	t.Run("a session is on one shard", func(t *testing.T) {
		var both, one, other uint64
		if err := admin.QueryRow(t.Context(), `SELECT countIf(n > 1), countIf(s = 1), countIf(s = 2) FROM
			(SELECT session_id, uniqExact(_shard_num) AS n, any(_shard_num) AS s FROM spillway.session_slices GROUP BY session_id)`).Scan(&both, &one, &other); err != nil {
			t.Fatal(err)
		}
		if both != 0 || one == 0 || other == 0 || one+other != 30 {
			t.Errorf("%d sessions on both shards, %d on the first, %d on the second", both, one, other)
		}
	})
	alone := singleCopy(t, shards[0])
	t.Run("answers", func(t *testing.T) { sameAnswers(t, analyst, alone, base) })
	t.Run("forms are not mixed", func(t *testing.T) {
		if err := schemach.Migrate(t.Context(), admin, schemach.Options{}); err == nil || !strings.Contains(err.Error(), "made on a cluster") {
			t.Errorf("migrated as a single server: %v", err)
		}
	})
	t.Run("erase", func(t *testing.T) { eraseOnShards(t, admin, cluster) })
}

// singleCopy gives a single server with the rows that the loader has written to the cluster, and the same tables made of them.
func singleCopy(t *testing.T, from *clickhouse.Server) driver.Conn {
	t.Helper()
	srv := clickhousetest.Start(t)
	admin := openClickHouse(t, srv.NativeURL(clickhouse.Admin))
	if err := schemach.Migrate(t.Context(), admin, schemach.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"telemetry", "session_slices", "decisions", "exposures", "events"} {
		sql := fmt.Sprintf("INSERT INTO spillway.%s SELECT * FROM remote('%s', 'spillway', '%s', 'admin', '%s')", table, from.NativeAddr(), table, from.Password(clickhouse.Admin))
		if err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("copy %s: %v", table, err)
		}
	}
	return openClickHouse(t, srv.NativeURL(clickhouse.Analyst))
}

// sameAnswers asks both servers everything. Rows may come in any order, limits must not choose among equals.
func sameAnswers(t *testing.T, cluster, alone driver.Conn, base time.Time) {
	page, err := os.ReadFile("../../docs/analyst.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	for i, b := range sqlBlock.FindAllStringSubmatch(string(page), -1) {
		asked[fmt.Sprint("analyst ", i)] = strings.TrimSpace(b[1])
	}
	expand := func(name, sql string) {
		q, err := queries.Expand(sql, queries.All(), base.Add(-time.Minute), base.Add(3*time.Minute), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		asked[name] = q
	}
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, p := range w.Panels() {
			expand(p.ID, p.SQL)
		}
		for _, v := range w.Variables {
			if v.SQL != "" { // else a text that people type
				expand(w.UID+" variable "+v.Name, v.SQL)
			}
		}
	}
	for name, sql := range map[string]string{"viewers": queries.ViewersNow, "quality": queries.QualityNow, "streams": queries.StreamQualityNow,
		"first": queries.FirstScreenNow, "recent": queries.Recent, "minutes": queries.RecentFirstScreen} {
		expand("console "+name, sql)
	}
	if len(asked) < 70 {
		t.Fatalf("only %d queries", len(asked))
	}
	limit := regexp.MustCompile(`LIMIT \d+`)
	var empty []string
	for name, sql := range asked {
		sql = limit.ReplaceAllString(sql, "LIMIT 1000000")
		sql = strings.ReplaceAll(sql, "any(session_id)", "min(session_id)")
		got, want := answer(t, cluster, sql), answer(t, alone, sql)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the cluster answers\n%s\na single server\n%s\nto\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"), sql)
		}
		if len(want) == 0 {
			empty = append(empty, name)
		}
	}
	if len(empty) > len(asked)/4 {
		slices.Sort(empty)
		t.Errorf("%d of %d queries have no rows %v after the rows' time: %v", len(empty), len(asked), time.Since(base), empty)
	}
}

// moving are columns that depend on when they are asked for.
var moving = map[string]bool{"viewers": true, "mean_viewers": true, "viewers_at_most": true, "egress_bps": true, "bps": true, "raw_ms": true, "slices_ms": true}

// answer gives the rows as sorted lines, floats to nine digits.
func answer(t *testing.T, c driver.Conn, sql string) (out []string) {
	t.Helper()
	// One thread: the rows are few, and the machine's processors are fewer.
	rows, err := c.Query(chgo.Context(t.Context(), chgo.WithSettings(chgo.Settings{"max_threads": 1})), sql)
	if err != nil {
		t.Errorf("%v\n%s", err, sql)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		row := make([]any, len(rows.Columns()))
		for i, c := range rows.ColumnTypes() {
			row[i] = reflect.New(c.ScanType()).Interface()
		}
		if err := rows.Scan(row...); err != nil {
			t.Fatal(err)
		}
		line := ""
		for i, v := range row {
			x := reflect.ValueOf(v)
			for x.Kind() == reflect.Pointer && !x.IsNil() {
				x = x.Elem()
			}
			switch {
			case moving[rows.Columns()[i]]:
			case x.CanFloat():
				line += fmt.Sprintf("%.9g", x.Float())
			default:
				line += fmt.Sprint(x.Interface())
			}
			line += " | "
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		t.Errorf("%v\n%s", err, sql)
	}
	slices.Sort(out)
	return out
}

// eraseOnShards erases a viewer whose sessions are on both shards.
func eraseOnShards(t *testing.T, admin driver.Conn, cluster *schemach.Cluster) {
	const hash = "aaaa0001"
	if err := admin.Exec(chgo.Context(t.Context(), chgo.WithSettings(chgo.Settings{"distributed_foreground_insert": 1})),
		"INSERT INTO spillway.telemetry (received_us, source, session_id, viewer_id, app) SELECT toUnixTimestamp(now()) * 1000000, 'beacon', 'e' || toString(number), '"+hash+"', 'live' FROM numbers(40)"); err != nil {
		t.Fatal(err)
	}
	before := answer(t, admin, "SELECT count() FROM spillway.telemetry WHERE viewer_id != '"+hash+"'")
	r, err := erase.Viewer(t.Context(), erase.Settings{ClickHouse: admin, Cluster: cluster}, []string{hash})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(r.Tables, func(x erase.TableReport) bool { return x.Table == "telemetry" }); i < 0 || r.Tables[i].Deleted != 40 || r.Sessions != 40 {
		t.Errorf("report %+v, want 40 rows of telemetry and 40 sessions", r)
	}
	if left := answer(t, admin, "SELECT count() FROM spillway.telemetry WHERE viewer_id = '"+hash+"'"); !slices.Equal(left, []string{"0 | "}) {
		t.Errorf("%v rows of the viewer are left", left)
	}
	if after := answer(t, admin, "SELECT count() FROM spillway.telemetry WHERE viewer_id != '"+hash+"'"); !slices.Equal(before, after) {
		t.Errorf("rows of others: %v, were %v", after, before)
	}
}
