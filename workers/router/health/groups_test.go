package health_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// How many groups may lie is one number for what a CDN fails by and for estimates:
// liars in six of them gain nothing by waiting until the others report seldom.
func TestLiarsGainNothingBySilence(t *testing.T) {
	h := health.New()
	both := []string{"a", "b"}
	now := fill(h, 60, 128, start, func(i int) *schemas.Slice { return report(both[i/health.Groups%2], "eu", "x", 100) })
	for second := range 40 {
		now = now.Add(time.Second)
		for i := range 2 {
			group := uint8(2*second + i)
			h.Add(report("b", "eu", "x", 100), group, now)
			if group%health.Groups >= 6 {
				h.Add(report("a", "eu", "x", 100), group, now)
			}
		}
		for group := range uint8(6) {
			h.Add(report("a", "eu", "x", 10_000), group, now)
			h.Add(report("a", "eu", "x", 10_000), group, now)
		}
		h.Judge(both, now)
		if is, _, _ := h.Failing("a", now); is {
			t.Fatalf("after %d s liars in six groups have taken the CDN out", second+1)
		}
	}
	if e := h.Estimate("a", "eu", "x", now); e.StallRatio > 0.02 {
		t.Errorf("stall ratio %v", e.StallRatio)
	}
}

// How fast players load is compared within the same groups: that those who load
// faster fall silent is no sign of a slow CDN.
func TestPaceIsOfTheSameGroups(t *testing.T) {
	h := health.New()
	both := []string{"a", "b"}
	tell := func(cdn string, group int, kbps, stalledMs int64, at time.Time) {
		s := report(cdn, "eu", "x", stalledMs)
		s.ThroughputKbpsSum, s.ThroughputReports = kbps, 1
		h.Add(s, uint8(group), at)
	}
	now := start
	for second := range 90 {
		now = now.Add(time.Second)
		for group := range health.Groups {
			for range 2 {
				tell("b", group, 6000, 0, now)
			}
			kbps := int64(10_000)
			if group >= 8 {
				kbps = 2000
			}
			if group >= 8 || second < 60 {
				tell("a", group, kbps, 0, now)
			}
		}
		h.Judge(both, now)
		if until := h.DoubtedUntil("a"); until.After(now) {
			t.Fatalf("second %d: the CDN is in doubt", second)
		}
	}
}

// TestLiarsFromEverywhere: who lies from all groups of addresses is left out nowhere;
// such liars move an estimate by their share of the reports, and no more.
func TestLiarsFromEverywhere(t *testing.T) {
	for _, share := range []int{5, 10, 20} { // per cent
		h, r := health.New(), rand.New(rand.NewPCG(6, uint64(share)))
		now := fill(h, 120, 200, start, func(int) *schemas.Slice {
			if r.IntN(100) < share {
				return report("a", "eu", "x", 10_000)
			}
			return report("a", "eu", "x", 100)
		})
		h.Judge([]string{"a", "b"}, now)
		e := h.Estimate("a", "eu", "x", now)
		if most := 0.01 + float64(share)/100 + 0.02; e.StallRatio > most {
			t.Errorf("%d %% of the viewers moved the stall ratio to %.3f, more than %.3f", share, e.StallRatio, most)
		}
		if is, _, _ := h.Failing("a", now); is {
			t.Errorf("%d %% of the viewers took the CDN out", share)
		}
	}
}
