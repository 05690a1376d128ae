package router_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// TestOnlyReportsThatCountAreTold: the second of a session within the time is no load for other routers.
func TestOnlyReportsThatCountAreTold(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	heard := make(chan string, 10)
	sub, err := b.JS.Conn().Subscribe(schemas.SubjectProbes, func(m *nats.Msg) {
		var p struct {
			ID string `json:"session_id"`
		}
		_ = json.Unmarshal(m.Data, &p)
		heard <- p.ID
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.JS.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	one, two := r.dispatch(t, ""), r.dispatch(t, "")
	for _, d := range []schemas.Dispatch{one, one, one, two} { // the last ends it
		if a := r.post(t, d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a", FirstByteMs: 5, TotalMs: 6}}}); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, want := range []string{one.SessionID, two.SessionID} {
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("told of %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
		}
	}
}
