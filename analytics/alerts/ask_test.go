package alerts

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// testHang: a ClickHouse that takes connections and never answers is waited for once in a look, by another rule's
// question each time; that it is away is told, and no other alert changes.
func testHang(t *testing.T, b *bustest.Bus) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{l.Addr().String()}, DialTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketAlerts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{queries.AlertRaised, queries.AlertCDNStalls} {
		bustest.Put(t, b.JS, schemas.BucketAlerts, schemas.AlertKey(rule, "before"), schemas.Alert{Rule: rule, Subject: "before", State: schemas.AlertOpen})
	}
	// Each time the clock is asked, 20 s have passed: when a look begins the last answer is 20 s old, which is not away.
	now := time.Now()
	answered := now
	clock := func() time.Time { now = now.Add(20 * time.Second); return now }
	w := &watch{
		Settings: Settings{JS: b.JS, Conn: b.Conn, ClickHouse: conn, Logger: slog.New(slog.DiscardHandler), Now: clock},
		kv:       kv, m: m, changed: mirror.New(schemas.BucketAlertRules, schemas.ParseAlertRule, slog.New(slog.DiscardHandler)),
		raised: newRaised(), answered: answered, took: map[string]float64{}, hung: map[string]time.Time{}, patience: 50 * time.Millisecond,
	}
	if w.book, err = openBook(t.Context(), kv); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		if err := w.look(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(w.hung) != n {
			t.Fatalf("after %d looks these were waited for: %v", n, w.hung)
		}
		for _, r := range rules.All(nil) {
			var count dto.Metric
			if err := m.failures.WithLabelValues(r.Name).Write(&count); err != nil {
				t.Fatal(err)
			}
			if got := count.GetCounter().GetValue(); asksClickHouse(&r) && got != float64(n) {
				t.Errorf("after %d looks %s was not answered %v times", n, r.Name, got)
			}
		}
		if a := w.book.get(schemas.AlertKey(queries.AlertClickHouseAway, "ClickHouse")); a == nil || a.State != schemas.AlertOpen {
			t.Errorf("the alert that ClickHouse is away: %+v", a)
		}
		for _, rule := range []string{queries.AlertRaised, queries.AlertCDNStalls} {
			if a := w.book.get(schemas.AlertKey(rule, "before")); a.State != schemas.AlertOpen || a.QuietUs != 0 {
				t.Errorf("the alert of %s, whose question was not answered: %+v", rule, a)
			}
		}
	}
}

// TestInOrder: rules over the bus come first; of two questions that are always too slow, neither is asked before one
// that is not.
func TestInOrder(t *testing.T) {
	hung := map[string]time.Time{queries.AlertCDNStalls: time.Unix(2, 0), queries.AlertCDNErrors: time.Unix(1, 0)}
	all := inOrder(rules.All(nil), hung)
	asked := false
	for _, r := range all {
		if asked = asked || asksClickHouse(&r); asked != asksClickHouse(&r) {
			t.Errorf("%s comes after a question to ClickHouse", r.Name)
		}
	}
	if n := len(all); all[n-1].Name != queries.AlertCDNStalls || all[n-2].Name != queries.AlertCDNErrors {
		t.Errorf("last are %s and %s", all[n-2].Name, all[n-1].Name)
	}
}

// testLoaderLag: while slices wait on the bus the loader is behind, also when nothing was loaded for a day; after a
// day without viewers it is not.
func testLoaderLag(t *testing.T, conn driver.Conn) {
	if err := conn.Exec(t.Context(), "TRUNCATE TABLE session_slices"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	// The first of the stream is the last message of a partition, kept while all others up to 1000 were purged.
	state := jetstream.StreamState{Msgs: 701, FirstSeq: 5, LastSeq: 1700, FirstTime: now.Add(-50 * time.Hour)}
	w := &watch{Settings: Settings{ClickHouse: conn}, patience: time.Minute}
	w.bus.streams = map[string]jetstream.StreamState{schemas.StreamSlices: state}
	load := func(seq uint64, ago time.Duration) {
		if err := conn.Exec(t.Context(), "INSERT INTO session_slices (time_ms, session_id, app, stream, bus_seq) VALUES (?, 's', 'live', 'demo', ?)", now.Add(-ago).UnixMilli(), seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		why  string
		seq  uint64
		ago  time.Duration
		want float64
	}{
		{"nothing of the stream was ever loaded", 0, 0, 701},
		{"of an earlier stream", 9000, 49 * time.Hour, 701},
		{"the loader died two days ago", 1000, 48 * time.Hour, 700},
		{"nobody watched for a day, all is loaded", 1700, 47 * time.Hour, 0},
	} {
		if c.seq > 0 {
			load(c.seq, c.ago)
		}
		if rows, err := w.loaderLag(t.Context()); err != nil || len(rows) != 1 || rows[0].Value != c.want {
			t.Errorf("%s: %+v, %v, want %v", c.why, rows, err, c.want)
		}
	}
	load(9001, time.Hour)
	if rows, err := w.loaderLag(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("the stream began anew: %+v, %v", rows, err)
	}
	w.bus.streams = nil
	if rows, err := w.loaderLag(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("without messages: %+v, %v", rows, err)
	}
}
