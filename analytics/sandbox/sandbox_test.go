package sandbox

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// small is a world of two CDNs and one place.
func small(seed uint64, n int) World {
	cdn := func(name string, order int) CDN {
		return CDN{CDN: schemas.CDN{Name: name, State: schemas.CDNActive, Order: order}, Paths: []Path{{RTTSec: 0.03, Factor: 1}}}
	}
	left := n
	at := 0.0
	r := rng(seed)
	return World{
		Seed: seed, Seconds: 600, CDNs: []CDN{cdn("a", 0), cdn("b", 1)}, Places: []Place{{"eu", "x", 1}},
		Access:  Access{Sigma: 0.4, Rho: 0.8, HoldSec: 5},
		Players: []Player{{SegmentSec: 2, Levels: []float64{1e6, 2.5e6, 5e6}, StartBehind: 3}},
		Control: Control{Policy: policy.Builtin(policy.Affinity), SteeringTTLSec: 10, LagSec: 2, Fallback: true},
		Viewers: func() (Viewer, bool) {
			if left--; left < 0 {
				return Viewer{}, false
			}
			at += r.exp(300 / float64(n))
			return Viewer{AtSec: at, WatchSec: 60 + r.exp(120), MedianBps: 4e6, Seed: r.next(), Group: uint8(r.next() % 16)}, true
		},
	}
}

func TestSmall(t *testing.T) {
	res, err := Run(small(1, 1000))
	if err != nil {
		t.Fatal(err)
	}
	res.Series = nil
	res.MoveSec = nil
	t.Logf("%+v", res)
}

func BenchmarkRun(b *testing.B) {
	hours := 0.0
	for b.Loop() {
		res, err := Run(small(1, 3000))
		if err != nil {
			b.Fatal(err)
		}
		hours += res.Hours
	}
	b.ReportMetric(hours/b.Elapsed().Seconds(), "session-hours/s")
}
