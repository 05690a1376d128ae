package router

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// maxSessions bounds the sessions a router remembers; about 300 bytes each.
const maxSessions = 2_000_000

// load knows which session is on which CDN and how CDNs serve. It is a fold over
// two bus streams, DECISIONS (what routers answered) and SLICES (what was
// served), from AliveWindow ago on, so routers that read the same come to the
// same. What comes later on the bus counts, by the bus's clock: routers' own
// clocks may differ. A router's own answer counts at once, and keeps its place
// when it comes back from the bus.
type load struct {
	js     jetstream.JetStream
	window time.Duration
	logger *slog.Logger
	// cdns gives the registry's CDNs; now the time, which a simulation makes itself.
	cdns func() []schemas.CDN
	now  func() time.Time

	mu       sync.Mutex
	sessions map[string]*session
	on       map[string]*cdnLoad // by CDN
	newest   time.Time           // of the inputs
	swept    time.Time
	full     bool // maxSessions was reached, and said

	health *health.Table
	places map[place]*placeFacts
}

// cdnLoad is who is on a CDN.
type cdnLoad struct {
	viewers  int
	byRegion map[string]int
	trend    health.Trend
}

// session is one playback session as far as load is concerned.
type session struct {
	cdn, region string
	group       uint8
	seen        time.Time // last sign of life
	// at is when cdn was last told, by the bus's clock.
	at time.Time
	// moved is when cdn last changed from another; zero: not that we know.
	moved time.Time
	// stored is when the last decision about it was made; zero if it is known from slices only.
	stored time.Time
	// ownUs is the time of a decision of this router that has not come back from
	// the bus yet, Unix microseconds; 0: none.
	ownUs int64
}

// echoLimit is how long a router's own decision is held against what the bus
// tells when it does not come back.
const echoLimit = 5 * time.Second

func newLoad(js jetstream.JetStream, window time.Duration, logger *slog.Logger) *load {
	return &load{
		js: js, window: window, logger: logger, sessions: map[string]*session{}, on: map[string]*cdnLoad{},
		cdns: func() []schemas.CDN { return nil }, now: time.Now, health: health.New(), places: map[place]*placeFacts{},
	}
}

// fact is where a session is, as a decision says.
type fact struct {
	id, cdn, region string
	group           uint8
	at              time.Time // of the decision, by the clock of the router that made it
}

// answered notes a decision of this router.
func (l *load) answered(f *fact) {
	if f.id == "" || f.cdn == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.touch(f.id, f.at)
	if s == nil {
		return
	}
	l.place(s, f)
	s.ownUs = f.at.UnixMicro()
	l.move(s, f.cdn, f.at)
}

// decided notes a decision that the bus tells of: another router's, or this one's own.
func (l *load) decided(f *fact, bus time.Time) {
	if f.id == "" || f.cdn == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.touch(f.id, bus)
	if s == nil {
		return
	}
	if s.ownUs == f.at.UnixMicro() {
		s.ownUs = 0
		if bus.After(s.at) {
			s.at = bus
		}
		return
	}
	if l.waits(s, l.now()) || bus.Before(s.at) {
		return
	}
	l.place(s, f)
	s.at = bus
	l.move(s, f.cdn, f.at)
}

// waits says whether the session's place is a decision of this router that is
// still on its way to the bus. l.mu is held.
func (l *load) waits(s *session, now time.Time) bool {
	if s.ownUs != 0 && now.Sub(time.UnixMicro(s.ownUs)) > echoLimit {
		s.ownUs = 0
	}
	return s.ownUs != 0
}

func (l *load) place(s *session, f *fact) {
	if s.region != f.region {
		cdn := s.cdn
		l.uncount(s)
		s.region = strings.Clone(f.region)
		s.cdn = ""
		if cdn != "" {
			l.count(s, cdn)
		}
	}
	s.group = f.group
	if f.at.After(s.stored) {
		s.stored = f.at
	}
}

// served notes a slice of a session (CDN empty: unknown).
func (l *load) served(x *schemas.Slice, bus time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[x.SessionID]
	cdn := l.registered(x.CDN)
	if s == nil && cdn == "" {
		return
	}
	if s = l.touch(x.SessionID, bus); s == nil {
		return
	}
	// Only sessions that a router began speak of health: others cost nothing to make up.
	if !s.stored.IsZero() && cdn != "" {
		l.health.Add(x, s.group, bus)
	}
	if cdn != "" && bus.After(s.at) && !l.waits(s, l.now()) {
		s.at = bus
		l.move(s, cdn, bus)
	}
}

// registered gives the name of a CDN as the registry has it, or "": players may
// name what they like, and nothing is held for that. While the registry is not
// read yet, any name may be one.
func (l *load) registered(name string) string {
	list := l.cdns()
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

// ended notes the last slice of a session and forgets it, unless it was decided about after the end.
func (l *load) ended(x *schemas.Slice, bus time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[x.SessionID]
	if s == nil {
		return
	}
	if !s.stored.IsZero() && l.registered(x.CDN) != "" {
		l.health.Add(x, s.group, bus)
	}
	if s.at.Before(bus) && !l.waits(s, l.now()) {
		l.forget(x.SessionID, s)
	}
}

// touch finds or makes a session; nil when it is past the window or there are too many. l.mu is held.
func (l *load) touch(id string, at time.Time) *session {
	if at.After(l.newest) {
		l.newest = at
	}
	s := l.sessions[id]
	if s == nil {
		if l.now().Sub(at) > l.window {
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

func (l *load) move(s *session, cdn string, at time.Time) {
	if s.cdn == cdn {
		return
	}
	if s.cdn != "" {
		s.moved = at
	}
	l.uncount(s)
	l.count(s, cdn)
}

func (l *load) count(s *session, cdn string) {
	s.cdn = cdn
	c := l.on[cdn]
	if c == nil {
		c = &cdnLoad{byRegion: map[string]int{}}
		l.on[cdn] = c
	}
	c.viewers++
	c.byRegion[s.region]++
}

func (l *load) uncount(s *session) {
	c := l.on[s.cdn]
	if s.cdn == "" || c == nil {
		return
	}
	c.viewers--
	if c.byRegion[s.region]--; c.byRegion[s.region] <= 0 {
		delete(c.byRegion, s.region)
	}
}

func (l *load) forget(id string, s *session) {
	l.uncount(s)
	delete(l.sessions, id)
}

// sweep forgets sessions without a sign of life, ten times in a window: it looks at all of them. l.mu is held.
func (l *load) sweep(now time.Time) {
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

// viewers counts sessions by CDN. The map is the caller's.
func (l *load) viewers(now time.Time) map[string]int {
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

// whereabouts is what load knows of a session.
type whereabouts struct {
	cdn           string
	moved, stored time.Time // see session
	known         bool
}

// where tells which CDN a session is on.
func (l *load) where(id string) whereabouts {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[id]
	if s == nil {
		return whereabouts{}
	}
	return whereabouts{s.cdn, s.moved, s.stored, true}
}

// ageMs is how old the newest input is, milliseconds; -1 without any.
func (l *load) ageMs(now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest.IsZero() {
		return -1
	}
	return max(now.Sub(l.newest).Milliseconds(), 0)
}
