package load_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// TestAllOnTheCDNThatHangs: nobody is on another, so that only our own probes say
// that others serve. Where those fail, too, or are not made, it is no CDN's fault.
func TestAllOnTheCDNThatHangs(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a"}, {Name: "b"}}
	for _, x := range []struct {
		name           string
		probes, failed bool // of b
		fails          bool
	}{{"b answers", true, false, true}, {"b does not", true, true, false}, {"nobody asks b", false, false, false}} {
		l, now := newTable(cdns...)
		after := 0
		for s := range 32 {
			l.Answered(&load.Fact{ID: "s" + strconv.Itoa(s), CDN: "a", Group: uint8(s % 16), At: *now})
		}
		for i := range 120 {
			*now = now.Add(time.Second)
			for s := range 32 {
				slice := schemas.Slice{SessionID: "s" + strconv.Itoa(s), CDN: "a", PlayedMs: 1000}
				if i >= 60 {
					slice.PlayedMs, slice.StalledMs = 0, 1000
				}
				l.Served(&slice, *now)
			}
			if x.probes && i%5 == 0 {
				l.Synthetic("a", i >= 60, *now)
				l.Synthetic("b", x.failed && i >= 60, *now)
			}
			l.Tick(*now)
			if l.Facts(cdns, load.Place{}, 1e6, *now)[0].Failing && after == 0 {
				after = i - 59
			}
		}
		if x.fails != (after > 0) || after > 15 {
			t.Errorf("%s: a is failing after %d s (0: never)", x.name, after)
		}
	}
}
