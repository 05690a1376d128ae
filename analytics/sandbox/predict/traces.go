package predict

import (
	"fmt"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TraceSettings say how viewers are put on traces.
type TraceSettings struct {
	Settings
	// Sessions is how many are simulated, default 2000, each WatchSec long in the
	// mean, default 240.
	Sessions int
	WatchSec float64
	// Base is the player that Candidate is compared with.
	Base sandbox.Player
}

// maxTraceSessions bounds TraceSettings.Sessions.
const maxTraceSessions = 1_000_000

// PredictOnTraces tells what a player setting would do on recorded rates (traces
// of whole seconds, bit/s). Nothing in a trace says how sessions went, so nothing
// is fitted and the model's error counts for all of the value, not for the change
// alone. A policy is refused: traces know no CDNs.
func PredictOnTraces(traces [][]float64, c Candidate, s TraceSettings) (*Prediction, error) {
	sec := 0
	for _, t := range traces {
		sec += len(t)
	}
	switch {
	case c.Policy != nil:
		return nil, refuse("traces of one network each say nothing of CDNs: a policy needs recorded sessions")
	case c.Player == nil:
		return nil, refuse("there is no candidate: name what of the player changes")
	case sec < 1800:
		return nil, refuse("the traces last %d s in all: at least 1800 are needed", sec)
	}
	if s.Sessions == 0 {
		s.Sessions = 2000
	}
	if s.Sessions < minSessions || s.Sessions > maxTraceSessions {
		return nil, fmt.Errorf("sessions: %d is not from %d to %d", s.Sessions, minSessions, maxTraceSessions)
	}
	if s.WatchSec == 0 {
		s.WatchSec = 240
	}
	work := newMeter(s.Progress, 2*s.Sessions)
	base, _, err := onTraces(traces, s.Base, &s, work)
	if err != nil {
		return nil, err
	}
	cand, res, err := onTraces(traces, *c.Player, &s, work)
	if err != nil {
		return nil, err
	}
	units := make([][]int, len(cand))
	for i := range units {
		units[i] = []int{i}
	}
	b := bootstrap{seen: base, base: base, cand: cand, units: units, arm: len(cand), model: 2 * ModelError, rnd: rand.New(rand.NewPCG(s.Seed, 99))}
	if s.ModelError > 0 {
		b.model = s.ModelError
	}
	return &Prediction{
		StallRatio: b.interval(stallRatio), FirstScreenSec: b.interval(firstScreen), LatencySec: b.interval(latency),
		Sessions: s.Sessions, Hours: 2 * res.Hours, OffPolicyWhy: "traces hold no decisions",
	}, nil
}

func onTraces(traces [][]float64, p sandbox.Player, s *TraceSettings, work *meter) ([]totals, *sandbox.Result, error) {
	rnd := rand.New(rand.NewPCG(s.Seed, 1))
	out := make([]totals, s.Sessions)
	where := map[uint64]int{}
	n, at := 0, 0.0
	w := sandbox.World{
		Seed: s.Seed, Seconds: 1e9, SampleSec: 1e9, Traces: traces, Places: []sandbox.Place{{Region: "trace", Share: 1}}, Players: []sandbox.Player{p},
		CDNs:    []sandbox.CDN{{CDN: schemas.CDN{Name: "any", State: schemas.CDNActive}, Paths: []sandbox.Path{{RTTSec: 0.04, Factor: 1}}}},
		Control: sandbox.Control{Policy: policy.Builtin(policy.Affinity), ShareSec: 60, ReportSec: 30},
		Viewers: func() (sandbox.Viewer, bool) {
			if n == s.Sessions {
				return sandbox.Viewer{}, false
			}
			i := rnd.IntN(len(traces))
			at += rnd.ExpFloat64()
			v := sandbox.Viewer{AtSec: at, WatchSec: 20 + rnd.ExpFloat64()*(s.WatchSec-20), Trace: i + 1, TraceSec: float64(rnd.IntN(len(traces[i]))), Seed: rnd.Uint64()}
			where[v.Seed] = n
			n++
			return v, true
		},
		Each: func(o *sandbox.Outcome) {
			x := &out[where[o.Viewer.Seed]]
			*x = totals{played: o.PlayedSec, stalled: o.StalledSec, stalls: float64(o.Stalls), latency: o.LatencySec * o.PlayedSec, bytes: o.Bytes}
			if o.Started {
				x.first, x.started = o.FirstScreenSec, 1
			}
		},
	}
	w.Seconds = float64(s.Sessions)*1.5 + 20*s.WatchSec
	w.Progress = work.during(s.Sessions, w.Seconds)
	r, err := sandbox.Run(w)
	work.finished(s.Sessions)
	return out, r, err
}
