package load_test

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

func newTable(cdns ...schemas.CDN) (*load.Table, *time.Time) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := load.New(time.Hour, slog.New(slog.DiscardHandler))
	l.Now, l.CDNs = func() time.Time { return now }, func() []schemas.CDN { return cdns }
	return l, &now
}

// TestProbesCount: what clients could not reach shows in the estimates of their
// place, once a session; a few that lie move nothing, however often they report.
func TestProbesCount(t *testing.T) {
	cdns := []schemas.CDN{{Name: "a"}, {Name: "b"}}
	l, now := newTable(cdns...)
	place := load.Place{Region: "eu", ISP: "x"}
	report := func(id string, group uint8, failed bool) bool {
		return l.Probed(&load.Probe{ID: id, Place: place, Group: group, Results: []schemas.ProbeResult{{CDN: "a", Failed: failed}, {CDN: "b"}}}, *now)
	}
	if report("s1", 0, true) {
		t.Error("a session that no router began counts")
	}
	begin := func(i int) string {
		id := "s" + strconv.Itoa(i)
		l.Answered(&load.Fact{ID: id, CDN: "b", Region: "eu", Group: uint8(i % 16), At: *now})
		return id
	}
	for i := range 160 {
		if !report(begin(i), uint8(i%16), false) {
			t.Fatal("an honest report does not count")
		}
	}
	ratio := func() (a, b float64) {
		*now = now.Add(time.Second)
		f := l.Facts(cdns, place, 1e6, *now)
		return f[0].StartFailRatio, f[1].StartFailRatio
	}
	if report("s1", 1, true) {
		t.Error("a second report of a session within half a minute counts")
	}
	for i := 1000; i < 1600; i++ { // one prefix, any number of sessions
		report(begin(i*16), 0, true)
	}
	if a, b := ratio(); a > 0.02 || b > 0.02 {
		t.Errorf("liars of one group of prefixes: %v, %v", a, b)
	}
	for i := 2000; i < 2480; i++ {
		report(begin(i), uint8(i%16), true)
	}
	if a, b := ratio(); a < 0.5 || b > 0.02 {
		t.Errorf("nobody reaches a: %v, %v", a, b)
	}
}

// TestLeftOfItself: a player that is seen elsewhere without having been sent has
// failed where it was.
func TestLeftOfItself(t *testing.T) {
	l, now := newTable(schemas.CDN{Name: "a"}, schemas.CDN{Name: "b"})
	at := *now
	l.Answered(&load.Fact{ID: "s1", CDN: "a", At: at})
	l.Decided(&load.Fact{ID: "s1", CDN: "a", At: time.UnixMicro(at.UnixMicro())}, at)
	seen := func(cdn string, after time.Duration) load.Whereabouts {
		*now = now.Add(after)
		l.Served(&schemas.Slice{SessionID: "s1", CDN: cdn, PlayedMs: 1000}, *now)
		return l.Where("s1")
	}
	if w := seen("b", time.Second); w.Left != "" {
		t.Errorf("what was seen may be older than the decision: %+v", w)
	}
	if w := seen("a", time.Second); w.Left != "" {
		t.Errorf("back again: %+v", w)
	}
	if w := seen("b", time.Minute); w.Left != "a" || !w.LeftAt.Equal(*now) || w.CDN != "b" {
		t.Errorf("a minute after the decision: %+v", w)
	}
	if w := seen("a", time.Second); w.Left == "a" {
		t.Errorf("it plays on a: %+v", w)
	}
}
