package router_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// TestViewersOfOneStreamOnACDN: those above what one stream may have go elsewhere,
// another stream's do not; a router that starts then, or hears of it, knows it as well.
func TestViewersOfOneStreamOnACDN(t *testing.T) {
	b := world(t)
	a := cdn("a", 0, 0)
	a.StreamViewers = 5
	put(t, b.JS, schemas.BucketCDNs, "a", a)
	other := schemas.StreamKey{App: "live", Stream: "other"}
	put(t, b.JS, schemas.BucketStreams, other.KVKey(), state(other, "a"))
	// Nobody plays here, so nobody must be forgotten for that on a busy machine.
	patient := func(s *router.Settings) { s.AliveWindow = 10 * time.Minute }
	one, two := start(t, b.JS, patient), start(t, b.JS, patient)
	elsewhere := func(r instance) string {
		t.Helper()
		var d schemas.Dispatch
		if x := r.get(t, "/v1/dispatch?app=live&stream=other"); json.Unmarshal([]byte(x.body), &d) != nil || x.status != 200 {
			t.Fatalf("dispatch: %d %s", x.status, x.body)
		}
		return d.Candidates[0].CDN
	}
	for i := range 5 {
		if got := one.dispatch(t, "").Candidates[0].CDN; got != "a" {
			t.Fatalf("viewer %d is sent to %s", i, got)
		}
	}
	await.True(t, "the other router knows of them", func() bool { return total(two) == 5 })
	three := start(t, b.JS, patient)
	for name, r := range map[string]instance{"that decided": one, "that heard of it": two, "that starts": three} {
		if got := r.dispatch(t, "").Candidates[0].CDN; got != "b" {
			t.Errorf("the router %s sends the stream's next viewer to %s", name, got)
		}
		if got := elsewhere(r); got != "a" {
			t.Errorf("the router %s sends another stream's viewer to %s", name, got)
		}
	}
}
