package health_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/workers/router/health"
)

// TestSeveralFailTogether: CDNs that fail at the same time are known by any other that
// serves; where none is known to, nobody fails, and a few try one of which nothing is known.
func TestSeveralFailTogether(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	for _, x := range []struct {
		name string
		// On each CDN: reports a second, the share that each loses, groups that tell.
		reports [4]int
		lost    [4]float64
		groups  int
		failing string
		alone   string
	}{
		{name: "all serve", reports: [4]int{16, 16, 16, 16}, groups: 16},
		{name: "one of four", reports: [4]int{16, 16, 16, 16}, lost: [4]float64{0.9, 0, 0, 0}, groups: 16, failing: "a"},
		{name: "two of three", reports: [4]int{16, 16, 16, 0}, lost: [4]float64{0.9, 0.9, 0, 0}, groups: 16, failing: "ab"},
		{name: "three of four", reports: [4]int{16, 16, 16, 16}, lost: [4]float64{0.9, 0.9, 0.9, 0}, groups: 16, failing: "abc"},
		{name: "two, and few are on the third", reports: [4]int{16, 16, 3, 0}, lost: [4]float64{0.9, 0.9, 0, 0}, groups: 16, failing: "ab"},
		{name: "two, and of one address only are they on the third", reports: [4]int{16, 16, 0, 0}, lost: [4]float64{0.9, 0.9, 0, 0}, groups: 16, alone: "ab"},
		{name: "all, some less", reports: [4]int{16, 16, 16, 16}, lost: [4]float64{0.9, 0.9, 0.35, 0.5}, groups: 16},
		{name: "all", reports: [4]int{16, 16, 16, 16}, lost: [4]float64{0.9, 0.6, 0.4, 0.4}, groups: 16},
		{name: "two, with all viewers behind one address", reports: [4]int{16, 16, 16, 0}, lost: [4]float64{0.9, 0.9, 0, 0}, groups: 1, failing: "ab"},
	} {
		h := health.New()
		now, n := start, 0
		for second := range 60 {
			now = now.Add(time.Second)
			for i, cdn := range all {
				for range x.reports[i] {
					stalled := 0.0
					if second >= 30 {
						stalled = x.lost[i]
					}
					n++
					h.Add(report(cdn, "eu", "x", int64(10_000*stalled)), uint8(n%x.groups), now)
				}
			}
			if x.alone != "" { // c is known by one prefix
				h.Add(report("c", "eu", "x", 0), 3, now)
			}
			h.Judge(all, now)
		}
		if got := told(h, all, now); got.failing != x.failing || got.alone != x.alone {
			t.Errorf("%s: failing %q, alone %q; want %q, %q", x.name, got.failing, got.alone, x.failing, x.alone)
		}
	}
}

// standing is what is said of some CDNs, by their names of one letter.
type standing struct{ failing, alone string }

func told(h *health.Table, cdns []string, now time.Time) (s standing) {
	for _, cdn := range cdns {
		if is, _, _ := h.Failing(cdn, now); is {
			s.failing += cdn
		}
		if h.Alone(cdn) {
			s.alone += cdn
		}
	}
	return s
}

// TestNoneLooksWellByChance: while a publisher is bad, and everybody stalls now and then, of twenty
// CDNs the few viewers of some have none of it. That is no reason to call the others failing.
func TestNoneLooksWellByChance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var cdns []string
	for i := range 20 {
		cdns = append(cdns, fmt.Sprint("cdn", i))
	}
	h := health.New()
	now := start
	for range 240 {
		now = now.Add(time.Second)
		for i, cdn := range cdns {
			reports := 20 // of large ones, a second; the others have one
			if i > 4 {
				reports = 1
			}
			for range reports {
				stalled := int64(0)
				if r.Float64() < 0.4 {
					stalled = 10_000
				}
				h.Add(report(cdn, "eu", "x", stalled), uint8(r.IntN(health.Groups)), now)
			}
		}
		h.Judge(cdns, now)
		if i := slices.IndexFunc(cdns, func(cdn string) bool { is, _, _ := h.Failing(cdn, now); return is }); i >= 0 {
			t.Fatalf("after %s %s is failing", now.Sub(start), cdns[i])
		}
	}
}
