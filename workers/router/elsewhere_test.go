package router

import (
	"log/slog"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/load"
)

// A session that another region's router sent somewhere counts there at once, with its
// group for how the CDN serves; what comes late undoes nothing; and what has another
// key's id counts nowhere, as its group was made with another key, too.
func TestDecisionsOfOtherRegions(t *testing.T) {
	key := func(text string) *token.Signer {
		s, err := token.NewSigner([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	signer, other := key("0123456789abcdef"), key("fedcba9876543210")
	l := newFollower(nil, time.Minute, slog.New(slog.DiscardHandler), signer)
	l.CDNs = func() []schemas.CDN { return []schemas.CDN{{Name: "a"}, {Name: "b"}} }
	now := time.Now()
	where := func(id, cdn string, agoMs int64) schemas.Where {
		return schemas.Where{TimeUs: now.UnixMicro() - agoMs*1000, SessionID: id, CDN: cdn, Group: 3, Region: "eu"}
	}
	one, two, theirs := signer.NewSessionID(), signer.NewSessionID(), other.NewSessionID()
	var data []byte
	data = schemas.AppendElsewhere(data, 0, where(one, "a", 0))
	data = schemas.AppendElsewhere(data, 2*time.Second, where(two, "a", 2000))
	data = schemas.AppendElsewhere(data, 5*time.Second, where(two, "b", 5000)) // later on the bus, and older
	data = schemas.AppendElsewhere(data, 0, where(theirs, "b", 0))
	data = schemas.AppendElsewhere(data, 2*time.Minute, where(signer.NewSessionID(), "b", 120_000)) // past the window
	l.elsewhere(append(data, "no line\n"...), now)
	if v := l.Viewers(now); len(v) != 1 || v["a"] != 2 {
		t.Fatalf("viewers %v, want two on a", v)
	}
	l.onWheres([]string{where(theirs, "b", 0).String(), where(two, "b", 3000).String()}, schemas.StreamKey{}, now.Add(-3*time.Second), true)
	if v := l.Viewers(now); v["a"] != 2 || v["b"] != 0 || l.foreign.Load() != 2 {
		t.Errorf("viewers %v, %d decisions of another key, want 2", v, l.foreign.Load())
	}
	l.elsewhere(data, now) // brought twice: no more than once
	if v := l.Viewers(now); v["a"] != 2 || v["b"] != 0 {
		t.Errorf("viewers %v after a repeat", v)
	}
	// Of another region's session it is known how it is served; of one that nobody began it is not.
	for range 20 {
		l.Served(&schemas.Slice{SessionID: one, CDN: "a", Region: "eu", PlayedMs: 5000, StalledMs: 5000}, now)
		l.Served(&schemas.Slice{SessionID: signer.NewSessionID(), CDN: "b", Region: "eu", PlayedMs: 5000, StalledMs: 5000}, now)
	}
	of := func(cdn string) schemas.CDNHealth { return l.Health(cdn, load.Place{Region: "eu"}, now) }
	if a, b := of("a"), of("b"); a.StallRatio.Value < 0.4 || b.StallRatio.Value != 0 {
		t.Errorf("stall ratios %v and %v", a.StallRatio, b.StallRatio)
	}
}
