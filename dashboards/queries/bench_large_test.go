package queries

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

var (
	largeRows  = flag.Int64("rows", 100_000_000, "raw rows that BenchmarkLarge asks about")
	largeDir   = flag.String("dir", "", "data `directory` of BenchmarkLarge, filled at the first run and used again; empty: a temporary one")
	largeLimit = flag.Duration("limit", time.Second, "what a panel, variable, annotation, alert or question of the console may take in BenchmarkLarge")
)

// BenchmarkLarge times every panel, variable, annotation, alert, question of the console and documented query, as the
// analyst, over so many raw rows (three quarters edges' log lines), a quarter as many slices, and all that is made of
// them by the views: half of the last day, the rest of the 13 days before (slices: 30). Panels are asked over the range
// that their wall opens with, and over thirty days. What takes longer than -limit fails.
//
//	go test ./dashboards/queries -run xxx -bench Large -benchtime 3x -timeout 3h -args -dir /tmp/large
func BenchmarkLarge(b *testing.B) {
	srv := clickhousetest.StartOptions(b, chserver.Options{DataDir: *largeDir, MemoryLimitBytes: 6 << 30})
	admin := connect(b, srv, chserver.Admin)
	if err := clickhouse.Migrate(b.Context(), admin, clickhouse.Options{}); err != nil {
		b.Fatal(err)
	}
	f := &filler{b: b, admin: admin, rows: *largeRows, end: time.Now().Truncate(time.Second)}
	f.fill()
	l := &large{b: b, analyst: connect(b, srv, chserver.Analyst), now: f.end, vars: All()}
	var session string
	if err := admin.QueryRow(b.Context(), "SELECT session_id FROM spillway.session_slices WHERE time > ? ORDER BY time DESC LIMIT 1", f.end.Add(-30*time.Minute)).Scan(&session); err != nil {
		b.Fatal(err)
	}
	l.vars["session"] = Only(session)
	l.walls()
	for _, a := range Alerts() {
		if a.SQL != "" {
			l.run("alert/"+a.Name, a.SQL, l.vars, a.Window, time.Minute)
		}
	}
	for name, q := range map[string]struct {
		sql        string
		back, step time.Duration
	}{
		"viewers": {ViewersNow, 30 * time.Second, time.Second}, "quality": {QualityNow, 20 * time.Second, time.Second}, "streams": {StreamQualityNow, 20 * time.Second, time.Second},
		"first_screen": {FirstScreenNow, 5 * time.Minute, time.Second}, "recent": {Recent, 15 * time.Minute, 10 * time.Second}, "minutes": {RecentFirstScreen, 30 * time.Minute, time.Minute},
		"stream publisher": {StreamPublisher, 30 * time.Minute, 10 * time.Second}, "stream hops": {StreamHops, 5 * time.Minute, time.Minute},
		"stream sessions": {StreamSessions, 15 * time.Minute, time.Minute}, "stream events": {StreamEvents, 24 * time.Hour, time.Minute},
	} {
		l.run("console/"+name, q.sql, Vars{"app": Only("live"), "stream": Only("stream7"), "cdn": {All: true}}, q.back, q.step)
	}
	l.documented()
	l.report()
}

// large runs questions and keeps how long each took.
type large struct {
	b       *testing.B
	analyst driver.Conn
	now     time.Time
	vars    Vars
	took    []taken
}

type taken struct {
	name string
	each time.Duration
}

// walls asks what every wall asks.
func (l *large) walls() {
	l.b.Helper()
	for _, w := range Walls(DefaultThresholds()) {
		back, err := time.ParseDuration(strings.TrimPrefix(w.From, "now-"))
		if err != nil {
			l.b.Fatalf("%s: range %q: %v", w.UID, w.From, err)
		}
		for _, p := range w.Panels() {
			l.run("panel/"+p.ID, p.SQL, l.vars, back, time.Minute)
			l.run("month/"+p.ID, p.SQL, l.vars, 30*24*time.Hour, 30*time.Minute)
		}
		for _, a := range w.Annotations {
			l.run("annotation/"+w.UID+"-"+a.Name, a.SQL, l.vars, back, time.Minute)
		}
		for _, v := range w.Variables {
			if v.SQL != "" {
				l.run("variable/"+w.UID+"-"+v.Name, v.SQL, l.vars, back, time.Minute)
			}
		}
	}
}

// documented asks the queries of docs/analyst.md; they have no limit.
func (l *large) documented() {
	l.b.Helper()
	page, err := os.ReadFile("../../docs/analyst.md")
	if err != nil {
		l.b.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?s)([^\n]*):\n```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		l.time(fmt.Sprintf("analyst/%02d %.60s", i+1, m[1]), strings.TrimSpace(m[2]))
	}
}

// run times one question of ours over a range that ends now, and holds it to the limit.
func (l *large) run(name, sql string, vars Vars, back, step time.Duration) {
	l.b.Helper()
	q, err := Expand(sql, vars, l.now.Add(-back), l.now, step)
	if err != nil {
		l.b.Fatal(err)
	}
	if each := l.time(name, q); each > *largeLimit {
		l.b.Errorf("%s takes %v, more than %v", name, each.Round(time.Millisecond), *largeLimit)
	}
}

func (l *large) time(name, sql string) (each time.Duration) {
	l.b.Helper()
	l.b.Run(name, func(b *testing.B) {
		for b.Loop() {
			drain(b, l.analyst, sql)
		}
		each = b.Elapsed() / time.Duration(b.N)
	})
	if each > 0 { // else -bench left it out
		l.took = append(l.took, taken{name, each})
	}
	return each
}

// report names the slowest.
func (l *large) report() {
	slices.SortFunc(l.took, func(a, b taken) int { return int(b.each - a.each) })
	var s strings.Builder
	for _, t := range l.took[:min(20, len(l.took))] {
		fmt.Fprintf(&s, "\n%8.0f ms  %s", float64(t.each.Microseconds())/1000, t.name)
	}
	fmt.Fprintf(os.Stderr, "%d questions over %d raw rows; the slowest:%s\n", len(l.took), *largeRows, s.String())
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
