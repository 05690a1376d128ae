package policy_test

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestSpills: the CDN that sessions go to next is named while the one they go to is
// about to be full, by what is in use or by forecast, in all or in the region.
func TestSpills(t *testing.T) {
	cdns := set(three(), "a", func(c *schemas.CDN) {
		c.SpillViewers, c.CapacityViewers, c.RegionCapacity = 0, 100, map[string]schemas.Capacity{"eu": {Viewers: 50}}
	})
	for _, x := range []struct {
		name    string
		a       policy.Facts
		region  string
		current string
		want    string
	}{
		{name: "half full", a: policy.Facts{Viewers: 50}},
		{name: "nearly full", a: policy.Facts{Viewers: 90}, want: "b"},
		{name: "full within seconds", a: policy.Facts{Viewers: 50, Soon: 2}, want: "b"},
		{name: "not quite", a: policy.Facts{Viewers: 50, Soon: 1.9}},
		{name: "the region is", a: policy.Facts{Viewers: 50, RegionViewers: 40, RegionSoon: 1.5}, region: "eu", want: "b"},
		{name: "another region is", a: policy.Facts{Viewers: 50, RegionViewers: 40, RegionSoon: 1.5}, region: "asia"},
		{name: "a session on it, which may be moved", a: policy.Facts{Viewers: 95}, current: "a", want: "b"},
		{name: "full: it spills already", a: policy.Facts{Viewers: 100}},
		{name: "failing: nobody goes there", a: policy.Facts{Viewers: 95, Failing: true}},
	} {
		a, err := policy.Builtin(policy.Affinity).Decide(&policy.Input{PublishCDN: "a", Current: x.current, Region: x.region, CDNs: cdns, SinceMoveSec: 1e9, Facts: facts(map[string]policy.Facts{"a": x.a})})
		if err != nil || a.Spills != x.want {
			t.Errorf("%s: spills to %q, want %q (%v)", x.name, a.Spills, x.want, err)
		}
	}
}

// TestWarmIsPreferred: by those who spill, where the policy holds both for about as good.
func TestWarmIsPreferred(t *testing.T) {
	cdns := set(three(), "a", func(c *schemas.CDN) { c.SpillViewers, c.CapacityViewers = 0, 100 })
	for _, x := range []struct {
		name, policy string
		a, b, c      policy.Facts
		want         string
	}{
		{"the next one is cold, another warm", policy.Affinity, policy.Facts{Viewers: 100}, policy.Facts{}, policy.Facts{Warm: true}, "c"},
		{"none is warm", policy.Affinity, policy.Facts{Viewers: 100}, policy.Facts{}, policy.Facts{}, "b"},
		{"both are", policy.Affinity, policy.Facts{Viewers: 100}, policy.Facts{Warm: true}, policy.Facts{Warm: true}, "b"},
		{"nobody spills", policy.Affinity, policy.Facts{Viewers: 10}, policy.Facts{}, policy.Facts{Warm: true}, "a"},
		{"the warm one fails", policy.Affinity, policy.Facts{Viewers: 100}, policy.Facts{}, policy.Facts{Warm: true, Failing: true}, "b"},
		{"the warm one serves a little worse", policy.Quality, policy.Facts{Viewers: 100}, policy.Facts{}, policy.Facts{Warm: true, StallRatio: 0.01, Samples: 100}, "c"},
		{"the warm one serves much worse", policy.Quality, policy.Facts{Viewers: 100}, policy.Facts{}, policy.Facts{Warm: true, StallRatio: 0.2, Samples: 100}, "b"},
	} {
		in := policy.Input{PublishCDN: "a", CDNs: cdns, Facts: facts(map[string]policy.Facts{"a": x.a, "b": x.b, "c": x.c})}
		a, err := policy.Builtin(x.policy).Decide(&in)
		if err != nil || a.Chosen != x.want {
			t.Errorf("%s: %s, want %s (%v)", x.name, a.Chosen, x.want, err)
		}
	}
}
