package router_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// A session ends when it was said to; its player then begins another.
func TestSessionsEnd(t *testing.T) {
	b := world(t)
	r := start(t, b.JS, func(s *router.Settings) { s.TokenTTL = time.Second })
	d := r.dispatch(t, "")
	await.True(t, "the session has ended", func() bool { return r.get(t, "/v1/steering?s="+d.Token).status >= 400 })
	if _, err := newSigner(t).ParseSession(d.Token, time.Now()); err == nil {
		t.Error("steering is refused while the session's token is good")
	}
	if again := r.dispatch(t, ""); again.SessionID == d.SessionID {
		t.Error("a new dispatch gives the session that has ended")
	}
	for _, ttl := range []time.Duration{-1, router.MaxTokenTTL + 1} {
		if _, err := router.New(router.Settings{JS: b.JS, Signer: newSigner(t), ViewerSalt: make([]byte, 16), TokenTTL: ttl}); err == nil {
			t.Errorf("sessions of %v are taken", ttl)
		}
	}
}
