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
	// Each second of a quarter of an hour, then a second of every five hours of 29 days.
	for s := range 900 + 29*24/5 {
		at := now.Add(-time.Duration(s) * time.Second)
		if s >= 900 {
			at = now.Add(-time.Duration(s-899) * 5 * time.Hour)
		}
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
			slices = append(slices, []any{at.UnixMilli(), id, "live", "demo", cdn, "eu", "isp-" + cdn, []string{"hls.js", "native"}[s%2], "phone", "2.1", "Android", "delay=" + []string{"short", "long"}[s/60%2],
				int64(1), int64(1), 1 - failed, failed, int64(300), 1000 - stalled, stalled, min(stalled, 1),
				2000 * (1000 - stalled), 1000 - stalled, 2500 * (1000 - stalled), 1000 - stalled, int64(3), failed, int64(300_000), int64(2), int64(s % 2),
				[]int64{bin}, []int64{1}, []int64{int64(loghist.BinOf(2000))}, []int64{1}})
			if at.Before(now.Add(-13 * 24 * time.Hour)) {
				continue // raw rows are kept for 14 days
			}
			for range 2 {
				raw = append(raw, []any{at.UnixMicro(), at.UnixMilli(), "cmcd_event", id, "live", "demo", cdn, "bitrate", nil, nil, nil, 2500, nil, nil})
			}
			raw = append(raw, []any{at.UnixMicro(), at.UnixMilli(), "cdn_log", "", "live", "demo", cdn, "", nil, nil, nil, nil, 12, true})
		}
		raw = append(raw, []any{at.UnixMicro(), at.UnixMilli(), "publisher", "", "live", "demo", "a", "", 30.0, int64(2_500_000), int64(0), nil, nil, nil})
	}
	insert(`session_slices (time_ms, session_id, app, stream, cdn, region, isp, client, device, client_version, os, arms, sessions, attempts, starts, start_failures, startup_ms,
		played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms, bitrate_kbps_ms_sum, bitrate_weight_ms, requests, request_errors, request_bytes,
		reports, lost_reports, first_screen_bins, first_screen_counts, latency_bins, latency_counts)`, slices...)
	insert("telemetry (received_us, ts_ms, source, session_id, app, stream, cdn, gates, fps, publish_bps, publish_stall_ms, buffer_ms, first_byte_ms, cache_hit)", raw...)
	insert("hops (time, app, stream, rendition, track, hop, cdn, wait_ms, staleness_ms, throughput_kbps, bitrate_kbps)",
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", "probe", "a", 12.0, int64(400), int32(20_000), int32(2500)})
	insert("hops (time, app, stream, rendition, track, epoch, msn, part, hop, cdn, server, delay_ms, wait_ms, failed, reason)",
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "stored", "", "ingest-1", 4.0, nil, uint8(0), ""},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "edge", "a", "edge-a", 20.0, 20.0, uint8(0), ""},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "edge", "b", "edge-b", nil, nil, uint8(1), "404"},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(8), int32(0), "edge", "b", "edge-b", nil, nil, uint8(1), "404"},
		[]any{now.Add(-time.Minute), "live", "demo", "src", "video", uint32(1), uint64(7), int32(0), "edge", "c", "edge-c", 900.0, 600.0, uint8(0), ""})
	insert("decisions (time, kind, id, app, stream, session_id, previous, chosen, probability, reason_code)",
		[]any{now.Add(-time.Minute), "dispatch", "d1", "live", "demo", "s-a-0", "", "a", 1.0, "affinity"}, []any{now.Add(-2 * time.Minute), "steering", "d2", "live", "demo", "s2", "a", "b", 1.0, "spill"})
	none := map[string]string{}
	event := func(ago time.Duration, kind, app, stream, cdn, reason string, detail map[string]string) []any {
		return []any{now.Add(-ago), kind, kind + cdn + ago.String(), app, stream, cdn, reason, detail}
	}
	insert("events (time, kind, id, app, stream, cdn, reason, detail)",
		event(time.Minute, "cdn_fault", "", "", "b", "rate limited", none), event(3*time.Minute, "stream_started", "live", "demo", "a", "", none),
		event(time.Minute, "cdn_state", "", "", "a", "", map[string]string{"state": "active", "capacity_bps": "10000000", "capacity_viewers": "10", "gb": "3", "spend_usd": "0.5", "commit_gb": "10", "commit_share": "0.3", "month_share": "0.7"}),
		event(time.Minute, "cdn_state", "", "", "b", "", map[string]string{"state": "active", "capacity_bps": "2400000", "gb": "1", "spend_usd": "0.25", "commit_gb": "0", "month_share": "0.7"}),
		event(time.Minute, "bus_state", "", "", "", "", map[string]string{"pending.MEDIA/packager": "3", "rate.MEDIA/packager": "12.5", "dead.loader": "2", "bytes.MEDIA": "1000000", "query_ms.cdn_stalls": "12"}),
		event(time.Minute, "alert_opened", "", "", "b", "b stalls", map[string]string{"rule": "cdn_stalls"}),
		event(time.Minute, "experiment_changed", "", "", "", "started", map[string]string{"experiment": "delay"}),
		event(time.Minute, "collector_counts", "", "", "", "", map[string]string{"accepted.cmcd_event": "10", "rejected.too_large": "2"}))
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
	ranges := []struct {
		name       string
		span, step time.Duration
	}{{"hour", time.Hour, time.Minute}, {"month", 30 * 24 * time.Hour, 30 * time.Minute}}
	ask := func(t *testing.T, sql string, v Vars, span, step time.Duration) ([]string, [][]any) {
		t.Helper()
		q, err := Expand(sql, v, now.Add(-span), now, step)
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
	run := func(t *testing.T, sql string, v Vars) ([]string, [][]any) {
		t.Helper()
		return ask(t, sql, v, time.Hour, time.Minute)
	}
	choices := map[string]Vars{"all": All(), "several": {
		"app": Only("live", "shop"), "cdn": Only("a", "b"), "stream": Only("demo", "x"), "experiment": Only("delay", "y"), "session": Only("s-a-0"),
	}}
	hostile := Only(`') OR 1=1 --`, `\`, `\') OR 1=1 --`, "${cdn}", "x'y")
	choices["hostile"] = Vars{"app": hostile, "cdn": hostile, "stream": hostile, "experiment": hostile, "session": Only(`\' OR 1=1 --`)}
	for _, w := range Walls(DefaultThresholds()) {
		for _, p := range w.Panels() {
			for _, r := range ranges {
				for name, v := range choices {
					t.Run(w.UID+"/"+p.ID+"/"+r.name+"/"+name, func(t *testing.T) {
						got, rows := ask(t, p.SQL, v, r.span, r.step)
						checkAnswer(t, &p, got, rows, name == "hostile")
					})
				}
			}
		}
		for _, r := range ranges {
			for _, v := range w.Variables {
				if v.SQL == "" {
					continue
				}
				t.Run(w.UID+"/variable "+v.Name+"/"+r.name, func(t *testing.T) {
					if _, rows := ask(t, v.SQL, All(), r.span, r.step); len(rows) == 0 {
						t.Error("no values")
					}
				})
			}
			for _, a := range w.Annotations {
				t.Run(w.UID+"/annotation "+a.Name+"/"+r.name, func(t *testing.T) {
					got, rows := ask(t, a.SQL, All(), r.span, r.step)
					if !slices.Equal(got, []string{"time", "text", "tags"}) || len(rows) == 0 {
						t.Errorf("columns %v, %d rows", got, len(rows))
					}
				})
			}
		}
	}
	for _, a := range Alerts() {
		if a.SQL == "" {
			continue
		}
		t.Run("alert/"+a.Name, func(t *testing.T) {
			if got, _ := ask(t, a.SQL, All(), a.Window, time.Minute); !slices.Equal(got, AlertColumns) {
				t.Errorf("columns %v", got)
			}
			if got, _ := ask(t, a.Firing(), All(), a.Window, time.Minute); !slices.Equal(got, []string{"subject", "value"}) {
				t.Errorf("columns of what fires: %v", got)
			}
		})
	}
	t.Run("alert fires", func(t *testing.T) {
		for name, want := range map[string]string{AlertCDNStalls: "b", AlertCapacity: "b"} {
			i := slices.IndexFunc(Alerts(), func(a Alert) bool { return a.Name == name })
			a := Alerts()[i]
			if _, rows := ask(t, a.Firing(), All(), a.Window, time.Minute); len(rows) != 1 || deref(rows[0][0]) != want {
				t.Errorf("%s fires for %d subjects, want %s", name, len(rows), want)
			}
		}
	})
	t.Run("roll-up by range", func(t *testing.T) {
		for _, id := range []string{"cdn-stall", "streams-top", "streams-fps", "qoe-stall", "exp-stall", "cdn-hits"} {
			for _, r := range ranges {
				q, err := Expand("EXPLAIN PLAN "+panel(t, id).SQL, All(), now.Add(-r.span), now, r.step)
				if err != nil {
					t.Fatal(err)
				}
				var plan string
				rows, err := analyst.Query(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for rows.Next() {
					var l string
					if err := rows.Scan(&l); err != nil {
						t.Fatal(err)
					}
					plan += l + "\n"
				}
				rows.Close()
				// A table that the range does not ask for is in the plan, and nothing of it is read.
				for _, read := range strings.Split(plan, "ReadFromMergeTree (")[1:] {
					table, rest, _ := strings.Cut(read, ")")
					want := strings.HasSuffix(table, "hour") == (r.name == "month")
					if strings.Contains(rest, "Granules:") != want {
						t.Errorf("%s over an %s: is %s read? %v wanted in\n%s", id, r.name, table, want, plan)
					}
				}
			}
		}
	})
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
	t.Run("bad hops", func(t *testing.T) {
		_, worst := run(t, "SELECT hop, cdn, verdict FROM ("+panel(t, "cdn-hops").SQL+") WHERE verdict = 'failing' ORDER BY failed_share DESC", All())
		if len(worst) != 1 || fmt.Sprint(deref(worst[0][1])) != "b" {
			t.Errorf("%d hops are failing", len(worst))
		}
		_, rows := run(t, panel(t, "cdn-hops").SQL, All())
		var got []string
		for _, r := range rows {
			got = append(got, fmt.Sprint(deref(r[0]), "/", deref(r[1]), "/", deref(r[2])))
		}
		if want := []string{"stored//", "edge/a/", "edge/b/failing", "edge/c/slow", "probe/a/"}; !slices.Equal(got, want) {
			t.Errorf("hops %v, want %v", got, want)
		}
	})
	fillHops(t, admin, now) // after "balance", which counts rows
	t.Run("bad hops by fault", func(t *testing.T) { testBadHops(t, run) })
	t.Run("faulty CDN", func(t *testing.T) {
		_, rows := run(t, panel(t, "cdn-now").SQL, All())
		if len(rows) != 3 || fmt.Sprint(deref(rows[1][0]), " ", deref(rows[1][2])) != "b 0.3" || fmt.Sprint(deref(rows[0][2])) != "0" {
			for _, r := range rows {
				t.Log(deref(r[0]), deref(r[1]), deref(r[2]))
			}
			t.Error("want CDN b with a stall ratio of 0.3 and a with 0")
		}
	})
	for name, sql := range map[string]string{"viewers": ViewersNow, "quality": QualityNow, "streams": StreamQualityNow, "first": FirstScreenNow, "recent": Recent, "minutes": RecentFirstScreen,
		"stream publisher": StreamPublisher, "stream hops": StreamHops, "stream sessions": StreamSessions, "stream events": StreamEvents} {
		t.Run("console/"+name, func(t *testing.T) {
			v := All()
			if strings.HasPrefix(name, "stream ") {
				v = Vars{"app": Only("live"), "stream": Only("demo")}
				if _, rows := run(t, sql, Vars{"app": Only(`') OR 1=1 --`), "stream": Only(`\' OR 1=1 --`)}); len(rows) > 0 {
					t.Error("a hostile stream has rows")
				}
			}
			if _, rows := run(t, sql, v); len(rows) == 0 {
				t.Error("no rows although there is data")
			}
		})
	}
}

// checkAnswer wants the columns that the panel says, and rows where there is data.
func checkAnswer(t *testing.T, p *Panel, got []string, rows [][]any, hostile bool) {
	t.Helper()
	var want []string
	for _, c := range p.Columns {
		want = append(want, c.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
	// Events of no application, and figures of the whole system, are there whatever is selected.
	everywhere := strings.HasPrefix(p.ID, "pipe-") || strings.HasSuffix(p.ID, "events") || p.ID == "exp-changes" || p.ID == "cdn-hops"
	switch {
	case hostile && p.Kind == Table && len(rows) > 0 && !everywhere:
		t.Errorf("a hostile value selected %d rows", len(rows))
	case !hostile && len(rows) == 0:
		t.Error("no rows although there is data")
	}
}

func panel(t *testing.T, id string) Panel {
	for _, w := range Walls(DefaultThresholds()) {
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
	for _, w := range Walls(DefaultThresholds()) {
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
