package export_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/spillway-live/spillway/analytics/export"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
)

func newServer(t *testing.T) *chserver.Server {
	t.Helper()
	srv, conn := tablestest.Start(t)
	if err := conn.Exec(t.Context(), `INSERT INTO session_slices (time_ms, session_id, app, stream, cdn, sessions, attempts, starts, played_ms, stalled_ms, reports, first_screen_bins, first_screen_counts)
		SELECT toUnixTimestamp(toDateTime('2026-11-01 10:00:00', 'UTC')) * 1000 + number * 60000, 's' || toString(number), 'live', 'show', if(number % 2 = 0, 'a', 'b'), 1, 1, 1, 59000, 1000, 7, [300], [1] FROM numbers(120)`); err != nil {
		t.Fatal(err)
	}
	return srv
}

func table(t *testing.T, format, path string) arrow.Table {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if format == "parquet" {
		p, err := file.NewParquetReader(f)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pqarrow.NewFileReader(p, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		tbl, err := r.ReadTable(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return tbl
	}
	r, err := ipc.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var recs []arrow.Record
	for r.Next() {
		rec := r.Record()
		rec.Retain()
		recs = append(recs, rec)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return array.NewTableFromRecords(r.Schema(), recs)
}

// TestReadBack: what is exported is read by another implementation, with its types.
func TestReadBack(t *testing.T) {
	srv := newServer(t)
	for _, format := range []string{"parquet", "arrow"} {
		out := filepath.Join(t.TempDir(), "out")
		n, err := export.Run(t.Context(), export.Settings{
			URL: srv.AnalystURL(), View: "v_cdn_minute", Format: format, Out: out,
			From: time.Date(2026, 11, 1, 10, 30, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 11, 0, 0, 0, time.UTC),
		})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(out); err != nil || st.Size() != n {
			t.Errorf("%s: %d bytes told, %v %v", format, n, st, err)
		}
		tbl := table(t, format, out)
		if tbl.NumRows() != 30 {
			t.Errorf("%s: %d rows, want the 30 minutes of the range", format, tbl.NumRows())
		}
		types := map[string]string{"cdn": "utf8", "played_ms": "int64", "stall_ratio": "float64", "viewers": "float64"}
		for name, want := range types {
			f, ok := tbl.Schema().FieldsByName(name)
			if !ok || f[0].Type.String() != want {
				t.Errorf("%s: column %s has type %v, want %s", format, name, f, want)
			}
		}
		f, _ := tbl.Schema().FieldsByName("minute")
		if ts, ok := f[0].Type.(*arrow.TimestampType); !ok || ts.TimeZone != "UTC" {
			t.Errorf("%s: minute has type %v, want a time in UTC", format, f[0].Type)
		}
		sum := int64(0)
		col := tbl.Column(tbl.Schema().FieldIndices("played_ms")[0]).Data()
		for _, c := range col.Chunks() {
			for _, v := range c.(*array.Int64).Int64Values() {
				sum += v
			}
		}
		if sum != 30*59000 {
			t.Errorf("%s: played_ms adds up to %d, want %d", format, sum, 30*59000)
		}
	}
	// Tables whose types are harder, empty ones too.
	for _, view := range []string{"telemetry", "v_sessions", "rollup_hour", "rollup_cdn_hour", "decisions", "events", "v_balance_minute"} {
		for _, format := range []string{"parquet", "arrow"} {
			out := filepath.Join(t.TempDir(), "out")
			if _, err := export.Run(t.Context(), export.Settings{URL: srv.AnalystURL(), View: view, Format: format, Out: out}); err != nil {
				t.Errorf("%s: %v", view, err)
				continue
			}
			if tbl := table(t, format, out); tbl.NumCols() < 8 {
				t.Errorf("%s: %d columns", view, tbl.NumCols())
			}
		}
	}
}

// TestRefusals: nothing is left behind, and the reason says what to give instead.
func TestRefusals(t *testing.T) {
	srv := newServer(t)
	now := time.Now()
	for _, tc := range []struct {
		name string
		s    export.Settings
		says string
	}{
		{"unknown view", export.Settings{View: "v_cdn", Format: "parquet"}, "v_cdn_minute"},
		{"not a name", export.Settings{View: "v_arm` --", Format: "parquet"}, "v_cdn_minute"},
		{"another database's table", export.Settings{View: "system.users", Format: "parquet"}, "there is no view"},
		{"format", export.Settings{View: "v_arm", Format: "csv"}, "parquet or arrow"},
		{"range", export.Settings{View: "v_arm", Format: "arrow", From: now, To: now}, "empty"},
		{"no time", export.Settings{View: "v_arm", Format: "arrow", From: now}, "no column of time"},
		{"too many rows", export.Settings{URL: srv.AnalystURL() + "&max_result_rows=10", View: "session_slices", Format: "arrow"}, "ClickHouse"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.s.Out = filepath.Join(dir, "out")
			if tc.s.URL == "" {
				tc.s.URL = srv.AnalystURL()
			}
			_, err := export.Run(t.Context(), tc.s)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want one that says %q", err, tc.says)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %s %v", fmt.Sprint(left), err)
			}
		})
	}
}
