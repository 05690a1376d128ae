package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
)

// hook notes what was posted to it, and where; it is away at first.
type hook struct {
	mu    sync.Mutex
	posts []post
	asked int
}

type post struct {
	path string
	schemas.Alert
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked++; h.asked == 1 {
		w.WriteHeader(http.StatusBadGateway) // the poster tries again
		return
	}
	var a schemas.Alert
	if json.NewDecoder(r.Body).Decode(&a) == nil {
		h.posts = append(h.posts, post{r.URL.Path, a})
	}
}

// told gives the posts about an alert in a state.
func (h *hook) told(rule, subject, state string) (all []post) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.posts {
		if a.Rule == rule && a.Subject == subject && a.State == state {
			all = append(all, a)
		}
	}
	return all
}

// play writes a slice a second of the last three minutes for CDNs a and b.
func play(t *testing.T, conn driver.Conn, stallOnB int64, until time.Time) {
	t.Helper()
	b, err := conn.PrepareBatch(t.Context(), "INSERT INTO session_slices (time_ms, session_id, app, stream, cdn, played_ms, stalled_ms, reports)")
	if err != nil {
		t.Fatal(err)
	}
	for s := range 180 {
		for _, cdn := range []string{"a", "b"} {
			stalled := int64(1)
			if cdn == "b" {
				stalled = stallOnB
			}
			for v := range 4 {
				if err := b.Append(until.Add(-time.Duration(s)*time.Second).UnixMilli(), fmt.Sprint(cdn, v), "live", "demo", cdn, 1000-stalled, stalled, int64(1)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
}

// left is the subject of alerts that were open when the process came.
const left = "left behind"

// TestAlertsOpenOnceAndEnd: every rule's alerts reach its webhook once, with a link; a faulty CDN is told of once by event and webhook, not again by the next process, and its
// end is told once; what others raise is an alert too, whatever is in it; changes and faults of CDNs become events.
func TestAlertsOpenOnceAndEnd(t *testing.T) {
	b := bustest.Start(t)
	_, conn := tablestest.Start(t)
	h := &hook{}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	put := func(bucket, key string, v any) {
		t.Helper()
		kv, err := b.JS.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(v)
		if err == nil {
			_, err = kv.Put(t.Context(), key, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(schemas.BucketAlertRules, schemas.AlertRuleDefaults, schemas.AlertRule{Name: schemas.AlertRuleDefaults, WebhookURL: srv.URL + "/secret", ForSec: 1, ClearSec: 1})
	// An alert of every rule, stored by a process that died before it told it; two rules have webhooks of their own.
	put(schemas.BucketAlertRules, queries.AlertBalance, schemas.AlertRule{Name: queries.AlertBalance, WebhookURL: srv.URL + "/balance"})
	put(schemas.BucketAlertRules, "raised-review", schemas.AlertRule{Name: "raised-review", WebhookURL: srv.URL + "/review"})
	for _, r := range queries.Alerts() {
		us := time.Now().UnixMicro()
		put(schemas.BucketAlerts, schemas.AlertKey(r.Name, left), schemas.Alert{Rule: r.Name, Subject: left, State: schemas.AlertOpen, SinceUs: us, OpenedUs: us, SeenUs: us, Page: "/walls/" + r.Wall + "#" + r.Panel, Reason: "it was so"})
	}
	now := time.Now()
	play(t, conn, 300, now)
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		s := Settings{JS: b.JS, Conn: b.Conn, ClickHouse: conn, Every: 200 * time.Millisecond, ConsoleURL: "https://console.example/"}
		go func() { done <- s.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	alert := func(rule, subject string) *schemas.Alert {
		kv, err := b.JS.KeyValue(t.Context(), schemas.BucketAlerts)
		if err != nil {
			t.Fatal(err)
		}
		e, err := kv.Get(t.Context(), schemas.AlertKey(rule, subject))
		if err != nil {
			return &schemas.Alert{}
		}
		a, err := schemas.ParseAlert(e.Key(), e.Value())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	stop := run()
	await.True(t, "the alert about CDN b is open and told", func() bool {
		a := alert(queries.AlertCDNStalls, "b")
		return a.State == schemas.AlertOpen && a.Told && len(h.told(queries.AlertCDNStalls, "b", schemas.AlertOpen)) == 1
	})
	if a := alert(queries.AlertCDNStalls, "b"); a.Page != "/cdns#b" || !strings.Contains(a.Reason, "CDN b stalled for 30 %") {
		t.Errorf("%+v", a)
	}
	if a := alert(queries.AlertCDNStalls, "a"); a.State != "" {
		t.Errorf("the good CDN: %+v", a)
	}
	const hostile = `<img src=x onerror=alert(1)>'; DROP TABLE events`
	e := schemas.Event{ID: "r1", TimeUs: time.Now().UnixMicro(), Kind: schemas.EventAlertRaised, App: "live", Stream: "demo", Reason: hostile, Detail: map[string]string{"rule": "review", "page": "//evil.example/"}}
	publish := func(e schemas.Event) {
		t.Helper()
		data, err := schemas.EncodeRecord(&e)
		if err == nil {
			_, err = b.JS.Publish(t.Context(), schemas.EventSubject(&e), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(e)
	await.True(t, "what was raised is an alert", func() bool { return alert(queries.AlertRaised, "review live/demo").Told })
	if a := alert(queries.AlertRaised, "review live/demo"); a.Reason != hostile || a.Page != "/streams/live/demo" {
		t.Errorf("%+v", a)
	}
	if got := h.told(queries.AlertRaised, "review live/demo", schemas.AlertOpen); len(got) != 1 || got[0].path != "/review" || got[0].Link != "https://console.example/streams/live/demo" {
		t.Errorf("what the rule review raised: %+v", got)
	}
	for _, r := range queries.Alerts() {
		var opened, over []post
		await.Text(t, "the alert of "+r.Name+" is told and over", func() string {
			opened, over = h.told(r.Name, left, schemas.AlertOpen), h.told(r.Name, left, schemas.AlertResolved)
			if a := alert(r.Name, left); a.State != schemas.AlertResolved || len(opened) == 0 || len(over) == 0 {
				return fmt.Sprintf("%+v, posts of its beginning %+v and end %+v", a, opened, over)
			}
			return ""
		})
		path := map[string]string{queries.AlertBalance: "/balance"}[r.Name]
		if path == "" {
			path = "/secret"
		}
		for _, p := range append(opened, over...) {
			if p.path != path || p.Link != "https://console.example/walls/"+r.Wall+"#"+r.Panel {
				t.Errorf("%s was posted to %s with the link %s", r.Name, p.path, p.Link)
			}
		}
		if len(opened) != 1 || len(over) != 1 {
			t.Errorf("%s was told %d times to be open and %d times to be over", r.Name, len(opened), len(over))
		}
	}
	put(schemas.BucketCDNs, "b", schemas.CDN{Name: "b", BaseURL: "http://127.0.0.1:1", State: schemas.CDNActive})
	put(schemas.BucketCDNs, "b", schemas.CDN{Name: "b", BaseURL: "http://127.0.0.1:1", State: schemas.CDNDraining})
	put(schemas.BucketFaults, "b", map[string]any{"kind": "rate"})
	st, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	last := func(kind schemas.EventKind) (e schemas.Event) {
		m, err := st.GetLastMsgForSubject(t.Context(), "events."+string(kind)+"._._")
		if err == nil {
			err = schemas.DecodeRecord(m.Data, &e)
		}
		if err != nil {
			return schemas.Event{}
		}
		return e
	}
	await.True(t, "changes and faults are told", func() bool {
		return last(schemas.EventCDNChanged).Reason == "draining, was active" && strings.Contains(last(schemas.EventCDNFault).Reason, `"rate"`) && last(schemas.EventBusState).Detail["messages.EVENTS"] != ""
	})
	for _, c := range schemas.StreamConfigs(schemas.BusSettings{}) {
		if last(schemas.EventBusState).Detail["messages."+c.Name] == "" {
			t.Errorf("it is not told how much the stream %s holds", c.Name)
		}
	}
	opened := events(t, st, schemas.EventAlertOpened)
	stop()

	// Another process: it is open already. It is over once nothing stalls: with the rule's threshold out of reach.
	stop = run()
	put(schemas.BucketAlertRules, queries.AlertCDNStalls, schemas.AlertRule{Name: queries.AlertCDNStalls, Threshold: 0.9})
	e.ID, e.Kind = "r2", schemas.EventAlertCleared
	publish(e)
	await.True(t, "the alerts are over and told", func() bool {
		a, r := alert(queries.AlertCDNStalls, "b"), alert(queries.AlertRaised, "review live/demo")
		return a.State == schemas.AlertResolved && a.Told && r.State == schemas.AlertResolved && r.Told
	})
	stop()
	if n := len(h.told(queries.AlertCDNStalls, "b", schemas.AlertOpen)); n != 1 {
		t.Errorf("told %d times that CDN b stalls", n)
	}
	if n := events(t, st, schemas.EventAlertOpened); n != opened {
		t.Errorf("%d events of alerts opened, %d before the second start", n, opened)
	}
	if len(h.told(queries.AlertCDNStalls, "b", schemas.AlertResolved)) != 1 || len(h.told(queries.AlertRaised, "review live/demo", schemas.AlertResolved)) != 1 {
		t.Errorf("the end was not told once: %+v", h.posts)
	}
	t.Run("loader lag", func(t *testing.T) { testLoaderLag(t, conn) })
}

// events counts those of a kind on the bus.
func events(t *testing.T, st jetstream.Stream, kind schemas.EventKind) (n uint64) {
	t.Helper()
	info, err := st.Info(t.Context(), jetstream.WithSubjectFilter("events."+string(kind)+".>"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range info.State.Subjects {
		n += c
	}
	return n
}
