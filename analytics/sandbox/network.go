package sandbox

import "math"

// access is where a viewer's rate stands: bit/s until a moment.
type access struct {
	rnd   rng
	z     float64 // AR(1) state of the logarithm
	rate  float64
	until float64
}

// at brings the rate to a moment, which never lies before the last.
func (e *engine) rateAt(s *session, t float64) {
	a := &s.net
	if s.v.Trace > 0 {
		tr := e.w.Traces[s.v.Trace-1]
		i := math.Floor(t - s.v.AtSec + s.v.TraceSec)
		a.rate = tr[int(i)%len(tr)] * or(s.v.MedianBps, 1)
		a.until = i + 1 + s.v.AtSec - s.v.TraceSec
		if a.until <= t { // rounding
			a.until = t + 1e-6
		}
		return
	}
	p := &e.w.Access
	for a.until <= t {
		a.z = p.Rho*a.z + math.Sqrt(1-p.Rho*p.Rho)*a.rnd.normal()
		a.rate = s.v.MedianBps * math.Exp(p.Sigma*a.z)
		if a.rnd.float() < p.FadeShare {
			a.rate *= p.FadeFactor
		}
		a.until += max(a.rnd.exp(p.HoldSec), 0.05)
	}
}

// maxFetchSec is when a player gives a request up (hls.js fragLoadPolicy: 10 s to
// the first byte; a transfer that takes as long again is as dead).
const maxFetchSec = 20

// transfer gives when bits have come through that begin to flow at t.
func (e *engine) transfer(s *session, t, bits, factor float64) float64 {
	limit := t + maxFetchSec
	for t < limit {
		if s.net.until <= t || s.v.Trace > 0 {
			e.rateAt(s, t)
		}
		r := s.net.rate * factor
		if dt := s.net.until - t; r*dt < bits {
			bits -= r * dt
			t = s.net.until
			continue
		}
		return t + bits/r
	}
	return math.Inf(1)
}

// pipe is work that is served in order at a capacity.
type pipe struct {
	bps    float64 // 0: not limited
	freeAt float64
}

// take adds bits at t and gives when they are through.
func (p *pipe) take(t, bits float64) float64 {
	if p.bps <= 0 {
		return t
	}
	p.freeAt = max(p.freeAt, t) + bits/p.bps
	return p.freeAt
}

// cdnState is a CDN in the run.
type cdnState struct {
	all      pipe
	byRegion map[string]*pipe
	paths    []pathState
	viewers  int
	bits     float64   // asked for in this sample
	lately   []float64 // asked for in the samples of the last second
	bytes    float64   // in all
	// overSec and overBpsSec are how long viewers and demand have been above the
	// capacity without a break.
	overSec, overBpsSec float64
}

// pathState is a path with the episodes of the moment.
type pathState struct {
	Path
	down, hang bool
	region     *pipe
}

func (e *engine) newCDNs() {
	for i := range e.w.CDNs {
		c := &e.w.CDNs[i]
		st := cdnState{all: pipe{bps: or(c.ServesBps, float64(c.CapacityBps))}, byRegion: map[string]*pipe{}}
		for r, limit := range c.RegionCapacity {
			if limit.Bps > 0 {
				st.byRegion[r] = &pipe{bps: float64(limit.Bps)}
			}
		}
		st.paths = make([]pathState, len(e.w.Places))
		e.cdns = append(e.cdns, st)
	}
	e.episodes(0)
}

// episodes brings the paths to what holds at t.
func (e *engine) episodes(t float64) {
	e.nextEpisode = math.Inf(1)
	for i := range e.cdns {
		for p := range e.w.Places {
			ps := pathState{Path: e.w.CDNs[i].Paths[p], region: e.cdns[i].byRegion[e.w.Places[p].Region]}
			ps.Factor = or(ps.Factor, 1)
			for k := range e.w.Episodes {
				x := &e.w.Episodes[k]
				if t >= x.FromSec && t < x.ToSec && x.CDN == e.w.CDNs[i].Name && (x.Region == "" || x.Region == e.w.Places[p].Region) {
					ps.down, ps.hang = ps.down || x.Down, ps.hang || x.Hang
					ps.Factor *= or(x.Factor, 1)
					ps.ErrorRatio += x.ErrorRatio
				}
			}
			e.cdns[i].paths[p] = ps
		}
	}
	for k := range e.w.Episodes {
		for _, at := range []float64{e.w.Episodes[k].FromSec, e.w.Episodes[k].ToSec} {
			if at > t {
				e.nextEpisode = min(e.nextEpisode, at)
			}
		}
	}
}

// factor of a session's path to a CDN, apart from the place's.
func (e *engine) factor(s *session, cdn int) float64 {
	if s.factorOf != cdn {
		s.factorOf, s.pathFactor = cdn, 1
		if spread := e.w.CDNs[cdn].Spread; spread > 0 {
			s.pathFactor = math.Exp(spread * fixed(s.v.Seed, uint64(cdn)))
		}
	}
	return s.pathFactor
}
