package router_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// TestAllFull: at nine tenths of all capacity new sessions get fewer bits, at all
// of it they wait in one order for all routers, and come in as places come free.
func TestAllFull(t *testing.T) {
	b := world(t)
	for i, n := range []string{"a", "b", "c"} {
		x := cdn(n, i, 0)
		x.CapacityViewers = 5
		put(t, b.JS, schemas.BucketCDNs, n, x)
	}
	put(t, b.JS, schemas.BucketRenditions, key.KVKey()+".360p", low(key))
	// Nobody plays here, so nobody must be forgotten for that on a busy machine.
	patient := func(s *router.Settings) { s.AliveWindow = 10 * time.Minute }
	one, two := start(t, b.JS, patient), start(t, b.JS, patient)
	routers := []instance{one, two}
	var sessions []schemas.Dispatch
	for i := range 15 {
		r := routers[i%2]
		d := r.dispatch(t, "")
		sessions = append(sessions, d)
		n := i + 1
		await.True(t, "both know of the session", func() bool { return total(one) == n && total(two) == n })
	}
	if v := one.Viewers(); v["a"] != 5 || v["b"] != 5 || v["c"] != 5 {
		t.Fatalf("viewers %v", v)
	}
	if m := one.get(t, sessions[14].URL); strings.Contains(m.body, "/src/video") || !strings.Contains(m.body, "/360p/video") {
		t.Errorf("all is full, and the playlist has what is above the cap:\n%s", m.body)
	}
	// Nobody is sent where there is no room. Tickets keep the order, at any router. One holds for 30 s and each answer
	// has the next, so who waits must ask with the newest.
	newest := map[int64]string{}
	ask := func(r instance, ticket string) (schemas.Wait, *schemas.Dispatch) {
		t.Helper()
		a := r.get(t, "/v1/dispatch?app=live&stream=demo&ticket="+ticket)
		if a.status == 200 {
			var d schemas.Dispatch
			if err := json.Unmarshal([]byte(a.body), &d); err != nil {
				t.Fatal(err)
			}
			return schemas.Wait{}, &d
		}
		var e schemas.ErrorAnswer
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != 503 || e.Wait == nil || a.header.Get("Retry-After") != fmt.Sprint(e.Wait.RetryAfterSec) {
			t.Fatalf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
		}
		newest[e.Wait.SinceMs] = e.Wait.Ticket
		return *e.Wait, nil
	}
	again := func(r instance, w *schemas.Wait) (schemas.Wait, *schemas.Dispatch) { return ask(r, newest[w.SinceMs]) }
	// What may be watched next takes no place, neither at a CDN nor in the queue.
	if a := one.get(t, "/v1/dispatch?app=live&neighbours=demo"); a.status != 200 || strings.Contains(a.body, `"demo"`) {
		t.Errorf("neighbours when all is full: %d %s", a.status, a.body)
	}
	first, _ := ask(one, "")
	if first.Position != 1 {
		t.Errorf("the first is at place %d", first.Position)
	}
	await.True(t, "another millisecond: the order of tickets", func() bool { return time.Now().UnixMilli() > first.SinceMs })
	second, _ := ask(one, "")
	await.True(t, "they stand in order", func() bool {
		x, _ := again(one, &first)
		y, _ := again(one, &second)
		return x.Position == 1 && y.Position == 2
	})
	if a := two.get(t, "/v1/play/live/demo/multivariant.m3u8"); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("playlist: %d %s", a.status, a.body)
	}
	await.True(t, "the other router knows the order", func() bool {
		again(one, &first)
		w, in := again(two, &second)
		return in == nil && w.Position == 2 && w.SinceMs == second.SinceMs
	})
	if _, in := ask(two, "forged"); in != nil {
		t.Error("a forged ticket lets in")
	}
	if w, in := ask(two, newest[second.SinceMs]+"&viewer=another"); in != nil || w.SinceMs <= second.SinceMs {
		t.Error("another viewer has the place of a ticket")
	}
	// Sessions that play go on.
	if a := one.get(t, "/v1/steering?s="+sessions[0].Token); a.status != 200 {
		t.Errorf("steering: %d %s", a.status, a.body)
	}
	// One leaves: the first comes in, and nobody else.
	await.True(t, "the other router knows who is first", func() bool {
		again(one, &first)
		w, in := again(two, &second)
		return in == nil && w.Position == 2
	})
	end(t, b.JS, &sessions[3])
	await.True(t, "one place is free", func() bool { return total(one) == 14 && total(two) == 14 })
	if _, in := again(two, &second); in != nil {
		t.Error("the second in the queue comes in before the first")
	}
	await.True(t, "the first comes in", func() bool { _, in := again(one, &first); return in != nil })
	if v := total(one); v != 15 {
		t.Errorf("%d viewers", v)
	}
	if w, in := ask(one, newest[first.SinceMs]); in != nil || w.SinceMs <= first.SinceMs {
		t.Error("a ticket that has let in keeps its place")
	}
	await.True(t, "its decision says how long it waited", func() bool {
		for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
			if d.QueuedMs > 0 && d.CapBps == schemas.DefaultCapBps {
				return true
			}
		}
		return false
	})
	// An application that wants nobody to wait.
	put(t, b.JS, schemas.BucketApps, "live", schemas.AppSettings{WhenFull: &schemas.WhenFull{Steps: []string{}}})
	await.True(t, "nobody waits", func() bool { _, in := ask(one, ""); return in != nil })
}

func total(r instance) int {
	n := 0
	for _, v := range r.Viewers() {
		n += v
	}
	return n
}

// low is a rendition below any cap.
func low(k schemas.StreamKey) schemas.RenditionState {
	s := state(k, "a")
	s.Epoch.Rendition = "360p"
	s.Epoch.Tracks = s.Epoch.Tracks[:1]
	return schemas.RenditionState{
		App: k.App, Stream: k.Stream, Rendition: "360p", Live: true, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(), Epoch: s.Epoch, AverageBps: 400_000, PeakBps: 500_000,
	}
}

// end says that a session has ended.
func end(t *testing.T, js jetstream.JetStream, d *schemas.Dispatch) {
	t.Helper()
	data, err := schemas.EncodeSlices([]schemas.Slice{{Kind: schemas.SliceFinal, SessionID: d.SessionID, CDN: d.Candidates[0].CDN}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
		t.Fatal(err)
	}
}
