package probe

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// What a probe would wake, encode or bring from elsewhere is probed only with viewers.
func TestProbesAreNoReasonToWork(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var never, here, late, ahead heard
	here.request(now.Add(-2*time.Second), now.Add(-time.Second))
	late.request(now.Add(-20*time.Second), now) // its log took a while
	ahead.request(now.Add(time.Hour), now.Add(-20*time.Second))
	for what, x := range map[string]struct {
		h               heard
		onDemand, costs bool
		want            bool
	}{
		"plain stream":                   {never, false, false, true},
		"elsewhere or ladder, unwatched": {never, false, true, false},
		"elsewhere or ladder, watched":   {late, false, true, true},
		"camera, unwatched":              {never, true, false, false},
		"camera, watched":                {here, true, true, true},
		"camera, left 20 s ago":          {late, true, false, false},
		"camera, clock ahead":            {ahead, true, false, false},
	} {
		if got := x.h.allows(x.onDemand, x.costs, now); got != x.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// A CDN that does not answer delays no other.
func TestOneThatWaitsDelaysNoOther(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	k := schemas.StreamKey{App: "live", Stream: "demo"}
	hangs, fine, fresh := pair{"hangs", k}, pair{"fine", k}, pair{"fresh", k}
	all := []pair{hangs, fine, fresh}
	asked := map[pair]time.Time{hangs: now.Add(-20 * time.Second), fine: now.Add(-10 * time.Second), fresh: now}
	if got, ok := due(all, asked, nil, now.Add(-5*time.Second)); !ok || got != hangs {
		t.Errorf("first is %v", got)
	}
	waiting := map[pair]bool{hangs: true}
	if got, ok := due(all, asked, waiting, now.Add(-5*time.Second)); !ok || got != fine {
		t.Errorf("while it waits: %v", got)
	}
	waiting[fine] = true
	if got, ok := due(all, asked, waiting, now.Add(-5*time.Second)); ok {
		t.Errorf("%v was asked a moment ago", got)
	}
}
