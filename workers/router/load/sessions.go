package load

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// shards is how many parts the sessions are in, each with a lock of its own: who
// looks at all of them holds up one part at a time.
const shards = 256

// shard holds the sessions of some ids.
type shard struct {
	mu sync.Mutex
	by map[string]*session
}

// of locks the part that an id is in.
func (l *Table) of(id string) *shard {
	s := &l.sessions[maphash.String(l.seed, id)%shards]
	s.mu.Lock()
	return s
}

// session is one playback session as far as load is concerned.
type session struct {
	cdn, region string
	// on and here count it where it is; nil: it is on no CDN.
	on    *cdnLoad
	here  *regionLoad
	group uint8
	seen  time.Time // last sign of life
	// at is when cdn was last told, by the bus's clock.
	at time.Time
	// moved is when cdn last changed from another; zero: not that we know.
	moved time.Time
	// left is the CDN that the player left of itself, leftAt when that was known.
	left   string
	leftAt time.Time
	// probed is when its client last reported probes, measured when its player last told its throughput.
	probed, measured time.Time
	// stored is when the last decision about it was made; zero if it is known from slices only.
	stored time.Time
	// ownUs is the time of a decision of this router that has not come back from
	// the bus yet, Unix microseconds; 0: none.
	ownUs int64
}

// echoLimit is how long a router's own decision is held against what the bus
// tells when it does not come back.
const echoLimit = 5 * time.Second

// settled is how long after a decision what is seen of a session may still be of before it.
const settled = 30 * time.Second

// Fact is where a session is, as a decision says.
type Fact struct {
	ID, CDN, Region string
	Group           uint8
	At              time.Time // of the decision, by the clock of the router that made it
}

// Answered notes a decision of this router.
func (l *Table) Answered(f *Fact) {
	if f.ID == "" || f.CDN == "" {
		return
	}
	h := l.of(f.ID)
	defer h.mu.Unlock()
	s := l.touch(h, f.ID, f.At)
	if s == nil {
		return
	}
	l.place(s, f, f.At)
	s.ownUs = f.At.UnixMicro()
	l.move(s, f.CDN, f.At)
}

// Knows says whether a session is known already.
func (l *Table) Knows(id string) bool {
	h := l.of(id)
	defer h.mu.Unlock()
	return h.by[id] != nil
}

// Decided notes a decision that the bus tells of: another router's, or this
// one's own. bus is when the bus stored it, less the time it waited for the bus.
func (l *Table) Decided(f *Fact, bus time.Time) {
	if f.ID == "" || f.CDN == "" {
		return
	}
	h := l.of(f.ID)
	defer h.mu.Unlock()
	s := l.touch(h, f.ID, bus)
	if s == nil {
		return
	}
	if s.ownUs == f.At.UnixMicro() {
		// From here on it is of the same time for all routers, whatever their clocks say.
		if s.stored.UnixMicro() == s.ownUs || bus.After(s.stored) {
			s.stored = bus
		}
		if s.moved.UnixMicro() == s.ownUs {
			s.moved = bus
		}
		s.ownUs = 0
		if bus.After(s.at) {
			s.at = bus
		}
		return
	}
	if l.waits(s, l.Now()) || bus.Before(s.at) {
		return
	}
	l.place(s, f, bus)
	s.at = bus
	l.move(s, f.CDN, bus)
}

// waits says whether the session's place is a decision of this router that is
// still on its way to the bus. Its shard is locked.
func (l *Table) waits(s *session, now time.Time) bool {
	if s.ownUs != 0 && now.Sub(time.UnixMicro(s.ownUs)) > echoLimit {
		s.ownUs = 0
	}
	return s.ownUs != 0
}

func (l *Table) place(s *session, f *Fact, at time.Time) {
	if s.region != f.Region {
		s.region = strings.Clone(f.Region)
		if s.cdn != "" {
			l.count(s, s.cdn)
		}
	}
	s.group = f.Group
	if at.After(s.stored) {
		s.stored = at
	}
}

// Served notes a slice of a session (CDN empty: unknown).
func (l *Table) Served(x *schemas.Slice, bus time.Time) {
	cdn := l.registered(x.CDN)
	h := l.of(x.SessionID)
	defer h.mu.Unlock()
	s := h.by[x.SessionID]
	if s == nil && cdn == "" {
		return
	}
	unknown := s == nil
	if s = l.touch(h, x.SessionID, bus); s == nil {
		return
	}
	l.heard(bus)
	if unknown {
		s.region = strings.Clone(x.Region)
	}
	// Only sessions that a router began speak of health: others cost nothing to make up.
	if !s.stored.IsZero() && cdn != "" {
		l.add(x, s.group, bus)
	}
	if cdn != "" && bus.After(s.at) && !l.waits(s, l.Now()) {
		s.at = bus
		l.wanders(s, cdn, bus)
		l.move(s, cdn, bus)
	}
}

// wanders notes that a player is about to be seen on a CDN other than its own. Where
// no router has decided about it for settled, it has left of itself.
func (l *Table) wanders(s *session, cdn string, at time.Time) {
	switch {
	case cdn == s.left:
		s.left = ""
	case s.cdn != "" && s.cdn != cdn && !s.stored.IsZero() && at.Sub(s.stored) > settled:
		s.left, s.leftAt = s.cdn, at
	}
}

// Ended notes the last slice of a session and forgets it, unless it was decided about after the end.
func (l *Table) Ended(x *schemas.Slice, bus time.Time) {
	h := l.of(x.SessionID)
	defer h.mu.Unlock()
	s := h.by[x.SessionID]
	if s == nil {
		return
	}
	l.heard(bus)
	if !s.stored.IsZero() && l.registered(x.CDN) != "" {
		l.add(x, s.group, bus)
	}
	if s.at.Before(bus) && !l.waits(s, l.Now()) {
		l.forget(h, x.SessionID, s)
	}
}

// add folds a slice into health.
func (l *Table) add(x *schemas.Slice, group uint8, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health.Add(x, group, at)
}

// touch finds or makes a session; nil when it is past the window or there are too many. The shard is locked.
func (l *Table) touch(h *shard, id string, at time.Time) *session {
	s := h.by[id]
	if s == nil {
		if l.Now().Sub(at) > l.window {
			return nil
		}
		if l.known.Add(1) > maxSessions {
			n := l.known.Add(-1)
			if !l.full.Swap(true) {
				l.logger.Error("router knows too many sessions: further ones are not counted", "sessions", n)
			}
			return nil
		}
		s = &session{}
		if h.by == nil {
			h.by = map[string]*session{}
		}
		h.by[strings.Clone(id)] = s
	}
	if at.After(s.seen) {
		s.seen = at
	}
	return s
}

func (l *Table) move(s *session, cdn string, at time.Time) {
	if s.cdn == cdn {
		return
	}
	if s.cdn != "" {
		s.moved = at
	}
	l.count(s, cdn)
}

// count counts a session on a CDN, and no more where it was.
func (l *Table) count(s *session, cdn string) {
	down(s.on, s.here)
	s.cdn = cdn
	s.on, s.here = l.counts.up(cdn, s.region)
}

func (l *Table) forget(h *shard, id string, s *session) {
	down(s.on, s.here)
	delete(h.by, id)
	l.known.Add(-1)
}

// sweep forgets sessions without a sign of life, ten times in a window: it looks
// at all of them, one part after the other.
func (l *Table) sweep(now time.Time) {
	was := l.swept.Load()
	if now.Sub(time.Unix(0, was)) < l.window/10 || !l.swept.CompareAndSwap(was, now.UnixNano()) {
		return
	}
	for i := range l.sessions {
		h := &l.sessions[i]
		h.mu.Lock()
		for id, s := range h.by {
			if now.Sub(s.seen) > l.window {
				l.forget(h, id, s)
			}
		}
		h.mu.Unlock()
	}
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
	h := l.of(id)
	defer h.mu.Unlock()
	s := h.by[id]
	if s == nil {
		return Whereabouts{}
	}
	return Whereabouts{s.cdn, s.moved, s.stored, s.left, s.leftAt, true}
}
