package load

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// TestNamesThatPlayersMakeUp: what is no CDN of the registry is not held, and
// one that has left it only while sessions are on it.
func TestNamesThatPlayersMakeUp(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a"}, {Name: "b"}}
	l := New(time.Minute, slog.New(slog.DiscardHandler))
	l.CDNs = func() []schemas.CDN { return cdns }
	now := time.Now()
	l.Answered(&Fact{ID: "s1", CDN: "a", At: now})
	l.Decided(&Fact{ID: "s1", CDN: "a", At: time.UnixMicro(now.UnixMicro())}, now)
	for i := range 100 {
		now = now.Add(time.Millisecond)
		l.Served(&schemas.Slice{SessionID: "s1", CDN: "x" + strconv.Itoa(i), PlayedMs: 1000}, now)
		l.Served(&schemas.Slice{SessionID: "other", CDN: "x" + strconv.Itoa(i), PlayedMs: 1000}, now)
	}
	if len(l.counts.all()) != 1 || l.known.Load() != 1 || l.Where("s1").CDN != "a" {
		t.Errorf("%d CDNs and %d sessions are held, the session is on %q", len(l.counts.all()), l.known.Load(), l.Where("s1").CDN)
	}
	if e := l.health.Estimate("x1", "", "", now); e.Samples != 0 {
		t.Errorf("estimates of a CDN that is none: %+v", e)
	}
	cdns = cdns[1:]
	l.Tick(now)
	if on, _ := l.counts.of("a", ""); on == nil {
		t.Error("the sessions on a CDN that has left the registry are not counted any more")
	}
	l.Tick(now.Add(time.Hour)) // the session is forgotten
	if on, _ := l.counts.of("a", ""); on != nil {
		t.Error("a CDN that has left the registry is held without sessions")
	}
}

// TestSilentSessionsAreForgotten: a window after their last sign of life, and what
// is older than that when it comes counts nobody.
func TestSilentSessionsAreForgotten(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	l := New(time.Minute, slog.New(slog.DiscardHandler))
	l.CDNs, l.Now = func() []schemas.CDN { return []schemas.CDN{{Name: "a"}} }, func() time.Time { return now }
	is := func(what string, want int) {
		t.Helper()
		if v := l.Viewers(now); v["a"] != want {
			t.Errorf("%s: %v on a, want %d", what, v, want)
		}
	}
	l.Answered(&Fact{ID: "silent", CDN: "a", At: now})
	l.Answered(&Fact{ID: "plays", CDN: "a", At: now})
	is("after the answers", 2)
	now = now.Add(50 * time.Second)
	l.Served(&schemas.Slice{SessionID: "plays", CDN: "a", PlayedMs: 1000}, now)
	is("before the window has passed", 2)
	now = now.Add(20 * time.Second)
	l.Served(&schemas.Slice{SessionID: "other", CDN: "a", PlayedMs: 1000}, now) // telemetry flows
	is("when one was silent for the window", 2)
	l.Decided(&Fact{ID: "late", CDN: "a", At: now.Add(-2 * time.Minute)}, now.Add(-2*time.Minute))
	is("with a decision of long ago", 2)
	now = now.Add(50 * time.Second)
	l.Served(&schemas.Slice{SessionID: "other", CDN: "a", PlayedMs: 1000}, now)
	is("when both were", 1)
}
