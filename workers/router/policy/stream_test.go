package policy_test

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestWhatOneStreamMayHave: it is one more limit of a CDN, by the stream's own
// forecast; nobody waits for a place because of it.
func TestWhatOneStreamMayHave(t *testing.T) {
	limited := func(names ...string) []schemas.CDN {
		list := three()
		for _, n := range names {
			list = set(list, n, func(c *schemas.CDN) { c.SpillViewers, c.StreamViewers = 0, 100 })
		}
		return list
	}
	for _, x := range []struct {
		name           string
		cdns           []schemas.CDN
		facts          map[string]policy.Facts
		chosen, spills string
		reason         string
	}{
		{"half of it", limited("a"), map[string]policy.Facts{"a": {StreamViewers: 50}}, "a", "", policy.ReasonAffinity},
		{"nearly all of it", limited("a"), map[string]policy.Facts{"a": {StreamViewers: 95}}, "a", "b", policy.ReasonAffinity},
		{"all of it soon", limited("a"), map[string]policy.Facts{"a": {StreamViewers: 50, StreamSoon: 2}}, "a", "b", policy.ReasonAffinity},
		{"all of it by forecast", limited("a"), map[string]policy.Facts{"a": {StreamViewers: 50, StreamGrowth: 2}}, "b", "", policy.ReasonSpill},
		{"all of it", limited("a"), map[string]policy.Facts{"a": {StreamViewers: 100}}, "b", "", policy.ReasonSpill},
		{"the CDN grows, and not by this stream", limited("a"), map[string]policy.Facts{"a": {Viewers: 500, StreamViewers: 50, Growth: 4}}, "a", "", policy.ReasonAffinity},
		{"not limited", three(), map[string]policy.Facts{"a": {StreamViewers: 1000}}, "a", "", policy.ReasonAffinity},
		{"all of it everywhere", limited("a", "b", "c"), map[string]policy.Facts{"a": {StreamViewers: 120}, "b": {StreamViewers: 110}, "c": {StreamViewers: 130}}, "b", "", policy.ReasonFull},
	} {
		a, err := policy.Builtin(policy.Affinity).Decide(&policy.Input{PublishCDN: "a", CDNs: x.cdns, Facts: policy.FactsOf(x.cdns, x.facts)})
		if err != nil || a.Chosen != x.chosen || a.Spills != x.spills || a.Reason != x.reason {
			t.Errorf("%s: %s (%s), spills to %q, want %s (%s) and %q; %v", x.name, a.Chosen, a.Reason, a.Spills, x.chosen, x.reason, x.spills, err)
		}
		if a.Full >= 1 || a.Room != policy.Unlimited {
			t.Errorf("%s: %v full, room for %d: others wait", x.name, a.Full, a.Room)
		}
	}
	c := limited("a")[0]
	if got := policy.Overload(&c, &policy.Facts{StreamViewers: 120, StreamGrowth: 3}, ""); got != 1.2 {
		t.Errorf("over by %v, want what is there now", got)
	}
}
