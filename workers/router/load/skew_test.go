package load_test

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// TestClocksOfRoutersMayDiffer: three routers go by the bus's time, which two of them
// have wrong by a tenth of a second, more than is left when it is measured; a fourth is
// of a version that went by its own clock, which is 20 s ahead. They know the same of
// every session once the bus has told them, whichever of them decided, and answer alike.
func TestClocksOfRoutersMayDiffer(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a", CapacityViewers: 100}, {Name: "b", CapacityViewers: 100}}
	wrong := []time.Duration{0, 100 * time.Millisecond, -100 * time.Millisecond, 20 * time.Second}
	bus := time.Unix(1_795_000_000, 0)
	at := bus
	var routers []*load.Table
	for i := range wrong[:3] {
		l := load.New(90*time.Second, slog.New(slog.DiscardHandler))
		l.CDNs = func() []schemas.CDN { return cdns }
		l.Now = func() time.Time { return at.Add(wrong[i]) }
		routers = append(routers, l)
	}
	to := func(next time.Time) {
		for ; at.Before(next); at = at.Add(time.Second) {
			for _, l := range routers {
				l.Tick(l.Now())
			}
		}
	}
	decide := func(by int, id, cdn string) {
		f := load.Fact{ID: id, CDN: cdn, Region: "eu", At: at.Add(wrong[by])}
		if by < len(routers) {
			routers[by].Answered(&f)
		}
		for _, l := range routers {
			l.Decided(&f, at)
		}
	}
	served := func(id, cdn string) {
		for i, l := range routers {
			l.Served(&schemas.Slice{SessionID: id, CDN: cdn, Region: "eu", PlayedMs: 900, StalledMs: 100}, at)
			l.Measured(id, cdn, load.Place{Region: "eu"}, 5e6, at.Add(wrong[i]))
		}
	}
	each := func(does func(by int, stays, goes string)) {
		for by := range wrong {
			does(by, fmt.Sprint("stays", by), fmt.Sprint("goes", by))
		}
	}
	each(func(by int, stays, goes string) { decide(by, stays, "a"); decide(by, goes, "a") })
	to(bus.Add(5 * time.Second))
	each(func(by int, stays, _ string) { decide((by+1)%len(wrong), stays, "b") }) // sent on by another
	to(bus.Add(20 * time.Second))
	each(func(_ int, stays, goes string) { served(stays, "b"); served(goes, "a") })
	to(bus.Add(35 * time.Second))
	each(func(_ int, _, goes string) { served(goes, "b") }) // left of itself
	to(bus.Add(36 * time.Second))
	want := routers[0].Facts(cdns, load.Place{Region: "eu"}, 1e6, routers[0].Now())
	for i, l := range routers {
		each(func(by int, stays, goes string) {
			if x := l.Where(stays); x.CDN != "b" || x.Left != "" || !x.Stored.Equal(bus.Add(5*time.Second)) || !x.Moved.Equal(bus.Add(5*time.Second)) {
				t.Errorf("router %d of a session that router %d began: %+v", i, by, x)
			}
			if x := l.Where(goes); x.CDN != "b" || x.Left != "a" || !x.Stored.Equal(bus) {
				t.Errorf("router %d of a session that router %d began: %+v", i, by, x)
			}
		})
		for c, got := range l.Facts(cdns, load.Place{Region: "eu"}, 1e6, l.Now()) {
			w := want[c]
			near := func(a, b float64) bool { return math.Abs(a-b) <= 0.01*max(math.Abs(a), math.Abs(b)) }
			if got.Viewers != w.Viewers || got.RegionViewers != w.RegionViewers || got.Failing != w.Failing || math.Abs(got.AgeSec-w.AgeSec) > 0.3 ||
				!near(got.StallRatio, w.StallRatio) || !near(got.Samples, w.Samples) || !near(got.Growth, w.Growth) || !near(got.ThroughputBps, w.ThroughputBps) {
				t.Errorf("router %d knows of %s %+v, want %+v", i, cdns[c].Name, got, w)
			}
		}
		if v := l.Viewers(l.Now().Add(50 * time.Second)); v["b"] != 2*len(wrong) {
			t.Errorf("router %d has forgotten sessions: %v", i, v)
		}
	}
}
