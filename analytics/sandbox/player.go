package sandbox

import "math"

// state of a playback.
type state uint8

const (
	starting state = iota
	playing
	stalled
	over
)

// sums are what a session adds up, in all or since the last report.
type sums struct {
	played, stalled    float64 // s
	latencySum         float64 // s x s played
	bitrateSum         float64 // bit/s x s played
	startup            float64 // s
	stalls             int32
	attempts, starts   int32
	startFails, errors int32
	requests           int32
	bytes              float64
	fetchSec           float64 // of transfers, without the first round trip
}

func (a *sums) add(b *sums) {
	a.played += b.played
	a.stalled += b.stalled
	a.latencySum += b.latencySum
	a.bitrateSum += b.bitrateSum
	a.startup += b.startup
	a.stalls += b.stalls
	a.attempts += b.attempts
	a.starts += b.starts
	a.startFails += b.startFails
	a.errors += b.errors
	a.requests += b.requests
	a.bytes += b.bytes
	a.fetchSec += b.fetchSec
}

// session is one playback in the run.
type session struct {
	v   Viewer
	id  string
	gen uint16
	net access
	rnd rng // of what is not the network's

	state  state
	speed  float64
	at     float64 // when buffer and position were right
	buffer float64 // s of media
	pos    float64 // media time shown, s
	next   int64   // number of the next segment
	level  int
	credit bool // the segment on its way is in the buffer already: its start is shown

	fast, slow          float64 // EWMAs of throughput, bit/s
	weight              float64 // s of transfer behind them
	asked               float64 // when the request was sent
	bits                float64 // of it
	fails               int     // in a row
	cdn                 int
	order               [maxCDNs]int8
	options             int
	penalty             [maxCDNs]float32 // until when a CDN is avoided, s; 0: not
	movedAt             float64          // as the token carries it; NaN: never
	lastMove, firstMove float64
	phase               float64 // of its playlist requests, 0 to 1
	moves               int
	sentTo              int // by the last answer
	movedTwice          bool
	chosen              int // first decision, and its probability
	probability         float64
	sum, unsaid         sums
	factorOf            int
	pathFactor          float64

	counted bool
	watched bool    // an evStall is to come
	shown   float64 // bitrate on the screen, bit/s
}

// advance integrates playback up to t.
func (s *session) advance(t float64) {
	dt := t - s.at
	if dt <= 0 {
		return
	}
	s.at = t
	switch s.state {
	case playing:
		can := s.buffer / s.speed
		play := min(dt, can)
		shown := play * s.speed
		mid := t - dt + play/2 - (s.pos + shown/2)
		s.unsaid.latencySum += mid * play
		s.unsaid.bitrateSum += s.shown * play
		s.unsaid.played += play
		s.buffer -= shown
		s.pos += shown
		if dt > can {
			s.buffer = 0
			s.state = stalled
			s.unsaid.stalls++
			s.unsaid.stalled += dt - can
		}
	case stalled:
		s.unsaid.stalled += dt
	}
}

// request asks for the next segment as soon as it is there and the player wants it.
func (e *engine) request(s *session, slot int32, t float64) {
	p := &e.w.Players[s.v.Player]
	s.advance(t)
	latency := t - s.pos
	if s.state != starting && latency > p.MaxLatencySec { // jump to the live edge
		live := int64(t/p.SegmentSec) - int64(p.StartBehind)
		if live > s.next {
			s.next, s.buffer = live, 0
			s.pos = float64(live) * p.SegmentSec
			if s.state == playing {
				s.state = stalled
				s.unsaid.stalls++
			}
		}
	}
	s.speed = 1
	if p.CatchUp > 0 && latency > p.TargetLatencySec+0.2 && s.buffer > p.SegmentSec/2 {
		s.speed = 1 + p.CatchUp
	}
	if there := float64(s.next+1) * p.SegmentSec; there > t {
		// The player learns of it when it next loads the playlist, about once a
		// segment and at its own pace.
		e.wait(s, slot, t, there+0.05+s.phase*p.SegmentSec, evRequest)
		return
	}
	c := &e.cdns[s.cdn]
	path := &c.paths[s.v.Place]
	s.asked = t
	s.unsaid.requests++
	switch {
	case path.hang:
		e.wait(s, slot, t, t+10, evFail)
		return
	case path.down:
		e.wait(s, slot, t, t+2*path.RTTSec, evFail)
		return
	case path.ErrorRatio > 0 && s.rnd.float() < path.ErrorRatio:
		e.wait(s, slot, t, t+path.RTTSec, evFail)
		return
	}
	s.level = s.pick(p)
	factor := path.Factor * e.factor(s, s.cdn)
	before := s.net
	size := 1.0
	if e.w.SizeSigma > 0 {
		size = math.Exp(e.w.SizeSigma*fixed(s.v.Seed, uint64(s.next)) - e.w.SizeSigma*e.w.SizeSigma/2)
	}
	bits := size * p.Levels[s.level] * p.SegmentSec
	arrives := e.transfer(s, t+path.RTTSec, bits, factor)
	if patience := max(s.buffer, p.SegmentSec); s.level > 0 && s.state != starting && arrives-t > 2*patience {
		// hls.js gives a fetch up that would empty the buffer and takes less.
		s.net = before
		gone := t + patience/2
		s.level = 0
		bits = size * p.Levels[0] * p.SegmentSec
		arrives = e.transfer(s, gone, bits, factor)
	}
	served := c.all.take(t+path.RTTSec/2, bits)
	if path.region != nil {
		served = max(served, path.region.take(t+path.RTTSec/2, bits))
	}
	served += path.RTTSec / 2
	s.bits = bits
	c.bits += bits
	done := max(arrives, served)
	if done-t > maxFetchSec {
		e.wait(s, slot, t, t+maxFetchSec, evFail)
		return
	}
	if s.state == starting && p.StartSec <= 0 {
		// The first key frame: about a tenth of a second of media.
		first := t + path.RTTSec + (done-t-path.RTTSec)*min(0.1/p.SegmentSec, 1)
		e.firstFrame(s, first)
		s.buffer += p.SegmentSec
		s.credit = true
		// Media that is shown before it has come is a stall of the rest.
		if late := done - first - p.SegmentSec; late > 0 {
			s.unsaid.stalls++
			s.unsaid.stalled += late
			s.at += late
		}
	}
	e.wait(s, slot, t, done, evDone)
}

// wait schedules what comes next, and a look at the player when its buffer is
// empty before that: players say at once that they stall.
func (e *engine) wait(s *session, slot int32, t, until float64, k kind) {
	e.schedule(until, slot, s, k)
	if empty := t + s.buffer/s.speed; s.state == playing && empty < until && !s.watched {
		s.watched = true
		e.schedule(empty+1e-3, slot, s, evStall)
	}
}

// stallEverySec is how often a stall that goes on is told of: at each tick of the sessioniser.
const stallEverySec = 1

func (e *engine) stall(s *session, slot int32, t float64) {
	s.advance(t)
	if s.watched = s.state == stalled; s.watched {
		e.report(s, t, false)
		e.schedule(t+stallEverySec, slot, s, evStall)
	}
}

// firstFrame begins playback at t.
func (e *engine) firstFrame(s *session, t float64) {
	s.state = playing
	s.at = t
	s.shown = e.w.Players[s.v.Player].Levels[s.level]
	s.unsaid.starts++
	s.unsaid.startup += t - s.v.AtSec
}

// done takes a segment in.
func (e *engine) done(s *session, slot int32, t float64) {
	p := &e.w.Players[s.v.Player]
	s.advance(t)
	s.fails = 0
	took := max(t-s.asked-e.cdns[s.cdn].paths[s.v.Place].RTTSec, 0.01)
	s.sample(s.bits, took)
	s.unsaid.fetchSec += took
	s.unsaid.bytes += s.bits / 8
	e.cdns[s.cdn].bytes += s.bits / 8
	s.next++
	if s.credit {
		s.credit = false
	} else {
		s.buffer += p.SegmentSec
	}
	s.shown = p.Levels[s.level]
	switch s.state {
	case starting:
		if s.buffer >= p.StartSec-1e-9 {
			e.firstFrame(s, t)
		}
	case stalled:
		s.state = playing
	}
	e.request(s, slot, t)
}

// fail retries, or leaves the CDN after the third failure in a row.
func (e *engine) fail(s *session, slot int32, t float64) {
	s.advance(t)
	s.fails++
	s.unsaid.errors++
	if s.fails >= 3 && e.w.Control.Fallback {
		s.penalty[s.cdn] = float32(t + penaltySec)
		if next := s.best(t); next != s.cdn {
			e.move(s, next, t)
			s.fails = 0
			e.request(s, slot, t)
			return
		}
	}
	e.wait(s, slot, t, t+min(math.Exp2(float64(min(s.fails, 4)-1)), 8), evRequest)
}

// penaltySec is how long hls.js avoids a pathway that failed.
const penaltySec = 300

// best is the first CDN in the session's order that it does not avoid.
func (s *session) best(t float64) int {
	for _, c := range s.order[:s.options] {
		if s.penalty[c] == 0 || float64(s.penalty[c]) <= t {
			return int(c)
		}
	}
	return s.cdn
}

// sample feeds the throughput of a transfer into both EWMAs, weighted by its
// duration (hls.js EwmaBandWidthEstimator, half lives 3 s and 9 s).
func (s *session) sample(bits, sec float64) {
	bps := bits / sec
	s.weight += sec
	blend := func(old, half float64) float64 {
		k := math.Exp2(-sec / half)
		return k*old + (1-k)*bps
	}
	if s.fast == 0 {
		s.fast, s.slow = bps, bps
		return
	}
	s.fast, s.slow = blend(s.fast, 3), blend(s.slow, 9)
}

// pick chooses the bitrate as hls.js does: the highest that 0.7 of the estimate
// bears when going up, 0.95 when not.
func (s *session) pick(p *Player) int {
	if len(p.Levels) == 1 {
		return 0
	}
	bps := min(s.fast, s.slow)
	if s.fast == 0 {
		bps = p.StartBps
	}
	for i := len(p.Levels) - 1; i > 0; i-- {
		share := 0.95
		if i > s.level || s.fast == 0 {
			share = 0.7
		}
		if p.Levels[i] <= bps*share {
			return i
		}
	}
	return 0
}
