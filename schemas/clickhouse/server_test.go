package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	ch "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, srv *ch.Server) driver.Conn {
	t.Helper()
	o, err := clickhouse.ParseDSN(srv.NativeURL(ch.Admin))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

type column struct{ name, typ, kind, comment string }

func columnsOf(t *testing.T, conn driver.Conn, table string) []column {
	t.Helper()
	rows, err := conn.Query(testContext(t), "SELECT name, type, default_kind, comment FROM system.columns WHERE database = 'spillway' AND table = ? ORDER BY position", table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.typ, &c.kind, &c.comment); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

var typesOf = map[columnar.Kind][]string{
	columnar.KindStr:     {"LowCardinality(String)", "String"},
	columnar.KindI64:     {"Int64"},
	columnar.KindOptI64:  {"Nullable(Int64)"},
	columnar.KindOptI32:  {"Nullable(Int32)"},
	columnar.KindOptF64:  {"Nullable(Float64)"},
	columnar.KindOptBool: {"Nullable(Bool)"},
	columnar.KindI64List: {"Array(Int64)"},
}

func checkTable[T any](t *testing.T, conn driver.Conn, table string, want *columnar.Table[T]) {
	t.Helper()
	got := columnsOf(t, conn, table)
	if len(got) < len(want.Columns)+3 {
		t.Fatalf("%s has %d columns, want %d and the position on the bus", table, len(got), len(want.Columns))
	}
	for i, w := range want.Columns {
		g := got[i]
		if g.name != w.Name || g.comment != w.Doc || g.kind != "" {
			t.Errorf("%s, column %d: %q %q, want %q %q", table, i, g.name, g.comment, w.Name, w.Doc)
		}
		if !strings.Contains(strings.Join(typesOf[w.Kind], "|"), g.typ) {
			t.Errorf("%s, column %s has type %s, want one of %v", table, g.name, g.typ, typesOf[w.Kind])
		}
	}
	for i, name := range []string{"bus_partition", "bus_seq", "bus_row"} {
		if g := got[len(want.Columns)+i]; g.name != name {
			t.Errorf("%s: column %s stands where %s belongs", table, g.name, name)
		}
	}
}

func TestServer(t *testing.T) {
	srv := clickhousetest.Start(t)
	conn := connect(t, srv)
	ctx := testContext(t)

	// Two processes migrate an empty database at the same time.
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = Migrate(ctx, conn, Options{}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(ctx, conn, Options{}); err != nil {
		t.Fatalf("second time: %v", err)
	}
	done, err := appliedFiles(ctx, conn, "spillway")
	if err != nil || len(done) != len(mustLoad(t).all()) {
		t.Fatalf("%d files recorded (%v), want %d", len(done), err, len(mustLoad(t).all()))
	}

	t.Run("columns are those of the Go tables", func(t *testing.T) {
		checkTable(t, conn, TableTelemetry, schemas.TelemetryTable())
		checkTable(t, conn, TableSlices, schemas.SliceTable())
	})
	t.Run("every column has a comment", func(t *testing.T) {
		rows, err := conn.Query(ctx, "SELECT table, name FROM system.columns WHERE database = 'spillway' AND comment = '' AND table NOT LIKE '%_mv'")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var table, name string
			if err := rows.Scan(&table, &name); err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s.%s has no comment", table, name)
		}
	})
	t.Run("definitions are pinned", func(t *testing.T) { definitionsArePinned(t, conn) })
	t.Run("every table deduplicates blocks", func(t *testing.T) {
		rows, err := conn.Query(ctx, "SELECT name FROM system.tables WHERE database = 'spillway' AND engine LIKE '%MergeTree' AND name != 'schema_migrations' AND position(engine_full, 'non_replicated_deduplication_window = 20000') = 0")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s has no deduplication window", name)
		}
	})
	t.Run("the page of columns is the server's", func(t *testing.T) { columnsPageIsTheServers(t, conn) })
	t.Run("quantiles are those of the Go histogram", func(t *testing.T) { quantiles(t, conn) })
	t.Run("a database of the earlier files is taken over", func(t *testing.T) { takenOver(t, conn) })
	t.Run("a changed file is refused and nothing is touched", func(t *testing.T) {
		all := mustLoad(t)
		all.tables[2].SQL += "\n-- changed"
		all.tables = append(all.tables, File{Name: fmt.Sprintf("tables/%04d_new.sql", len(all.tables)+1), SQL: "CREATE TABLE IF NOT EXISTS ${database}.never (x Int8) ENGINE = Memory;\n"})
		err := migrate(ctx, conn, Options{}, all)
		if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), all.tables[2].Name) {
			t.Fatalf("error %v, want ErrChanged naming %s", err, all.tables[2].Name)
		}
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = 'spillway' AND name = 'never'").Scan(&n); err != nil || n != 0 {
			t.Errorf("table of a refused migration exists: %d %v", n, err)
		}
	})
}

// definitionsArePinned compares what the server says of each table and view with testdata/<name>.sql.
func definitionsArePinned(t *testing.T, conn driver.Conn) {
	t.Helper()
	rows, err := conn.Query(testContext(t), "SELECT name, create_table_query FROM system.tables WHERE database = 'spillway' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names := map[string]bool{}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			t.Fatal(err)
		}
		names[name+".sql"] = true
		golden(t, name+".sql", breakLines(sql))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	pinned, err := filepath.Glob("testdata/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pinned {
		if !names[filepath.Base(p)] {
			t.Errorf("the server has nothing of what %s says: take the file away if that is meant", p)
		}
	}
}

var comma = regexp.MustCompile("(, |\\()(`[a-z_]+` )|( (ENGINE|AS SELECT|AS WITH|PARTITION BY|ORDER BY|TTL|SETTINGS|FROM|GROUP BY|ARRAY JOIN) )")

// breakLines puts each column and clause on a line of its own, so that a diff of a golden file can be read.
func breakLines(s string) string {
	return strings.ReplaceAll(comma.ReplaceAllString(s, "$1\n$2$3"), " \n", "\n") + "\n"
}

// quantiles puts start-ups and latencies of known distribution through the
// materialized views and compares the view's quantiles with package loghist.
func quantiles(t *testing.T, conn driver.Conn) {
	ctx := testContext(t)
	rng := rand.New(rand.NewPCG(1, 2))
	first, latency := map[int32]uint64{}, map[int32]uint64{}
	minute := time.Now().UTC().Truncate(time.Minute).Add(-time.Hour)
	var blocks [2]driver.Batch
	for i := range blocks {
		var err error
		if blocks[i], err = conn.PrepareBatch(ctx, "INSERT INTO spillway.session_slices (time_ms, session_id, app, stream, cdn, arms, first_screen_bins, first_screen_counts, latency_bins, latency_counts)"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		var bins, counts, lbins, lcounts []int64
		for range 1 + rng.IntN(5) {
			ms := math.Exp(rng.NormFloat64()*0.8 + 6)
			bin, c := loghist.BinOf(ms), int64(1+rng.IntN(3))
			bins, counts = append(bins, int64(bin)), append(counts, c)
			first[bin] += uint64(c)
			lbins, lcounts = append(lbins, int64(loghist.BinOf(ms*5))), append(lcounts, 1)
			latency[loghist.BinOf(ms*5)]++
		}
		if i%13 == 0 {
			bins, counts = append(bins, schemas.FailedStartBin), append(counts, 1)
			first[loghist.InfBin]++
		}
		if i == 7 { // a corrected session: what was counted wrongly is taken back
			bins, counts = append(bins, 300, 300), append(counts, 2, -2)
		}
		if err := blocks[i%2].Append(minute.UnixMilli()+int64(i), fmt.Sprint("s", i), "live", "s", "a", "x=c,y=d", bins, counts, lbins, lcounts); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range blocks {
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
	fh, err := loghist.New(first, 0)
	if err != nil {
		t.Fatal(err)
	}
	lh, err := loghist.New(latency, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"v_cdn_minute", "v_audience_minute", "v_client_minute", "v_stream_minute", "v_arm_minute", "v_arm"} {
		var got [6]*float64
		if err := conn.QueryRow(ctx, "SELECT first_screen_p50_ms, first_screen_p90_ms, first_screen_p95_ms, latency_p50_ms, latency_p90_ms, latency_p95_ms FROM spillway."+view+" LIMIT 1").
			Scan(&got[0], &got[1], &got[2], &got[3], &got[4], &got[5]); err != nil {
			t.Fatalf("%s: %v", view, err)
		}
		for i, p := range []float64{0.5, 0.9, 0.95, 0.5, 0.9, 0.95} {
			h := fh
			if i >= 3 {
				h = lh
			}
			want, err := h.Quantile(p)
			if err != nil {
				t.Fatal(err)
			}
			if got[i] == nil || !(*got[i] == want || math.Abs(*got[i]-want) < 1e-9*want) {
				t.Errorf("%s: quantile %d (%v) is %v, want %v", view, i, p, got[i], want)
			}
		}
	}
	inf, err := fh.Quantile(0.999)
	if err != nil || !math.IsInf(inf, 1) {
		t.Errorf("the test's failed starts do not reach level 0.999: %v %v", inf, err)
	}
}
