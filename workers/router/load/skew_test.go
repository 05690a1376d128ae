package load_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// TestClocksOfRoutersMayDiffer: three routers, one with a clock that is 20 s
// ahead and one with a clock that is 20 s behind, know the same of every session
// once the bus has told them, whichever of them decided, and answer alike.
func TestClocksOfRoutersMayDiffer(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a", CapacityViewers: 100}, {Name: "b", CapacityViewers: 100}}
	skews := []time.Duration{0, 20 * time.Second, -20 * time.Second}
	bus := time.Unix(1_795_000_000, 0)
	var routers []*load.Table
	for _, skew := range skews {
		l, now := newTable(cdns...)
		*now = bus.Add(skew)
		routers = append(routers, l)
	}
	decide := func(by int, id, cdn string, at time.Time) {
		f := load.Fact{ID: id, CDN: cdn, Region: "eu", At: at.Add(skews[by])}
		routers[by].Answered(&f)
		for _, l := range routers {
			l.Decided(&f, at)
		}
	}
	served := func(id, cdn string, at time.Time) {
		for _, l := range routers {
			l.Served(&schemas.Slice{SessionID: id, CDN: cdn, Region: "eu", PlayedMs: 1000}, at)
		}
	}
	for by := range routers {
		stays, goes := fmt.Sprint("stays", by), fmt.Sprint("goes", by)
		decide(by, stays, "a", bus)
		decide(by, goes, "a", bus)
		decide((by+1)%3, stays, "b", bus.Add(5*time.Second)) // sent on by another
		served(stays, "b", bus.Add(20*time.Second))
		served(goes, "a", bus.Add(20*time.Second))
		served(goes, "b", bus.Add(35*time.Second)) // left of itself
	}
	at := bus.Add(36 * time.Second)
	for i, l := range routers {
		l.Tick(at)
		for by := range routers {
			if x := l.Where(fmt.Sprint("stays", by)); x.CDN != "b" || x.Left != "" || !x.Stored.Equal(bus.Add(5*time.Second)) || !x.Moved.Equal(bus.Add(5*time.Second)) {
				t.Errorf("router %d of a session that router %d began: %+v", i, by, x)
			}
			if x := l.Where(fmt.Sprint("goes", by)); x.CDN != "b" || x.Left != "a" || !x.Stored.Equal(bus) {
				t.Errorf("router %d of a session that router %d began: %+v", i, by, x)
			}
		}
		if got, want := l.Facts(cdns, load.Place{Region: "eu"}, 1e6, at), routers[0].Facts(cdns, load.Place{Region: "eu"}, 1e6, at); !reflect.DeepEqual(got, want) {
			t.Errorf("router %d knows %+v, want %+v", i, got, want)
		}
	}
}
