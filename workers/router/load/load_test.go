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
	l.Tick(now.Add(2 * time.Minute)) // the session is forgotten
	if on, _ := l.counts.of("a", ""); on != nil {
		t.Error("a CDN that has left the registry is held without sessions")
	}
}

// TestGoesOnWithoutTelemetry: when slices stop, the last state holds, its age
// grows whatever routers go on deciding, and estimates fade to nothing known.
func TestGoesOnWithoutTelemetry(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a", State: schemas.CDNActive}}
	now := time.Unix(1_795_000_000, 0)
	l := New(time.Hour, slog.New(slog.DiscardHandler))
	l.CDNs, l.Now = func() []schemas.CDN { return cdns }, func() time.Time { return now }
	for i := range 20 {
		id := "s" + strconv.Itoa(i)
		l.Decided(&Fact{ID: id, CDN: "a", At: now}, now)
		l.Served(&schemas.Slice{SessionID: id, CDN: "a", PlayedMs: 9000, StalledMs: 1000}, now)
	}
	for _, after := range []time.Duration{0, 30 * time.Second, 5 * time.Minute} {
		at := now.Add(after)
		l.Answered(&Fact{ID: "s0", CDN: "a", At: at})
		l.Decided(&Fact{ID: "s1", CDN: "a", At: at}, at)
		f := l.Facts(cdns, Place{}, 1e6, at)[0]
		if f.Viewers != 20 || l.AgeMs(at) != after.Milliseconds() {
			t.Errorf("after %v: %+v, age %d ms", after, f, l.AgeMs(at))
		}
		if after < time.Minute && (f.StallRatio < 0.09 || f.StallRatio > 0.11 || f.AgeSec != after.Seconds()) {
			t.Errorf("after %v: stall ratio %v, %v s old", after, f.StallRatio, f.AgeSec)
		}
		if after > time.Minute && f.Samples > 0.5 {
			t.Errorf("after %v: %v samples", after, f.Samples)
		}
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
	is("when one was silent for the window", 1)
	l.Decided(&Fact{ID: "late", CDN: "a", At: now.Add(-2 * time.Minute)}, now.Add(-2*time.Minute))
	is("with a decision of long ago", 1)
	now = now.Add(time.Minute)
	is("when both were", 0)
}
