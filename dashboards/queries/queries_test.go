package queries

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func connect(t testing.TB, srv *chserver.Server, u chserver.User) driver.Conn {
	t.Helper()
	o, err := chgo.ParseDSN(srv.NativeURL(u))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fill gives every table that walls read some rows: three CDNs, two players, one faulty CDN.
func fill(t testing.TB, conn driver.Conn, now time.Time) {
	t.Helper()
	ctx := context.Background()
	insert := func(into string, rows ...[]any) {
		t.Helper()
		b, err := conn.PrepareBatch(ctx, "INSERT INTO spillway."+into)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if err := b.Append(r...); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
	var slices, raw [][]any
	for s := range 900 {
		at := now.Add(-time.Duration(s) * time.Second)
		for i, cdn := range []string{"a", "b", "c"} {
			stalled, failed := int64(0), int64(0)
			bin := int64(loghist.BinOf(300 * float64(i+1)))
			if cdn == "b" {
				stalled = 300
				if s%50 == 0 {
					failed, bin = 1, schemas.FailedStartBin
				}
			}
			id := fmt.Sprintf("s-%s-%d", cdn, s/60)
			slices = append(slices, []any{at.UnixMilli(), id, "live", "demo", cdn, "eu", "isp-" + cdn, []string{"hls.js", "native"}[s%2], "phone",
				int64(1), int64(1), 1 - failed, failed, int64(300), 1000 - stalled, stalled, min(stalled, 1),
				2000 * (1000 - stalled), 1000 - stalled, 2500 * (1000 - stalled), 1000 - stalled, int64(3), failed, int64(300_000), int64(2), int64(s % 2),
				[]int64{bin}, []int64{1}, []int64{int64(loghist.BinOf(2000))}, []int64{1}})
			for range 2 {
				raw = append(raw, []any{at.UnixMicro(), at.UnixMilli(), "cmcd_event", id, "live", "demo", cdn, "bitrate", nil, nil, nil})
			}
		}
		raw = append(raw, []any{at.UnixMicro(), at.UnixMilli(), "publisher", "", "live", "demo", "a", "", 30.0, int64(2_500_000), int64(0)})
	}
	insert(`session_slices (time_ms, session_id, app, stream, cdn, region, isp, client, device, sessions, attempts, starts, start_failures, startup_ms,
		played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms, bitrate_kbps_ms_sum, bitrate_weight_ms, requests, request_errors, request_bytes,
		reports, lost_reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts)`, slices...)
	insert("telemetry (received_us, ts_ms, source, session_id, app, stream, cdn, gates, fps, publish_bps, publish_stall_ms)", raw...)
	insert("hops (time, app, stream, rendition, track, epoch, msn, part, hop, cdn, server, delay_ms, failed, reason)",
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "stored", "", "ingest-1", 4.0, uint8(0), ""},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "edge", "a", "edge-a", 20.0, uint8(0), ""},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "edge", "b", "edge-b", nil, uint8(1), "404"})
	insert("decisions (time, kind, id, app, stream, session_id, chosen, probability, reason_code)",
		[]any{now.Add(-time.Minute), "dispatch", "d1", "live", "demo", "s", "a", 1.0, "affinity"}, []any{now.Add(-2 * time.Minute), "dispatch", "d2", "live", "demo", "s2", "b", 1.0, "spill"})
	insert("events (time, kind, id, cdn, detail)",
		[]any{now, "cdn_state", "m2", "a", map[string]string{"gb": "3", "spend_usd": "0.5", "commit_gb": "10", "commit_share": "0.3", "month_share": "0.7"}},
		[]any{now, "cdn_state", "m3", "b", map[string]string{"gb": "1", "spend_usd": "0.25", "commit_gb": "0", "month_share": "0.7"}})
	insert("events (time, kind, id, app, stream, cdn, reason)",
		[]any{now.Add(-time.Minute), "cdn_fault", "e1", "", "", "b", "rate limited"}, []any{now.Add(-3 * time.Minute), "stream_started", "e2", "live", "demo", "a", ""})
}

// TestEveryPanel runs every panel and variable as the analyst on a real server.
func TestEveryPanel(t *testing.T) {
	srv := clickhousetest.Start(t)
	admin := connect(t, srv, chserver.Admin)
	if err := clickhouse.Migrate(t.Context(), admin, clickhouse.Options{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second) // Grafana's range is whole seconds
	fill(t, admin, now)
	analyst := connect(t, srv, chserver.Analyst)
	var user string
	if err := analyst.QueryRow(t.Context(), "SELECT currentUser()").Scan(&user); err != nil || user != "analyst" {
		t.Fatalf("connected as %q: %v", user, err)
	}
	run := func(t *testing.T, sql string, v Vars) ([]string, [][]any) {
		t.Helper()
		q, err := Expand(sql, v, now.Add(-time.Hour), now, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := analyst.Query(t.Context(), q)
		if err != nil {
			t.Fatalf("%v in\n%s", err, q)
		}
		defer rows.Close()
		var out [][]any
		for rows.Next() {
			row := make([]any, len(rows.Columns()))
			for i, c := range rows.ColumnTypes() {
				row[i] = newOf(c)
			}
			if err := rows.Scan(row...); err != nil {
				t.Fatal(err)
			}
			out = append(out, row)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%v in\n%s", err, q)
		}
		return rows.Columns(), out
	}
	choices := map[string]Vars{
		"all": All(), "one": {"app": Only("live"), "cdn": Only("a")}, "several": {"app": Only("live", "shop"), "cdn": Only("a", "b")},
	}
	for _, w := range Walls() {
		for _, p := range w.Panels() {
			for name, v := range choices {
				t.Run(w.UID+"/"+p.ID+"/"+name, func(t *testing.T) {
					start := time.Now()
					got, rows := run(t, p.SQL, v)
					t.Logf("%d rows in %v", len(rows), time.Since(start).Round(time.Millisecond))
					var want []string
					for _, c := range p.Columns {
						want = append(want, c.Name)
					}
					if !slices.Equal(got, want) {
						t.Errorf("columns %v, want %v", got, want)
					}
					if len(rows) == 0 {
						t.Error("no rows although there is data")
					}
				})
				t.Run(w.UID+"/"+p.ID+"/hostile", func(t *testing.T) {
					_, rows := run(t, p.SQL, Vars{"app": Only(`') OR 1=1 --`, `\`, `\') OR 1=1 --`, "${cdn}", "x'y"), "cdn": Only(`\' OR 1=1 --`)})
					if p.Kind == Table && len(rows) > 0 && !strings.Contains(p.ID, "events") {
						t.Errorf("a hostile value selected %d rows", len(rows))
					}
				})
			}
		}
		for _, v := range w.Variables {
			t.Run(w.UID+"/variable "+v.Name, func(t *testing.T) {
				if _, rows := run(t, v.SQL, All()); len(rows) == 0 {
					t.Error("no values")
				}
			})
		}
	}
	t.Run("balance", func(t *testing.T) {
		_, rows := run(t, panel(t, "pipe-balance").SQL, All())
		if got := fmt.Sprint(deref(rows[0][0]), deref(rows[0][1]), deref(rows[0][2])); got != "5400 5400 0" {
			t.Errorf("raw, accounted and difference are %s", got)
		}
	})
	t.Run("spend", func(t *testing.T) {
		_, rows := run(t, panel(t, "cdn-spend").SQL, All())
		if got := fmt.Sprint(deref(rows[0][0]), deref(rows[0][2]), deref(rows[0][3]), deref(rows[1][2])); len(rows) != 2 || got != "a0.5 0.3 0.25" {
			t.Errorf("%d rows: %s", len(rows), got)
		}
	})
	t.Run("faulty CDN", func(t *testing.T) {
		_, rows := run(t, panel(t, "cdn-now").SQL, All())
		if len(rows) != 3 || fmt.Sprint(deref(rows[1][0]), " ", deref(rows[1][2])) != "b 0.3" || fmt.Sprint(deref(rows[0][2])) != "0" {
			for _, r := range rows {
				t.Log(deref(r[0]), deref(r[1]), deref(r[2]))
			}
			t.Error("want CDN b with a stall ratio of 0.3 and a with 0")
		}
	})
	for name, sql := range map[string]string{"viewers": ViewersNow, "quality": QualityNow, "streams": StreamQualityNow, "first": FirstScreenNow, "recent": Recent, "minutes": RecentFirstScreen} {
		t.Run("console/"+name, func(t *testing.T) {
			if _, rows := run(t, sql, All()); len(rows) == 0 {
				t.Error("no rows although there is data")
			}
		})
	}
}

func panel(t *testing.T, id string) Panel {
	for _, w := range Walls() {
		for _, p := range w.Panels() {
			if p.ID == id {
				return p
			}
		}
	}
	t.Fatalf("no panel %q", id)
	return Panel{}
}

func TestPanelsAreWellFormed(t *testing.T) {
	id := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, w := range Walls() {
		if !id.MatchString(w.UID) || len(w.UID) > 40 || w.Title == "" || seen[w.UID] {
			t.Errorf("wall %q %q", w.UID, w.Title)
		}
		seen[w.UID] = true
		for _, s := range w.Sections {
			x := 0
			for _, p := range s.Panels {
				if !id.MatchString(p.ID) || seen[p.ID] || p.Title == "" || len(p.Columns) == 0 || p.Height == 0 {
					t.Errorf("%s: panel %q is incomplete or twice there", w.UID, p.ID)
				}
				seen[p.ID] = true
				if x += p.Width; p.Width < 4 || x > 24 {
					if x -= p.Width; x != 24 {
						t.Errorf("%s: the row before %s is %d wide", w.UID, p.ID, x)
					}
					x = p.Width
				}
				if p.Kind == TimeSeries && (p.Columns[0].Unit != UnitTime || p.MinInterval == "") {
					t.Errorf("%s: a time series starts with its time and has an interval", p.ID)
				}
				if strings.Contains(p.SQL, "'${") || strings.Contains(p.SQL, ";") {
					t.Errorf("%s: variables quote themselves, and a panel is one statement", p.ID)
				}
			}
		}
	}
}

func TestExpand(t *testing.T) {
	from, to := time.Unix(1000, 5e8), time.Unix(2000, 0)
	vars := Vars{"app": {All: true, Items: []string{"a", "b"}}, "cdn": Only("x", `o'\`)}
	for in, want := range map[string]string{
		"a $__fromTime b $__toTime":                            "a toDateTime(1000) b toDateTime(2000)",
		"$__timeFilter(t)":                                     "t >= toDateTime(1000) AND t <= toDateTime(2000)",
		"$__timeFilter_ms(s.t)":                                "s.t >= fromUnixTimestamp64Milli(1000500) AND s.t <= fromUnixTimestamp64Milli(2000000)",
		"$__timeInterval(f(a, b)) AS x":                        "toStartOfInterval(toDateTime(f(a, b)), INTERVAL 30 second) AS x",
		"n / $__interval_s":                                    "n / 30",
		"$__fromTime_ms, $__toTime_ms":                         "fromUnixTimestamp64Milli(1000500), fromUnixTimestamp64Milli(2000000)",
		"$__conditionalAll(app IN (${app:sqlstring}), $app)":   "1=1",
		"$__conditionalAll(cdn IN (${cdn:sqlstring}), $cdn) x": `cdn IN ('x','o\'\\') x`,
		"$__conditionalAll(f('),') IN (${cdn}), $cdn)":         `f('),') IN ('x','o\'\\')`,
		"${app} $cdn":                                          `'a','b' 'x','o\'\\'`,
		"no macro at 5$ each":                                  "no macro at 5$ each",
	} {
		got, err := Expand(in, vars, from, to, 30*time.Second)
		if err != nil || got != want {
			t.Errorf("Expand(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"$__nothing", "$__timeFilter", "$__timeFilter(", "$__timeFilter()", "$__conditionalAll(x)", "$__conditionalAll(x, $none)", "${none}", "$none"} {
		if got, err := Expand(in, vars, from, to, time.Second); err == nil {
			t.Errorf("Expand(%q) = %q without an error", in, got)
		}
	}
	if _, err := Expand("x", vars, to, from, time.Second); err == nil {
		t.Error("a range that ends before it begins was taken")
	}
	// What a value holds is not expanded again.
	got, err := Expand("${cdn}", Vars{"cdn": Only("$__toTime ${app}"), "app": Only("no")}, from, to, time.Second)
	if err != nil || got != "'$__toTime ${app}'" {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("a'b\\c\x00d")
	f.Fuzz(func(t *testing.T, s string) {
		q := Quote(s)
		// Read the literal back as ClickHouse does; it must end exactly at its end.
		var b strings.Builder
		i := 1
		for ; i < len(q) && q[i] != '\''; i++ {
			if q[i] == '\\' {
				i++
				if q[i] == '0' {
					b.WriteByte(0)
					continue
				}
			}
			b.WriteByte(q[i])
		}
		if q[0] != '\'' || i != len(q)-1 || b.String() != s {
			t.Errorf("Quote(%q) = %s", s, q)
		}
	})
}

func newOf(c driver.ColumnType) any { return reflect.New(c.ScanType()).Interface() }

func deref(v any) any {
	r := reflect.ValueOf(v)
	for r.Kind() == reflect.Pointer && !r.IsNil() {
		r = r.Elem()
	}
	return r.Interface()
}
