package load_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// TestTogether: whatever is told at once, while CDNs and regions come and go, the
// counts are those of the sessions in the end.
func TestTogether(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	l, now := newTable(cdns...)
	start := *now
	const tellers, sessions = 8, 300
	var wg sync.WaitGroup
	for n := range tellers {
		wg.Go(func() {
			for i := range sessions {
				id, region := fmt.Sprint("s", n, ".", i), fmt.Sprint("region", i%7)
				l.Answered(&load.Fact{ID: id, CDN: cdns[i%3].Name, Region: region, At: start})
				l.Decided(&load.Fact{ID: id, CDN: cdns[i%3].Name, Region: region, At: start}, start)
				l.Served(&schemas.Slice{SessionID: id, CDN: cdns[(i+1)%3].Name, Region: region, PlayedMs: 1000}, start.Add(time.Second))
				of := cdns[:1+(n+i)%3] // routers' registries change meanwhile
				if got := l.Facts(of, load.Place{Region: region}, 1e6, start.Add(time.Duration(i)*time.Millisecond)); len(got) != len(of) {
					t.Errorf("facts of %d CDNs, want %d", len(got), len(of))
				}
				l.AskAgain("a", time.Minute, start)
				if i%2 == 0 {
					l.Ended(&schemas.Slice{SessionID: id, CDN: "a"}, start.Add(2*time.Second))
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			l.Tick(start.Add(time.Duration(i) * 10 * time.Millisecond))
			l.Viewers(start)
		}
	})
	wg.Wait()
	l.Tick(start.Add(3 * time.Second))
	at := start.Add(3 * time.Second)
	all, byRegion := 0, 0
	for _, n := range l.Viewers(at) {
		all += n
	}
	for i := range 7 {
		for _, f := range l.Facts(cdns, load.Place{Region: fmt.Sprint("region", i)}, 1e6, at) {
			byRegion += f.RegionViewers
		}
	}
	if want := tellers * sessions / 2; all != want || byRegion != want {
		t.Errorf("%d viewers in all, %d by region, %d sessions", all, byRegion, want)
	}
	l.Tick(start.Add(2 * time.Hour))
	if left := l.Viewers(start.Add(2 * time.Hour)); len(left) != 0 {
		t.Errorf("sessions without a sign of life are counted: %v", left)
	}
}
