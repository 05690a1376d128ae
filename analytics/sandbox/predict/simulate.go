package predict

import (
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// totals are what one session adds to each metric.
type totals struct {
	played, stalled, stalls, first, started, latency, bytes float64
	cdn                                                     int
	probability                                             float64
	bps                                                     float64 // throughput as the player measured it
}

// question is what to simulate: nil and zero fields are as recorded.
type question struct {
	policy *policy.Policy // nil: every viewer where the recording had them
	player sandbox.Player
	ttlSec float64
	// overflowAt is sandbox.Control.OverflowAt
	overflowAt float64
}

func (m *model) asRecorded() question {
	return question{player: m.rec.Player} // where they were: no steering
}

// run simulates the recorded viewers; the results are in the order of m.viewers.
func (m *model) run(q question) ([]totals, *sandbox.Result, error) {
	out := make([]totals, len(m.viewers))
	i := 0
	where := make(map[uint64]int, len(m.viewers))
	w := sandbox.World{
		Seed: m.seed, Seconds: m.seconds, CDNs: m.cdns, Places: m.places, Players: []sandbox.Player{q.player}, SampleSec: 60,
		Access:  sandbox.Access{Sigma: m.sigma, Rho: accessRho, HoldSec: m.hold, FadeShare: 0.02, FadeFactor: 0.1},
		Control: sandbox.Control{Policy: q.policy, Routers: 1, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: q.ttlSec, OverflowAt: q.overflowAt, Fallback: true},
		Viewers: func() (sandbox.Viewer, bool) {
			if i == len(m.viewers) {
				return sandbox.Viewer{}, false
			}
			v := m.viewers[i]
			if q.policy != nil {
				v.Pin = 0
			}
			// What a player measures is the mean of a lognormal, not its median.
			v.MedianBps *= math.Exp(-m.sigma * m.sigma / 2)
			where[v.Seed] = i
			i++
			return v, true
		},
		Each: func(o *sandbox.Outcome) {
			x := &out[where[o.Viewer.Seed]]
			*x = totals{played: o.PlayedSec, stalled: o.StalledSec, stalls: float64(o.Stalls), latency: o.LatencySec * o.PlayedSec, bytes: o.Bytes, cdn: o.CDN, probability: o.Probability, bps: o.ThroughputBps}
			if o.Started {
				x.first, x.started = o.FirstScreenSec, 1
			}
		},
	}
	w.Progress = m.meter.during(len(m.viewers), m.seconds)
	if q.policy == nil { // all are pinned, and no router needs to know anything
		w.CDNs = slices.Clone(w.CDNs) // a CDN that is closed by now had them
		for i := range w.CDNs {
			w.CDNs[i].State = schemas.CDNActive
		}
		w.Control.Policy, w.Control.ShareSec, w.Control.ReportSec = policy.Builtin(policy.Affinity), 60, 1e9
	}
	r, err := sandbox.Run(w)
	m.meter.finished(len(m.viewers))
	return out, r, err
}

// accessRho is how alike a hold is to the next: a recording of whole sessions does
// not show it. What it gets wrong is in the model's error.
const accessRho = 0.8

// seen gives the recorded sessions as totals, in the order of m.viewers.
func (m *model) seen() []totals {
	out := make([]totals, len(m.of))
	for i, s := range m.of {
		out[i] = totals{played: s.PlayedSec, stalled: s.StalledSec, stalls: float64(s.Stalls), latency: s.LatencySec * s.PlayedSec, bytes: s.Bytes, cdn: m.cdn[s.CDN], probability: s.Probability}
		if s.Started {
			out[i].first, out[i].started = s.FirstScreenSec, 1
		}
	}
	return out
}

// metric is a ratio of sums over sessions.
type metric struct {
	name string
	of   func(*totals) (num, den float64)
}

var (
	stallRatio  = metric{"stall_ratio", func(t *totals) (float64, float64) { return t.stalled, t.played + t.stalled }}
	firstScreen = metric{"first_screen_s", func(t *totals) (float64, float64) { return t.first, t.started }}
	stallSec    = metric{"stall_s", func(t *totals) (float64, float64) { return t.stalled, t.stalls }}
	latency     = metric{"latency_s", func(t *totals) (float64, float64) { return t.latency, t.played }}
)

func ratio(list []totals, x metric) float64 {
	var num, den float64
	for i := range list {
		n, d := x.of(&list[i])
		num, den = num+n, den+d
	}
	if den == 0 {
		return 0
	}
	return num / den
}
