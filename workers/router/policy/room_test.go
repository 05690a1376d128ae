package policy_test

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestNoneHealthy: where every CDN fails there is no room, and none to wait for.
func TestNoneHealthy(t *testing.T) {
	failing := policy.Facts{Failing: true}
	for _, x := range []struct {
		facts map[string]policy.Facts
		want  bool
	}{
		{map[string]policy.Facts{"a": failing, "b": failing, "c": failing}, true},
		{map[string]policy.Facts{"a": failing, "b": failing}, false},
		{nil, false},
	} {
		in := policy.Input{PublishCDN: "a", CDNs: three(), Facts: facts(x.facts)}
		a, err := policy.Builtin(policy.Affinity).Decide(&in)
		if err != nil || a.NoneHealthy != x.want || a.NoneHealthy && a.Room != 0 {
			t.Errorf("%v: none healthy %v, room %d, err %v", x.facts, a.NoneHealthy, a.Room, err)
		}
	}
}

// TestOverflowAt: a session with a threshold of its own spills there, whatever
// the registry says, and only new ones do.
func TestOverflowAt(t *testing.T) {
	cdns := set(three(), "a", func(c *schemas.CDN) { c.SpillViewers, c.CapacityViewers = 90, 100 })
	for _, x := range []struct {
		viewers int
		at      float64
		current string
		want    string
	}{
		{80, 0, "", "a"}, {89, 0, "", "a"}, {90, 0, "", "b"},
		{49, 0.5, "", "a"}, {50, 0.5, "", "b"}, {50, 0.5, "a", "a"},
		{95, 1, "", "a"}, {100, 1, "", "b"},
	} {
		in := policy.Input{PublishCDN: "a", CDNs: cdns, OverflowAt: x.at, Current: x.current, Facts: viewers(map[string]int{"a": x.viewers})}
		a, err := policy.Builtin(policy.Affinity).Decide(&in)
		if err != nil || a.Chosen != x.want {
			t.Errorf("%d viewers, threshold %v, on %q: %s (%s), %v; want %s", x.viewers, x.at, x.current, a.Chosen, a.Reason, err, x.want)
		}
	}
	// The score is made worse from the threshold on, too.
	in := policy.Input{CDNs: cdns, OverflowAt: 0.5, Facts: viewers(map[string]int{"a": 50})}
	quality := policy.Builtin(policy.Quality)
	at, err := quality.Decide(&in)
	in.OverflowAt = 0.25
	above, err2 := quality.Decide(&in)
	score := func(a *policy.Answer) (s float64) {
		for _, c := range a.Candidates {
			if c.CDN == "a" {
				s = c.Score
			}
		}
		return s
	}
	if err != nil || err2 != nil || !(score(&above) < score(&at)) {
		t.Errorf("score %v from the threshold on, %v above it: %v %v", score(&at), score(&above), err, err2)
	}
}
