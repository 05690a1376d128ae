package load

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// session is one playback session as far as load is concerned. Moments are Unix
// nanoseconds by the bus's clock, 0: never, not that we know. There are no pointers
// in it: a million sessions cost nothing when memory is collected.
type session struct {
	cdn, region name
	// left is the CDN that the player left of itself, leftAt when that was known.
	left  name
	group uint8
	// speaks: routers were asked about it over and over, as players do that steer. served: a slice told of it.
	speaks, served bool
	// stream is which one it is of, known only while some CDN limits the viewers of one.
	stream streamNo
	seen   int64 // last sign of life
	// at is when cdn was last told; moved when it last changed from another.
	at, moved, leftAt int64
	// probed is when its client last reported probes, measured when its player last told its throughput.
	probed, measured int64
	// asked and reported are what its player last measured on cdn, kbit/s, as it said when it
	// asked for steering and in its reports; 0: nothing yet.
	asked, reported float32
	// stored is when the last decision about it was made; 0 if it is known from slices only.
	stored int64
	// ownUs is the time of a decision of this router that has not come back from
	// the bus yet, Unix microseconds; 0: none.
	ownUs int64
}

// echoLimit is how long a router's own decision is held against what the bus
// tells when it does not come back.
const echoLimit = 5 * time.Second

// settled is how long after a decision what is seen of a session may still be of before it.
const settled = 30 * time.Second

// blended is how long a player's estimate of throughput still has much of the CDN that
// it was on before: of hls.js, two of the longer half-lives.
const blended = 20 * time.Second

func (s *session) blends(at int64) bool { return s.moved != 0 && at-s.moved < int64(blended) }

// Fact is where a session is, as a decision says.
type Fact struct {
	ID, CDN, Region string
	Group           uint8
	Stream          schemas.StreamKey // empty: not told
	At              time.Time         // of the decision, as the router that made it says; with ID, it names the decision
}

// Answered notes a decision of this router.
func (l *Table) Answered(f *Fact) {
	if f.ID == "" || f.CDN == "" {
		return
	}
	h, k := l.of(f.ID)
	defer h.mu.Unlock()
	at := f.At.UnixNano()
	s := l.touch(h, k, at)
	if s == nil {
		return
	}
	l.place(s, f, at)
	l.enter(s, f.Stream)
	s.ownUs = f.At.UnixMicro()
	l.move(s, l.names.of(f.CDN), at)
}

// Knows says whether a session is known already.
func (l *Table) Knows(id string) bool {
	h, k := l.of(id)
	defer h.mu.Unlock()
	return h.get(k) != nil
}

// Decided notes a decision that the bus tells of: another router's, or this
// one's own. bus is when the bus stored it, less the time it waited for the bus.
func (l *Table) Decided(f *Fact, bus time.Time) {
	if f.ID == "" || f.CDN == "" {
		return
	}
	h, k := l.of(f.ID)
	defer h.mu.Unlock()
	at := bus.UnixNano()
	s := l.touch(h, k, at)
	if s == nil {
		return
	}
	if s.ownUs == f.At.UnixMicro() {
		// From here on it is of the same time for all routers, to the nanosecond.
		if s.stored/1000 == s.ownUs || at > s.stored {
			s.stored = at
		}
		if s.moved/1000 == s.ownUs {
			s.moved = at
		}
		s.ownUs = 0
		s.at = max(s.at, at)
		return
	}
	if l.waits(s, l.Now()) || at < s.at {
		return
	}
	l.place(s, f, at)
	l.enter(s, f.Stream)
	s.at = at
	l.move(s, l.names.of(f.CDN), at)
}

// waits says whether the session's place is a decision of this router that is
// still on its way to the bus. Its shard is locked.
func (l *Table) waits(s *session, now time.Time) bool {
	if s.ownUs != 0 && now.Sub(time.UnixMicro(s.ownUs)) > echoLimit {
		s.ownUs = 0
	}
	return s.ownUs != 0
}

func (l *Table) place(s *session, f *Fact, at int64) {
	if region := l.names.of(f.Region); s.region != region {
		l.uncount(s)
		s.region = region
		l.count(s)
	}
	if s.stored != 0 && at-s.stored > int64(settled) {
		s.speaks = true
	}
	s.group = f.Group
	s.stored = max(s.stored, at)
}

// Served notes a slice of a session (CDN empty: unknown).
func (l *Table) Served(x *schemas.Slice, bus time.Time) {
	cdn := l.names.of(l.registered(x.CDN))
	h, k := l.of(x.SessionID)
	defer h.mu.Unlock()
	s := h.get(k)
	if s == nil && cdn == nowhere {
		return
	}
	unknown, at := s == nil, bus.UnixNano()
	if s = l.touch(h, k, at); s == nil {
		return
	}
	l.heard(bus)
	s.served = true
	if unknown {
		s.region = l.names.of(x.Region)
	}
	if !l.streams.is(s.stream, schemas.StreamKey{}) { // what a router said of it holds
		l.enter(s, schemas.StreamKey{App: x.App, Stream: x.Stream})
	}
	// Only sessions that a router began speak of health: others cost nothing to make up.
	if s.stored != 0 && cdn != nowhere {
		before := &s.reported
		if cdn != s.cdn || s.blends(at) {
			before = nil
		}
		l.add(x, s.group, bus, before)
	}
	if cdn != nowhere && at > s.at && !l.waits(s, l.Now()) {
		s.at = at
		s.wanders(cdn, at)
		l.move(s, cdn, at)
	}
}

// wanders notes that a player is about to be seen on a CDN other than its own. Where
// no router has decided about it for settled, it has left of itself.
func (s *session) wanders(cdn name, at int64) {
	switch {
	case cdn == s.left:
		s.left = nowhere
	case s.cdn != nowhere && s.cdn != cdn && s.stored != 0 && at-s.stored > int64(settled):
		s.left, s.leftAt = s.cdn, at
	}
}

// Ended notes the last slice of a session and forgets it, unless it was decided about after the end.
func (l *Table) Ended(x *schemas.Slice, bus time.Time) {
	h, k := l.of(x.SessionID)
	defer h.mu.Unlock()
	s := h.get(k)
	if s == nil {
		return
	}
	l.heard(bus)
	if s.stored != 0 && l.registered(x.CDN) != "" {
		l.add(x, s.group, bus, nil)
	}
	if s.at < bus.UnixNano() && !l.waits(s, l.Now()) {
		l.forget(h, k, s)
	}
}

// add folds a slice into health, with how the throughput in it compares with that told
// before, which it takes the place of; nil: there is none to compare with.
func (l *Table) add(x *schemas.Slice, group uint8, at time.Time, before *float32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health.Add(x, group, at)
	if before == nil || x.ThroughputReports <= 0 || x.ThroughputKbpsSum <= 0 {
		return
	}
	kbps := float32(float64(x.ThroughputKbpsSum) / float64(x.ThroughputReports))
	if *before > 0 {
		l.health.Compared(x.CDN, float64(kbps / *before), group, at)
	}
	*before = kbps
}

// touch finds or makes a session; nil when it is past the window or there are too
// many. The shard is locked; what is returned holds until it is unlocked or touched again.
func (l *Table) touch(h *shard, k key, at int64) *session {
	s := h.get(k)
	if s == nil {
		if x := l.limits(l.Now()); at < min(x.alive, x.held) {
			return nil
		}
		if l.known.Add(1) > maxSessions {
			n := l.known.Add(-1)
			if !l.full.Swap(true) {
				l.logger.Error("router knows too many sessions: further ones are not counted", "sessions", n)
			}
			return nil
		}
		s = h.make(k)
	}
	s.seen = max(s.seen, at)
	return s
}

func (l *Table) move(s *session, cdn name, at int64) {
	if s.cdn == cdn {
		return
	}
	if s.cdn != nowhere {
		s.moved = at
	}
	if s.stream != 0 {
		l.streams.moved(s.stream, s.cdn, cdn)
	}
	l.uncount(s)
	s.cdn, s.asked, s.reported = cdn, 0, 0
	l.count(s)
}

// count counts a session where it is, and uncount no more.
func (l *Table) count(s *session) {
	if s.cdn != nowhere {
		l.counts.up(l.names.word(s.cdn), l.names.word(s.region))
	}
}

func (l *Table) uncount(s *session) {
	if s.cdn != nowhere {
		l.counts.down(l.names.word(s.cdn), l.names.word(s.region))
	}
}

func (l *Table) forget(h *shard, k key, s *session) {
	if s.stream != 0 {
		l.streams.forget(s.stream, s.cdn)
	}
	l.uncount(s)
	h.remove(k)
	l.known.Add(-1)
}

// sweep forgets sessions without a sign of life, ten times in a window: it looks
// at all of them, one part after the other.
func (l *Table) sweep(now time.Time) {
	was := l.swept.Load()
	if now.Sub(time.Unix(0, was)) < l.window/10 || !l.swept.CompareAndSwap(was, now.UnixNano()) {
		return
	}
	past, held := l.limits(now), int64(0)
	for i := range l.sessions {
		h := &l.sessions[i]
		h.mu.Lock()
		for k, at := range h.by {
			s := &h.all[at]
			counts, is := past.count(k, s)
			if !counts {
				l.forget(h, k, s)
			}
			if is {
				held++
			}
		}
		h.shrink()
		h.mu.Unlock()
	}
	l.sayHeld(held, now)
	if l.known.Load() < maxSessions {
		l.full.Store(false)
	}
}

// Whereabouts is what is known of a session.
type Whereabouts struct {
	CDN string
	// Moved is when CDN last changed from another, Stored when the last decision
	// about the session was made; zero: not that we know.
	Moved, Stored time.Time
	// Left is the CDN that the player was last seen to leave without being sent, and
	// LeftAt when; empty: none that we know. It is taken to have failed there.
	Left   string
	LeftAt time.Time
	Known  bool
}

// Where tells which CDN a session is on.
func (l *Table) Where(id string) Whereabouts {
	h, k := l.of(id)
	defer h.mu.Unlock()
	s := h.get(k)
	if s == nil {
		return Whereabouts{}
	}
	return Whereabouts{l.names.word(s.cdn), moment(s.moved), moment(s.stored), l.names.word(s.left), moment(s.leftAt), true}
}

func moment(unixNs int64) time.Time {
	if unixNs == 0 {
		return time.Time{}
	}
	return time.Unix(0, unixNs)
}
