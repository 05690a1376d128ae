package router_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/router"
)

// TestSessioniserIsGone: the last slices are of longer ago than sessions count, and the
// sessions they told of stay counted, also at a router that starts now.
func TestSessioniserIsGone(t *testing.T) {
	b := bustest.Start(t)
	for i, n := range []string{"a", "b"} {
		put(t, b.JS, schemas.BucketCDNs, n, cdn(n, i, 0))
	}
	registry := prometheus.NewRegistry()
	brief := func(s *router.Settings) { s.AliveWindow, s.Registerer = 4*time.Second, registry }
	r := start(t, b.JS, brief)
	var told []schemas.Slice
	for range 20 {
		told = append(told, schemas.Slice{Kind: schemas.SliceDelta, SessionID: newSigner(t).NewSessionID(), CDN: "b", PlayedMs: 1000})
	}
	data, err := schemas.EncodeSlices(told)
	if err != nil {
		t.Fatal(err)
	}
	await.True(t, "the sessions are known", func() bool {
		if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
			t.Fatal(err)
		}
		return r.Viewers()["b"] == 20
	})
	await.True(t, "they are held", func() bool { return running.Sum(t, registry, "spillway_router_sessions_held") == 20 })
	registry = prometheus.NewRegistry()
	next := start(t, b.JS, brief)
	if one, two := r.Viewers()["b"], next.Viewers()["b"]; one != 20 || two != 20 {
		t.Errorf("%d sessions are known, and %d to a router that starts now, want 20", one, two)
	}
}
