package policy_test

import (
	"testing"

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
