package health_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// TestDoubt: a late probe, or a first few stalls on one CDN alone, put it in
// doubt for a while; with stalls and a failed probe it is failing sooner than by stalls alone.
func TestDoubt(t *testing.T) {
	cdns := []string{"a", "b"}
	type at = time.Time
	for _, x := range []struct {
		name           string
		stalledMs      int64 // of ten seconds, on a
		probes         func(h *health.Table, now at)
		doubted, fails bool
	}{
		{name: "all is well"},
		{name: "late at one", probes: func(h *health.Table, now at) { h.Probed("a", true, now); h.Probed("b", false, now) }, doubted: true},
		{name: "late at all: the prober's own network", probes: func(h *health.Table, now at) { h.Probed("a", true, now); h.Probed("b", true, now) }},
		{name: "late long ago", probes: func(h *health.Table, now at) {
			h.Probed("a", true, now.Add(-time.Minute))
			h.Probed("b", false, now)
		}},
		{name: "a few stalls", stalledMs: 1000, doubted: true},
		{name: "more", stalledMs: 2500, doubted: true},
		{name: "more, and a probe that failed", stalledMs: 2500, doubted: true, fails: true,
			probes: func(h *health.Table, now at) { h.Probed("a", true, now); h.Probed("b", false, now) }},
		{name: "a few, and a probe that failed", stalledMs: 800, doubted: true,
			probes: func(h *health.Table, now at) { h.Probed("a", true, now); h.Probed("b", false, now) }},
	} {
		h := health.New()
		now := fill(h, 60, 64, start, func(i int) *schemas.Slice {
			if i%2 == 0 {
				return report("a", "eu", "x", x.stalledMs)
			}
			return report("b", "eu", "x", 0)
		})
		if x.probes != nil {
			x.probes(h, now)
		}
		h.Judge(cdns, now)
		if is, _, _ := h.Failing("a", now); h.DoubtedUntil("a").After(now) != x.doubted || is != x.fails || h.DoubtedUntil("b").After(now) || h.Alone("a") {
			t.Errorf("%s: in doubt %v, failing %v", x.name, h.DoubtedUntil("a").After(now), is)
		}
		// It ends, and comes again not before a minute.
		for after, again := range map[time.Duration]bool{20 * time.Second: false, 70 * time.Second: false} {
			if h.Judge(cdns, now.Add(after)); h.DoubtedUntil("a").After(now.Add(after)) != again {
				t.Errorf("%s: in doubt %s after", x.name, after)
			}
		}
	}
}

// TestAlone: what loses much while nobody is on another is to be compared with one.
func TestAlone(t *testing.T) {
	h := health.New()
	now := fill(h, 30, 32, start, func(int) *schemas.Slice { return report("a", "eu", "x", 8000) })
	if h.Judge([]string{"a"}, now); h.Alone("a") {
		t.Error("there is no other")
	}
	if h.Judge([]string{"a", "b"}, now); !h.Alone("a") || h.Alone("b") {
		t.Error("nobody tries b")
	}
	now = fill(h, 5, 1, now, func(int) *schemas.Slice { return report("b", "eu", "x", 0) })
	now = fill(h, 1, 32, now, func(int) *schemas.Slice { return report("a", "eu", "x", 8000) })
	h.Judge([]string{"a", "b"}, now)
	if is, _, _ := h.Failing("a", now); !is || h.Alone("a") {
		t.Errorf("those who tried b find it well, and a is failing: %v", is)
	}
}

// TestLiarsBeyondTheBound: what docs/routing.md says of how many groups may lie:
// four of sixteen move nothing, and six do not where many report; half of them decide.
func TestLiarsBeyondTheBound(t *testing.T) {
	for _, x := range []struct {
		liars, reports int // groups; reports a second
		moved          bool
	}{{4, 16, false}, {6, 16, true}, {6, 32, false}, {4, 64, false}, {6, 64, false}, {7, 64, true}, {8, 64, true}} {
		liars, moved := x.liars, x.moved
		h := health.New()
		now := fill(h, 60, x.reports, start, func(i int) *schemas.Slice {
			if i%health.Groups < liars {
				return report("a", "eu", "x", 10_000)
			}
			return report("a", "eu", "x", 100)
		})
		other := health.New() // what a CDN fails by are the last seconds
		at := fill(other, 60, 2*x.reports, start, func(i int) *schemas.Slice {
			if i%2 == 1 {
				return report("b", "eu", "x", 100)
			}
			return report("a", "eu", "x", 100)
		})
		for i := range 20 * x.reports {
			now := at.Add(time.Duration(i) * time.Second / time.Duration(x.reports))
			other.Add(report("a", "eu", "x", 100), uint8(i), now)
			other.Add(report("b", "eu", "x", 100), uint8(i), now)
			if i%health.Groups < liars { // more of them than of honest viewers
				other.Add(report("a", "eu", "x", 10_000), uint8(i), now)
				other.Add(report("a", "eu", "x", 10_000), uint8(i), now)
			}
		}
		at = at.Add(20 * time.Second)
		other.Judge([]string{"a", "b"}, at)
		if failing, _, _ := other.Failing("a", at); failing && !moved {
			t.Errorf("%d groups lie, %d reports a second: the CDN is failing", liars, x.reports)
		}
		if e := h.Estimate("a", "eu", "x", now); e.StallRatio > 0.02 != moved {
			t.Errorf("%d groups lie, %d reports a second: stall ratio %v", liars, x.reports, e.StallRatio)
		}
	}
}
