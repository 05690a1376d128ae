package router_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/router"
)

// TestClocksOfRoutersDiffer: routers on machines whose clocks are five minutes ahead
// and behind answer as one whose clock is right: they know the same sessions, invent
// no penalties, let sessions last as long, and judge CDNs by the same reports.
func TestClocksOfRoutersDiffer(t *testing.T) {
	b := world(t)
	skews := []time.Duration{0, 5 * time.Minute, -5 * time.Minute}
	registries := make([]*prometheus.Registry, len(skews))
	begin := func(i int) instance {
		s := settings(t, b.JS, func(s *router.Settings) { s.Policy = "quality" })
		registries[i] = s.Registerer.(*prometheus.Registry)
		return run(t, s, func(r *router.Router) {
			r.SetOwnClock(func() time.Time { return time.Now().Add(skews[i]) })
		})
	}
	routers := make([]instance, len(skews))
	for i := range skews {
		routers[i] = begin(i)
	}
	var ids []string
	for i := range 12 {
		d := routers[i%3].dispatch(t, "&pin=a")
		ids = append(ids, d.SessionID)
		if left := time.Until(time.Unix(d.ExpiresUnix, 0)); left < 11*time.Hour || left > 12*time.Hour+time.Minute {
			t.Errorf("a session of router %d lasts %v, want 12 h", i%3, left)
		}
	}
	same := func(what string, want map[string]int) {
		t.Helper()
		await.Text(t, what, func() string {
			for i, r := range routers {
				if got := r.Viewers(); !reflect.DeepEqual(got, want) {
					return fmt.Sprintf("router %d counts %v, want %v", i, got, want)
				}
			}
			return ""
		})
	}
	same("all know the sessions of all", map[string]int{"a": 12})
	for i := range routers { // one that starts reads the same
		routers[i].stop()
		routers[i] = begin(i)
	}
	same("all know them when they start again", map[string]int{"a": 12})

	var reports []schemas.Slice // b stalls
	for i, id := range ids {
		reports = append(reports, schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: "ab"[i%2 : i%2+1], PlayedMs: 9000, StalledMs: int64(i%2) * 900})
	}
	data, err := schemas.EncodeSlices(reports)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
		t.Fatal(err)
	}
	same("all know where they are served", map[string]int{"a": 6, "b": 6})
	steers := func(r instance, st token.Steering) (steeringList, token.Steering) {
		st.Session = token.Session{SessionID: newSigner(t).NewSessionID(), App: key.App, Stream: key.Stream, ExpiresUnix: time.Now().Add(time.Hour).Unix()}
		tok, err := newSigner(t).SignSteering(st)
		if err != nil {
			t.Fatal(err)
		}
		list := r.steer(t, "/v1/steering?s="+tok, "&_HLS_pathway=b")
		return list, steeringState(t, list.Reload+`"`)
	}
	for i, r := range routers {
		await.Text(t, "the CDN that stalls comes last", func() string { // estimates are made anew each second
			d := r.dispatch(t, "")
			if n := len(d.Candidates); n != 3 || d.Candidates[n-1].CDN != "b" || d.InputAgeMs < 0 || d.InputAgeMs > 200_000 {
				return fmt.Sprintf("router %d, from telemetry of %d ms ago: %+v", i, d.InputAgeMs, d.Candidates)
			}
			return ""
		})
		// By a router a minute from now, so that no wait in this test makes a penalty of it.
		if list, st := steers(r, token.Steering{Format: "hls", Sent: "a", SentUnix: time.Now().Add(time.Minute).Unix()}); len(st.Penalties) != 0 {
			t.Errorf("router %d invents penalties: %v, %v", i, st.Penalties, list.Priority)
		}
		list, st := steers(r, token.Steering{Format: "hls", Sent: "a", SentUnix: time.Now().Add(-time.Minute).Unix()})
		if until := time.Until(time.Unix(st.Penalties["a"], 0)); strings.Join(list.Priority, " ") != "c b a" || until < 3*time.Minute || until > 6*time.Minute {
			t.Errorf("router %d of a player that left a: %v, penalty for %v", i, list.Priority, until)
		}
		if ahead := running.Sum(t, registries[i], "spillway_router_clock_offset_seconds"); ahead < -skews[i].Seconds()-30 || ahead > -skews[i].Seconds()+30 {
			t.Errorf("router %d says that the bus is %v s ahead, want %v", i, ahead, -skews[i])
		}
	}
}
