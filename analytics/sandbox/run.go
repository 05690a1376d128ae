package sandbox

import (
	"math"
	"strconv"
)

// engine is a run.
type engine struct {
	w        *World
	q        queue
	sessions []*session
	free     []int32
	cdns     []cdnState
	r        routers
	res      *Result
	begun    uint64

	nextEpisode float64
}

// Run simulates a world. Errors name what in the world is wrong; ErrStopped when
// Progress said so.
func Run(w World) (*Result, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	e := &engine{w: &w, res: newResult(&w)}
	e.newCDNs()
	e.newRouters()
	if err := e.loop(); err != nil {
		return nil, err
	}
	e.finish()
	return e.res, nil
}

func (e *engine) loop() error {
	w := e.w
	viewer, more := w.Viewers()
	nextTick, nextSample, nextSay := w.Control.ShareSec, w.SampleSec, 0.0
	for {
		t := math.Inf(1)
		if len(e.q) > 0 {
			t = e.q[0].at
		}
		if more {
			t = min(t, viewer.AtSec)
		}
		t = min(t, nextTick, nextSample, e.nextEpisode)
		if t >= w.Seconds {
			return nil
		}
		switch {
		case t == e.nextEpisode:
			e.episodes(t)
		case t == nextTick:
			e.tick(t)
			nextTick += w.Control.ShareSec
			if w.Progress != nil && t >= nextSay {
				nextSay = t + w.Seconds/1000
				if !w.Progress(t) {
					return ErrStopped
				}
			}
		case t == nextSample:
			e.sample(t)
			nextSample += w.SampleSec
		case more && t == viewer.AtSec:
			e.begin(viewer)
			viewer, more = w.Viewers()
		default:
			e.handle(e.q.pop())
		}
	}
}

func (e *engine) schedule(t float64, slot int32, s *session, k kind) {
	e.q.push(event{at: t, slot: slot, gen: s.gen, kind: k})
}

func (e *engine) handle(x event) {
	s := e.sessions[x.slot]
	if s.gen != x.gen || s.state == over {
		return // of a session that is over
	}
	switch x.kind {
	case evRequest:
		if e.hopeless(s, x.slot, x.at) {
			return
		}
		e.request(s, x.slot, x.at)
	case evDone:
		e.done(s, x.slot, x.at)
	case evFail:
		if e.hopeless(s, x.slot, x.at) {
			return
		}
		e.fail(s, x.slot, x.at)
	case evSteer:
		e.steer(s, x.slot, x.at)
	case evStall:
		e.stall(s, x.slot, x.at)
	case evReport:
		e.report(s, x.at, false)
		e.schedule(x.at+e.w.Control.ReportSec, x.slot, s, evReport)
	case evEnd:
		e.end(s, x.slot, x.at)
	}
}

// startLimitSec is how long a viewer waits for the first frame.
const startLimitSec = 30

// hopeless ends a session that has waited too long for its first frame.
func (e *engine) hopeless(s *session, slot int32, t float64) bool {
	if s.state != starting || t-s.v.AtSec < startLimitSec {
		return false
	}
	s.unsaid.startFails++
	e.end(s, slot, t)
	return true
}

// begin opens a session.
func (e *engine) begin(v Viewer) {
	e.begun++
	var slot int32
	if n := len(e.free); n > 0 {
		slot = e.free[n-1]
		e.free = e.free[:n-1]
	} else {
		slot = int32(len(e.sessions))
		e.sessions = append(e.sessions, &session{})
	}
	s := e.sessions[slot]
	gen := s.gen + 1
	*s = session{
		v: v, gen: gen, id: "s" + strconv.FormatUint(e.w.Seed, 36) + "." + strconv.FormatUint(e.begun, 36),
		net: access{rnd: rng(mix(v.Seed)), until: v.AtSec}, rnd: rng(mix(v.Seed ^ 0x5eed)),
		state: starting, speed: 1, at: v.AtSec, movedAt: math.NaN(), factorOf: -1, counted: v.AtSec >= e.w.WarmSec && v.Accuses == 0,
	}
	s.net.z = s.net.rnd.normal()
	s.unsaid.attempts = 1
	s.phase = s.rnd.float()
	e.res.Sessions++
	a, ok := e.decide(s, -1, v.AtSec)
	if !ok {
		e.res.Refused++
		s.unsaid.startFails++
		e.end(s, slot, v.AtSec)
		return
	}
	s.cdn = e.r.index[a.Chosen]
	s.chosen, s.sentTo, s.probability = s.cdn, s.cdn, a.Probability
	for i := range a.Candidates[:a.Eligible] {
		s.order[i] = int8(e.r.index[a.Candidates[i].CDN])
	}
	s.options = a.Eligible
	e.cdns[s.cdn].viewers++
	p := &e.w.Players[v.Player]
	first := v.AtSec + 3*e.cdns[s.cdn].paths[v.Place].RTTSec + 0.05 // dispatch, manifest, playlist
	s.next = max(int64(math.Floor(first/p.SegmentSec))-int64(p.StartBehind), 0)
	s.pos = float64(s.next) * p.SegmentSec
	e.schedule(first, slot, s, evRequest)
	if ttl := e.w.Control.SteeringTTLSec; ttl > 0 {
		e.schedule(v.AtSec+ttl, slot, s, evSteer)
	}
	e.schedule(v.AtSec+e.w.Control.ReportSec*s.rnd.float(), slot, s, evReport)
	e.schedule(v.AtSec+v.WatchSec, slot, s, evEnd)
}

// end closes a session and frees its slot.
func (e *engine) end(s *session, slot int32, t float64) {
	e.report(s, t, true)
	if s.options > 0 {
		e.cdns[s.cdn].viewers--
	}
	e.count(s, t)
	s.state = over
	e.res.Ended++
	e.free = append(e.free, slot)
}

// finish closes what is still open, without the routers hearing of it.
func (e *engine) finish() {
	for _, s := range e.sessions {
		if s.state != over && s.gen > 0 {
			s.advance(e.w.Seconds)
			s.sum.add(&s.unsaid)
			s.unsaid = sums{}
			e.count(s, e.w.Seconds)
			e.res.Open++
		}
	}
	e.res.close(e)
}
