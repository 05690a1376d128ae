package load_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// TestPlayersAreComparedOnTheirCDN: what players measure is held against what each of
// them told before of the same CDN: not of another, and not by another of its sources.
func TestPlayersAreComparedOnTheirCDN(t *testing.T) {
	const players = 160
	ttl := 10 * time.Second
	for _, x := range []struct {
		name    string
		last    func(l *load.Table, id string, kbps int64, now time.Time) // what a player says at the end
		doubted bool
	}{
		{"as before", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Measured(id, "a", load.Place{}, 1000*kbps, now)
		}, false},
		{"less when it asks", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Measured(id, "a", load.Place{}, 1000*kbps*9/10/2, now)
		}, true},
		{"less in its report", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Served(slower(id, "a", kbps/4), now)
		}, true},
		{"as ever in its report, which counts otherwise", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Served(slower(id, "a", kbps/2), now)
		}, false},
		{"less, on the CDN that it has moved to", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Answered(&load.Fact{ID: id, CDN: "b", At: now.Add(-time.Minute)})
			l.Measured(id, "b", load.Place{}, 100*kbps, now)
		}, false},
		{"less and less, soon after it has moved: both CDNs are in that", func(l *load.Table, id string, kbps int64, now time.Time) {
			l.Answered(&load.Fact{ID: id, CDN: "b", At: now.Add(-12 * time.Second)})
			l.Measured(id, "b", load.Place{}, 1000*kbps, now)
			l.Measured(id, "b", load.Place{}, 500*kbps, now.Add(5*time.Second))
		}, false},
	} {
		l, now := newTable(schemas.CDN{Name: "a"}, schemas.CDN{Name: "b"})
		rate := func(i int) int64 { return 500 + 100*int64(i) } // kbit/s: players differ more than what befalls them
		for i := range players {
			l.Answered(&load.Fact{ID: "s" + strconv.Itoa(i), CDN: "a", Group: uint8(i % 16), At: *now})
		}
		for range 12 {
			*now = now.Add(5 * time.Second)
			for i := range players {
				id := "s" + strconv.Itoa(i)
				l.Measured(id, "a", load.Place{}, 1000*rate(i), *now)
				l.Served(slower(id, "a", rate(i)/2), *now)
			}
			l.Tick(*now)
		}
		*now = now.Add(5 * time.Second)
		for i := range players / 8 * 2 { // the first of each group: a quarter of the players
			x.last(l, "s"+strconv.Itoa(i), rate(i), *now)
		}
		*now = now.Add(5 * time.Second)
		l.Tick(*now)
		for _, cdn := range []string{"a", "b"} {
			if doubted := l.AskAgain(cdn, ttl, *now) < ttl; doubted != (x.doubted && cdn == "a") {
				t.Errorf("%s: %s in doubt: %v", x.name, cdn, doubted)
			}
		}
	}
}

func slower(id, cdn string, kbps int64) *schemas.Slice {
	return &schemas.Slice{SessionID: id, CDN: cdn, PlayedMs: 5000, ThroughputKbpsSum: 3 * kbps, ThroughputReports: 3}
}
