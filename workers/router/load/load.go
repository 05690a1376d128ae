// Package load knows which session is on which CDN and how CDNs serve, so as a
// router knows it: a fold over what routers answered and what was served.
//
// It promises: no I/O and no clock of its own, so that a simulation runs the very
// code that routers run; tables that are told the same come to the same. It
// leaves out how decisions and slices are read from the bus (the router does) and
// what is decided on the facts (package policy).
package load

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// maxSessions bounds the sessions a router remembers; about 300 bytes each.
const maxSessions = 2_000_000

// Table is a fold over two bus streams, DECISIONS (what routers answered) and
// SLICES (what was served), from a window ago on, so routers that read the same
// come to the same. What comes later on the bus counts, by the bus's clock:
// routers' own clocks may differ. A router's own answer counts at once, and keeps
// its place when it comes back from the bus. It is safe for concurrent use.
type Table struct {
	window time.Duration
	logger *slog.Logger
	// CDNs gives the registry's CDNs; Now the time, which a simulation makes itself.
	// Set them before the first use.
	CDNs func() []schemas.CDN
	Now  func() time.Time
	// Usage gives what CDNs delivered this month; nil: it is not known.
	Usage func() *schemas.Usage

	mu       sync.Mutex
	sessions map[string]*session
	on       map[string]*cdnLoad // by CDN
	newest   time.Time           // of the telemetry; decisions do not count: routers make them whether it flows or not
	swept    time.Time
	full     bool // maxSessions was reached, and said

	health *health.Table
	places map[Place]*placeFacts
	probes probeBudget
}

// cdnLoad is who is on a CDN.
type cdnLoad struct {
	viewers  int
	byRegion map[string]*regionLoad
	trend    health.Trend
}

// regionLoad is who is on a CDN from one region.
type regionLoad struct {
	viewers int
	trend   health.Trend
}

func newCDNLoad() *cdnLoad { return &cdnLoad{byRegion: map[string]*regionLoad{}} }

// session is one playback session as far as load is concerned.
type session struct {
	cdn, region string
	group       uint8
	seen        time.Time // last sign of life
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

// New gives an empty table; a session counts for the window after its last sign of life.
func New(window time.Duration, logger *slog.Logger) *Table {
	return &Table{
		window: window, logger: logger, sessions: map[string]*session{}, on: map[string]*cdnLoad{},
		CDNs: func() []schemas.CDN { return nil }, Now: time.Now, health: health.New(), places: map[Place]*placeFacts{},
	}
}

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
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.touch(f.ID, f.At)
	if s == nil {
		return
	}
	l.place(s, f)
	s.ownUs = f.At.UnixMicro()
	l.move(s, f.CDN, f.At)
}

// Knows says whether a session is known already.
func (l *Table) Knows(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[id] != nil
}

// Decided notes a decision that the bus tells of: another router's, or this
// one's own. bus is when the bus stored it, less the time it waited for the bus.
func (l *Table) Decided(f *Fact, bus time.Time) {
	if f.ID == "" || f.CDN == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.touch(f.ID, bus)
	if s == nil {
		return
	}
	if s.ownUs == f.At.UnixMicro() {
		s.ownUs = 0
		if bus.After(s.at) {
			s.at = bus
		}
		return
	}
	if l.waits(s, l.Now()) || bus.Before(s.at) {
		return
	}
	l.place(s, f)
	s.at = bus
	l.move(s, f.CDN, f.At)
}

// waits says whether the session's place is a decision of this router that is
// still on its way to the bus. l.mu is held.
func (l *Table) waits(s *session, now time.Time) bool {
	if s.ownUs != 0 && now.Sub(time.UnixMicro(s.ownUs)) > echoLimit {
		s.ownUs = 0
	}
	return s.ownUs != 0
}

func (l *Table) place(s *session, f *Fact) {
	if s.region != f.Region {
		cdn := s.cdn
		l.uncount(s)
		s.region = strings.Clone(f.Region)
		s.cdn = ""
		if cdn != "" {
			l.count(s, cdn)
		}
	}
	s.group = f.Group
	if f.At.After(s.stored) {
		s.stored = f.At
	}
}

// Served notes a slice of a session (CDN empty: unknown).
func (l *Table) Served(x *schemas.Slice, bus time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[x.SessionID]
	cdn := l.registered(x.CDN)
	if s == nil && cdn == "" {
		return
	}
	unknown := s == nil
	if s = l.touch(x.SessionID, bus); s == nil {
		return
	}
	l.heard(bus)
	if unknown {
		s.region = strings.Clone(x.Region)
	}
	// Only sessions that a router began speak of health: others cost nothing to make up.
	if !s.stored.IsZero() && cdn != "" {
		l.health.Add(x, s.group, bus)
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

// registered gives the name of a CDN as the registry has it, or "": players may
// name what they like, and nothing is held for that. While the registry is not
// read yet, any name may be one.
func (l *Table) registered(name string) string {
	list := l.CDNs()
	if len(list) == 0 {
		return strings.Clone(name) // not the whole message
	}
	for i := range list {
		if list[i].Name == name {
			return list[i].Name
		}
	}
	return ""
}

// Ended notes the last slice of a session and forgets it, unless it was decided about after the end.
func (l *Table) Ended(x *schemas.Slice, bus time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[x.SessionID]
	if s == nil {
		return
	}
	l.heard(bus)
	if !s.stored.IsZero() && l.registered(x.CDN) != "" {
		l.health.Add(x, s.group, bus)
	}
	if s.at.Before(bus) && !l.waits(s, l.Now()) {
		l.forget(x.SessionID, s)
	}
}

// heard notes the time of a slice that counts. l.mu is held.
func (l *Table) heard(bus time.Time) {
	if bus.After(l.newest) {
		l.newest = bus
	}
}

// touch finds or makes a session; nil when it is past the window or there are too many. l.mu is held.
func (l *Table) touch(id string, at time.Time) *session {
	s := l.sessions[id]
	if s == nil {
		if l.Now().Sub(at) > l.window {
			return nil
		}
		if len(l.sessions) >= maxSessions {
			if !l.full {
				l.logger.Error("router knows too many sessions: further ones are not counted", "sessions", len(l.sessions))
			}
			l.full = true
			return nil
		}
		s = &session{}
		l.sessions[strings.Clone(id)] = s
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
	l.uncount(s)
	l.count(s, cdn)
}

func (l *Table) count(s *session, cdn string) {
	s.cdn = cdn
	c := l.on[cdn]
	if c == nil {
		c = newCDNLoad()
		l.on[cdn] = c
	}
	c.viewers++
	r := c.byRegion[s.region]
	if r == nil {
		r = &regionLoad{}
		c.byRegion[s.region] = r
	}
	r.viewers++
}

func (l *Table) uncount(s *session) {
	c := l.on[s.cdn]
	if s.cdn == "" || c == nil {
		return
	}
	c.viewers--
	if r := c.byRegion[s.region]; r != nil {
		r.viewers--
	}
}

func (l *Table) forget(id string, s *session) {
	l.uncount(s)
	delete(l.sessions, id)
}

// sweep forgets sessions without a sign of life, ten times in a window: it looks at all of them. l.mu is held.
func (l *Table) sweep(now time.Time) {
	if now.Sub(l.swept) < l.window/10 {
		return
	}
	l.swept = now
	for id, s := range l.sessions {
		if now.Sub(s.seen) > l.window {
			l.forget(id, s)
		}
	}
	l.full = l.full && len(l.sessions) >= maxSessions
}

// Viewers counts sessions by CDN. The map is the caller's.
func (l *Table) Viewers(now time.Time) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	out := make(map[string]int, len(l.on))
	for name, c := range l.on {
		if c.viewers > 0 {
			out[name] = c.viewers
		}
	}
	return out
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
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[id]
	if s == nil {
		return Whereabouts{}
	}
	return Whereabouts{s.cdn, s.moved, s.stored, s.left, s.leftAt, true}
}

// AgeMs is how old the newest slice is that counts, milliseconds; -1 without any.
func (l *Table) AgeMs(now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest.IsZero() {
		return -1
	}
	return max(now.Sub(l.newest).Milliseconds(), 0)
}
