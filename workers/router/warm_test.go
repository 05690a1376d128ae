package router_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// TestSpillIsForetold: before a CDN is full, routers say where its streams will
// spill to; when it is full, sessions prefer a CDN whose caches hold the stream, and
// where nobody says so they spill all the same.
func TestSpillIsForetold(t *testing.T) {
	b := world(t)
	full := cdn("a", 0, 0)
	full.CapacityViewers = 10
	put(t, b.JS, schemas.BucketCDNs, "a", full)
	said := make(chan *nats.Msg, 100)
	if _, err := b.Conn.ChanSubscribe(schemas.SubjectWarm, said); err != nil {
		t.Fatal(err)
	}
	r := start(t, b.JS)
	dispatch := func() string { return r.dispatch(t, "").Candidates[0].CDN }
	for i := range 10 {
		if i == 8 && len(said) > 0 {
			t.Fatal("foretold with a fifth of the capacity free")
		}
		if got := dispatch(); got != "a" {
			t.Fatalf("session %d is sent to %s", i, got)
		}
	}
	var first *nats.Msg
	await.True(t, "what will spill is said", func() bool {
		select {
		case first = <-said:
		default:
		}
		return first != nil
	})
	all, err := schemas.DecodeWarm(first.Data)
	want := schemas.Warm{App: key.App, Stream: key.Stream, CDN: "b"}
	if err != nil || fmt.Sprint(all) != fmt.Sprint([]schemas.Warm{want}) {
		t.Fatalf("%+v, %v", all, err)
	}
	if got := dispatch(); got != "b" {
		t.Errorf("spilled to %s without a word of warm caches", got)
	}
	want.CDN = "c"
	warmed, err := json.Marshal([]schemas.Warm{want})
	if err != nil {
		t.Fatal(err)
	}
	await.True(t, "sessions spill to the CDN that is warm", func() bool {
		if err := b.Conn.Publish(schemas.SubjectWarmed, warmed); err != nil {
			t.Fatal(err)
		}
		return dispatch() == "c"
	})
	await.True(t, "and to the next one when it is warm no more", func() bool { return dispatch() == "b" })
}
