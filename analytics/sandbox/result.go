package sandbox

import (
	"slices"
)

// maxMoves bounds the times of moves that are kept.
const maxMoves = 1_000_000

// Outcome is what became of a session.
type Outcome struct {
	ID      string
	Viewer  Viewer
	Started bool
	// CDN it was first sent to, by number, with the probability of that choice.
	CDN         int
	Probability float64
	Moves       int
	// FirstMoveSec is when it first went to another CDN; 0: never.
	FirstMoveSec float64
	// PlayedSec and StalledSec, FirstScreenSec (of those that started), LatencySec
	// (mean, weighted by time played), MeanBps, Bytes.
	PlayedSec, StalledSec, FirstScreenSec, LatencySec, MeanBps, Bytes float64
	Stalls                                                            int
	// ThroughputBps is what came in a second of transfers; 0: nothing came.
	ThroughputBps    float64
	Requests, Errors int
}

// CDNResult is what a CDN had.
type CDNResult struct {
	Name string  `json:"name"`
	GB   float64 `json:"gb"`
	// CostUSD of its bill; CommitGB scaled to the simulated time.
	CostUSD float64 `json:"cost_usd"`
	// WorstLoad is the highest share of CapacityViewers in use, OverSec the longest
	// time above it without a break.
	WorstLoad float64 `json:"worst_load"`
	OverSec   float64 `json:"over_s"`
	// WorstDemand is the highest share of its bandwidth that was asked for within a
	// second, OverDemandSec the longest time above it.
	WorstDemand   float64 `json:"worst_demand"`
	OverDemandSec float64 `json:"over_demand_s"`
}

// Sample is the state at a moment.
type Sample struct {
	AtSec   float64   `json:"at_s"`
	Viewers []int     `json:"viewers"`
	Bps     []float64 `json:"bps"` // asked for since the last sample
	Stalled int       `json:"stalled"`
	Playing int       `json:"playing"`
}

// Result is what a run gives. Ratios and sums are of sessions that begin after
// World.WarmSec, without liars.
type Result struct {
	Sessions int     `json:"sessions"` // begun, all
	Ended    int     `json:"ended"`
	Open     int     `json:"open"` // at the end
	Refused  int     `json:"refused"`
	Hours    float64 `json:"session_hours"` // of all sessions

	PlayedSec  float64 `json:"played_s"`
	StalledSec float64 `json:"stalled_s"`
	StallRatio float64 `json:"stall_ratio"`
	Stalls     int     `json:"stalls"`
	Attempts   int     `json:"attempts"`
	StartFails int     `json:"start_fails"`
	// FirstScreen quantiles of sessions that started, s.
	FirstScreenMeanSec float64 `json:"first_screen_mean_s"`
	FirstScreenP50Sec  float64 `json:"first_screen_p50_s"`
	FirstScreenP95Sec  float64 `json:"first_screen_p95_s"`
	LatencySec         float64 `json:"latency_s"`
	MeanBps            float64 `json:"mean_bps"`
	Moves              int     `json:"moves"`
	MovedTwice         int     `json:"moved_twice"` // sessions, within ten minutes
	Decisions          int     `json:"decisions"`
	CostUSD            float64 `json:"cost_usd"`

	CDNs    []CDNResult `json:"cdns"`
	Series  []Sample    `json:"-"`
	MoveSec []float64   `json:"-"`

	w           *World
	latencySum  float64
	bitrateSum  float64
	firstScreen []float32
}

func newResult(w *World) *Result {
	r := &Result{w: w}
	for i := range w.CDNs {
		r.CDNs = append(r.CDNs, CDNResult{Name: w.CDNs[i].Name})
	}
	return r
}

// count adds a session that is over, or cut off by the end of the run.
func (e *engine) count(s *session, t float64) {
	r := e.res
	r.Hours += (t - s.v.AtSec) / 3600
	if s.movedTwice {
		r.MovedTwice++
	}
	if !s.counted {
		return
	}
	x := &s.sum
	r.PlayedSec += x.played
	r.StalledSec += x.stalled
	r.Stalls += int(x.stalls)
	r.Attempts += int(x.attempts)
	r.StartFails += int(x.startFails)
	r.latencySum += x.latencySum
	r.bitrateSum += x.bitrateSum
	if x.starts > 0 {
		r.firstScreen = append(r.firstScreen, float32(x.startup))
	}
	if e.w.Each == nil {
		return
	}
	o := Outcome{
		ID: s.id, Viewer: s.v, Started: x.starts > 0, CDN: s.chosen, Probability: s.probability, Moves: s.moves, FirstMoveSec: s.firstMove,
		PlayedSec: x.played, StalledSec: x.stalled, FirstScreenSec: x.startup, Stalls: int(x.stalls), Bytes: x.bytes,
		Requests: int(x.requests), Errors: int(x.errors),
	}
	if x.played > 0 {
		o.LatencySec, o.MeanBps = x.latencySum/x.played, x.bitrateSum/x.played
	}
	if x.fetchSec > 0 {
		o.ThroughputBps = x.bytes * 8 / x.fetchSec
	}
	e.w.Each(&o)
}

// sample looks at the CDNs.
func (e *engine) sample(t float64) {
	x := Sample{AtSec: t, Viewers: make([]int, len(e.cdns)), Bps: make([]float64, len(e.cdns))}
	for i := range e.cdns {
		c := &e.cdns[i]
		x.Viewers[i], x.Bps[i] = c.viewers, c.bits/e.w.SampleSec
		c.bits = 0
		over := &e.res.CDNs[i]
		if limit := e.w.CDNs[i].CapacityViewers; limit > 0 {
			over.WorstLoad = max(over.WorstLoad, float64(c.viewers)/float64(limit))
			if c.viewers <= limit {
				c.overSec = 0
			} else {
				c.overSec += e.w.SampleSec
			}
			over.OverSec = max(over.OverSec, c.overSec)
		}
		if limit := float64(e.w.CDNs[i].CapacityBps); limit > 0 {
			demand := c.demand(x.Bps[i], e.w.SampleSec)
			over.WorstDemand = max(over.WorstDemand, demand/limit)
			if demand <= limit {
				c.overBpsSec = 0
			} else {
				c.overBpsSec += e.w.SampleSec
			}
			over.OverDemandSec = max(over.OverDemandSec, c.overBpsSec)
		}
	}
	for _, s := range e.sessions {
		switch {
		case s.state == stalled, s.state == playing && s.buffer/s.speed < t-s.at:
			x.Stalled++
		case s.state == playing:
			x.Playing++
		}
	}
	e.res.Series = append(e.res.Series, x)
}

// demand is what is asked for, bit/s, over a second or a sample, whichever is longer.
func (c *cdnState) demand(bps, sampleSec float64) float64 {
	c.lately = append(c.lately, bps)
	if n := max(int(1/sampleSec), 1); len(c.lately) > n {
		c.lately = append(c.lately[:0], c.lately[len(c.lately)-n:]...)
	}
	sum := 0.0
	for _, x := range c.lately {
		sum += x
	}
	return sum / float64(len(c.lately))
}

// close makes ratios and bills.
func (r *Result) close(e *engine) {
	if all := r.PlayedSec + r.StalledSec; all > 0 {
		r.StallRatio = r.StalledSec / all
	}
	if r.PlayedSec > 0 {
		r.LatencySec, r.MeanBps = r.latencySum/r.PlayedSec, r.bitrateSum/r.PlayedSec
	}
	for _, x := range r.firstScreen {
		r.FirstScreenMeanSec += float64(x) / float64(len(r.firstScreen))
	}
	slices.Sort(r.firstScreen)
	r.FirstScreenP50Sec, r.FirstScreenP95Sec = quantile(r.firstScreen, 0.5), quantile(r.firstScreen, 0.95)
	r.Decisions = e.r.decisions
	for i := range r.CDNs {
		c := &r.CDNs[i]
		c.GB = e.cdns[i].bytes * e.w.ViewersPerSession / 1e9
		c.CostUSD = Bill(&e.w.CDNs[i].CDN, c.GB)
		r.CostUSD += c.CostUSD
	}
}

// quantile of sorted values; 0 of none.
func quantile(sorted []float32, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}
