package health_test

import (
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
