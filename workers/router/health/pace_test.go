package health_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// TestPlayersComparedWithThemselves: where more players than usual measure much less than
// they did, on one CDN alone, it is in doubt, seconds before the mean tells; where
// many do and something is lost, too, it fails. A quarter of the groups moves nothing.
func TestPlayersComparedWithThemselves(t *testing.T) {
	every := func(n int) func(i, second int) bool { return func(i, _ int) bool { return i%n == 0 } }
	for _, x := range []struct {
		name           string
		a, b           func(i, second int) bool // whether a player measures much less in the last seconds
		stalledMs      int64                    // of ten seconds, on a
		seconds        int
		doubted, fails bool
	}{
		{name: "as ever", a: every(50), b: every(50), seconds: 4},
		{name: "a tenth on one", a: every(10), b: every(50), seconds: 4, doubted: true},
		{name: "a tenth on all", a: every(10), b: every(10), seconds: 4},
		{name: "most on one, and nothing is lost", a: every(1), b: every(50), seconds: 8, doubted: true},
		{name: "most on one, and some of it is lost", a: every(1), b: every(50), stalledMs: 2500, seconds: 8, doubted: true, fails: true},
		{name: "some is lost, and few measure less", a: every(10), b: every(50), stalledMs: 2500, seconds: 8, doubted: true},
		{name: "four groups of liars", a: func(i, second int) bool { return i%health.Groups < 4 || (i+second)%50 == 0 }, b: every(50), seconds: 8},
	} {
		h := health.New()
		now := start
		run := func(seconds int, a, b func(i, second int) bool, stalledMs int64) {
			for second := range seconds {
				now = now.Add(time.Second)
				for i := range 160 {
					for cdn, falls := range map[string]func(i, second int) bool{"a": a, "b": b} {
						s := report(cdn, "eu", "x", 0)
						if cdn == "a" {
							s = report(cdn, "eu", "x", stalledMs)
						}
						h.Add(s, uint8(i), now)
						factor := 1.0
						if falls(i, second) {
							factor = 0.5
						}
						h.Compared(cdn, factor, uint8(i), now)
					}
				}
			}
		}
		usual := func(i, second int) bool { return (i+second)%50 == 0 }
		run(60, usual, usual, 0)
		run(x.seconds, x.a, x.b, x.stalledMs)
		h.Judge([]string{"a", "b"}, now)
		if is, _, _ := h.Failing("a", now); is != x.fails || h.DoubtedUntil("a").After(now) != x.doubted || h.DoubtedUntil("b").After(now) {
			t.Errorf("%s: in doubt %v and %v, failing %v", x.name, h.DoubtedUntil("a").After(now), h.DoubtedUntil("b").After(now), is)
		}
	}
	h := health.New()
	h.Compared("nobody knows it", 0.1, 0, start)
	h.Add(&schemas.Slice{CDN: "a", PlayedMs: 1}, 0, start)
	for range 19 { // fewer than tell anything
		h.Compared("a", 0.1, 0, start)
	}
	if h.Judge([]string{"a", "b"}, start); h.DoubtedUntil("a").After(start) {
		t.Error("nineteen told is enough")
	}
}
