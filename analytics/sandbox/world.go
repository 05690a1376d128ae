// Package sandbox simulates viewers, CDNs and routers, so that a routing policy
// or a player setting can be tried before anything is live.
//
// It promises: the routers' own code decides (packages load, health and policy),
// not a copy of it; a run is a function of its World, seed included; every
// session's network is drawn from its own seed, so that two policies are compared
// on the same viewers; no I/O. What it takes for granted is said by Assumptions.
//
// It is a discrete-event simulation with one event a segment and request: a
// player asks, the CDN's queue and the viewer's access decide when the segment is
// there, the buffer is integrated in between.
package sandbox

import (
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Assumptions say what the simulator takes for granted, for people.
func Assumptions() []string {
	return []string{
		"A CDN is a queue without loss that serves its capacity in order of requests, and likewise for each limited region; edges, caches and transit inside it are not modelled.",
		"A viewer's rate is the access's (a trace, or a lognormal process that holds for some seconds) times the path's factor for CDN and place; connections are kept open, TCP's slow start is not modelled.",
		"Players fetch whole segments one after the other, choose bitrates like hls.js (two EWMAs of throughput, 0.95 down, 0.7 up), start three segments behind the live edge, retry after 1, 2, 4 s, leave a CDN after three failures in a row and avoid it for 300 s.",
		"Routers run the real policy, load and health code; they hear each other's decisions once in a control interval and sessions' reports some seconds late. Manifest and steering answers take two round trips and never fail.",
		"Viewers stay as long as they meant to, however they are served; one who sees no picture within 30 s has failed to start.",
		"A bill is the greater of volume and commitment, each gigabyte at the price of its tier, with tiers and commitments scaled to the simulated time.",
	}
}

// maxCDNs bounds the CDNs of a world.
const maxCDNs = 20

// CDN is one CDN as the registry has it and as it is.
type CDN struct {
	schemas.CDN
	// ServesBps is what it can really deliver; 0: CapacityBps, and without that, anything.
	ServesBps float64
	// Paths to each place, in the order of World.Places.
	Paths []Path
	// Spread is the lognormal deviation of the path's factor between sessions.
	Spread float64
}

// Path is the way from a CDN to a place.
type Path struct {
	RTTSec float64
	// Factor multiplies the viewer's access rate; 1 is a path that takes nothing away.
	Factor float64
	// ErrorRatio is the share of requests that fail.
	ErrorRatio float64
}

// Place is a region and internet provider, with its share of the viewers.
type Place struct {
	Region, ISP string
	Share       float64
}

// Episode is a time in which a CDN serves worse, everywhere or in a region.
type Episode struct {
	FromSec, ToSec float64
	CDN            string
	Region         string // empty: everywhere
	// Down: requests fail at once; Hang: they are never answered.
	Down, Hang bool
	// Factor multiplies the path's; 0 counts as 1. ErrorRatio is added to the path's.
	Factor, ErrorRatio float64
}

// Access is how the rate of a viewer's own network changes around its median: in
// holds of exponential length the logarithm follows an AR(1) process, and now and
// then a hold is a fade.
type Access struct {
	Sigma   float64 // deviation of the logarithm within a session
	Rho     float64 // correlation of one hold with the next
	HoldSec float64 // mean
	// FadeShare of the holds carry FadeFactor of the rate only.
	FadeShare, FadeFactor float64
}

// Player is how a player behaves.
type Player struct {
	SegmentSec float64
	// Levels are the bitrates on offer, bit/s, rising.
	Levels []float64
	// StartSec of media must be there before the first frame is shown; 0: the
	// first key frame is enough.
	StartSec float64
	// StartBehind is how many segments behind the live edge playback starts.
	StartBehind int
	// CatchUp is by how much the player plays faster while its latency is above
	// TargetLatencySec; 0: never.
	CatchUp          float64
	TargetLatencySec float64 // 0: StartBehind segments and one
	// MaxLatencySec is where the player jumps to the live edge.
	MaxLatencySec float64
	// StartBps is the throughput assumed before any is known.
	StartBps float64
}

// Viewer is one session to be.
type Viewer struct {
	AtSec, WatchSec float64
	Place           int
	// MedianBps of the access process. Where Trace is not 0, the rate is the trace
	// of that number (from 1) from TraceSec on, times MedianBps if that is not 0.
	MedianBps float64
	Trace     int
	TraceSec  float64
	Player    int // of World.Players
	Group     uint8
	Seed      uint64
	// Pin is the CDN, from 1, that the viewer asks for; 0: none.
	Pin int
	// Accuses names a CDN, from 1: whatever happens, the viewer reports that it stalls there.
	Accuses int
}

// Control is how routers see and steer.
type Control struct {
	Policy  *policy.Policy
	Routers int
	// ShareSec is how often routers hear each other's decisions, ReportSec how
	// often players report, LagSec how late routers hear of it.
	ShareSec, ReportSec, LagSec float64
	// SteeringTTLSec is how often players ask again; 0: never.
	SteeringTTLSec float64
	// ProbeSec is how often our own prober asks each CDN, from the first place; 0: never.
	ProbeSec float64
	// Fallback: manifests list the other CDNs, too.
	Fallback bool
	// OverflowAt is the share of its capacity from which on a CDN takes new sessions
	// only when no other has room (experiments' overflow_at); 0: as the registry says.
	OverflowAt float64
	// PublishCDN is where publishers send to; empty: unknown.
	PublishCDN string
}

// World is everything a run rests on.
type World struct {
	Seed    uint64
	Seconds float64
	CDNs    []CDN
	Places  []Place
	Access  Access
	// Traces are rates of whole seconds, bit/s.
	Traces  [][]float64
	Players []Player
	// SizeSigma is the lognormal deviation of segments' sizes around their bitrate.
	SizeSigma float64
	Episodes  []Episode
	// Viewers gives the sessions in order of AtSec, until false.
	Viewers func() (Viewer, bool)
	Control Control
	// WarmSec is left out of the sums: sessions that begin before it are not counted.
	WarmSec float64
	// SampleSec is how often the series is sampled; default 1.
	SampleSec float64
	// ViewersPerSession is how many viewers a simulated session stands for, in bills; default 1.
	ViewersPerSession float64
	// Each is told of every counted session when it has ended; may be nil. The outcome is valid during the call.
	Each func(*Outcome)
	// Progress is told of simulated time now and then; may be nil. False stops the run.
	Progress func(sec float64) bool
}

// ErrStopped is returned when Progress said to stop.
var ErrStopped = errors.New("simulation stopped")

// check names what is wrong, and fills in defaults.
func (w *World) check() error {
	switch {
	case !(w.Seconds > 0):
		return fmt.Errorf("world: Seconds %v: must be above 0", w.Seconds)
	case len(w.CDNs) == 0 || len(w.CDNs) > maxCDNs:
		return fmt.Errorf("world: %d CDNs: from 1 to %d can be simulated", len(w.CDNs), maxCDNs)
	case len(w.Places) == 0 || len(w.Players) == 0 || w.Viewers == nil:
		return errors.New("world: Places, Players and Viewers are required")
	case w.Control.Policy == nil:
		return errors.New("world: Control.Policy is required")
	}
	for i := range w.CDNs {
		if len(w.CDNs[i].Paths) != len(w.Places) {
			return fmt.Errorf("world: CDN %s has %d paths for %d places", w.CDNs[i].Name, len(w.CDNs[i].Paths), len(w.Places))
		}
	}
	for i := range w.Players {
		p := &w.Players[i]
		if !(p.SegmentSec > 0) || len(p.Levels) == 0 || !(p.Levels[0] > 0) {
			return fmt.Errorf("world: player %d: SegmentSec and Levels are required", i)
		}
		p.StartBehind = max(p.StartBehind, 1)
		p.StartBps = or(p.StartBps, 1e6)
		p.MaxLatencySec = or(p.MaxLatencySec, 30)
		p.TargetLatencySec = or(p.TargetLatencySec, float64(p.StartBehind+1)*p.SegmentSec)
	}
	c := &w.Control
	c.Routers = max(c.Routers, 1)
	c.ShareSec, c.ReportSec = or(c.ShareSec, 0.25), or(c.ReportSec, 10)
	w.SampleSec, w.ViewersPerSession = or(w.SampleSec, 1), or(w.ViewersPerSession, 1)
	w.Access.HoldSec, w.Access.FadeFactor = or(w.Access.HoldSec, 5), or(w.Access.FadeFactor, 1)
	return nil
}

func or(x, def float64) float64 {
	if x == 0 {
		return def
	}
	return x
}
