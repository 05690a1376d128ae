// Package load knows which session is on which CDN and how CDNs serve, so as a
// router knows it: a fold over what routers answered and what was served.
//
// It promises: no I/O and no clock of its own, so that a simulation runs the very
// code that routers run; tables that are told the same come to the same. It
// leaves out how decisions and slices are read from the bus (the router does) and
// what is decided on the facts (package policy).
package load

import (
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// maxSessions bounds the sessions a router remembers; about 120 bytes each.
const maxSessions = 2_000_000

// Table is a fold over two bus streams, DECISIONS (what routers answered) and
// SLICES (what was served), from a window ago on, so routers that read the same
// come to the same. Every moment that it is told or asked for is one of the bus's
// clock, which routers know to some milliseconds (package busclock); what comes
// later on the bus counts. A router's own answer counts at once, and keeps
// its place when it comes back from the bus. It is safe for concurrent use: who
// asks waits for nobody who looks at all sessions, all places or all CDNs.
type Table struct {
	window time.Duration
	logger *slog.Logger
	// CDNs gives the registry's CDNs; Now the bus's time, which a simulation makes itself.
	// Set them before the first use.
	CDNs func() []schemas.CDN
	Now  func() time.Time
	// Usage gives what CDNs delivered this month; nil: it is not known.
	Usage func() *schemas.Usage

	sessions [shards]shard
	seeds    [2]maphash.Seed
	names    lexicon
	known    atomic.Int64 // sessions
	full     atomic.Bool  // maxSessions was reached, and said
	newest   atomic.Int64 // Unix nanoseconds, of the telemetry; 0: none. Decisions do not count: routers make them whether it flows or not
	swept    atomic.Int64 // Unix nanoseconds
	listed   atomic.Pointer[listing]
	counts   counts
	streams  streams
	places   places
	judged   atomic.Pointer[judgement]
	silence  silence

	// mu is held for what follows and for trends, and by whoever holds a shard's, never the other way round.
	mu     sync.Mutex
	health *health.Table
	probes probeBudget
}

// New gives an empty table; a session counts for the window after its last sign of life.
func New(window time.Duration, logger *slog.Logger) *Table {
	l := &Table{
		window: window, logger: logger, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, names: newLexicon(),
		CDNs: func() []schemas.CDN { return nil }, Now: time.Now, health: health.New(),
	}
	l.counts.on = map[string]*cdnLoad{}
	l.places.by = map[Place]*place{}
	l.judged.Store(&judgement{})
	return l
}

// judgement is what the last Tick found, for those who ask without waiting.
type judgement struct {
	serial  uint16               // one more than that before
	doubted map[string]time.Time // until when
}

// listing has the CDNs of one version of the registry.
type listing struct {
	list          []schemas.CDN
	own           map[string]string
	limitsStreams bool // one of them does
}

// listing gives what is made of the registry's CDNs, once for each version.
func (l *Table) listing(list []schemas.CDN) *listing {
	n := l.listed.Load()
	if n == nil || !sameCDNs(n.list, list) {
		n = &listing{list: list, own: make(map[string]string, len(list))}
		for i := range list {
			n.own[list[i].Name] = list[i].Name
			n.limitsStreams = n.limitsStreams || list[i].StreamViewers > 0
		}
		l.listed.Store(n)
	}
	return n
}

// registered gives the name of a CDN as the registry has it, or "": players may
// name what they like, and nothing is held for that. While the registry is not
// read yet, any name may be one.
func (l *Table) registered(name string) string {
	list := l.CDNs()
	if len(list) == 0 {
		return strings.Clone(name) // not the whole message
	}
	return l.listing(list).own[name]
}

// Viewers counts sessions by CDN. The map is the caller's.
func (l *Table) Viewers(now time.Time) map[string]int {
	l.sweep(now)
	return l.counts.viewers()
}

// AskAgain gives when a session on a CDN should ask for steering again: after the
// TTL, or sooner while the CDN is in doubt, so that its sessions can leave as soon
// as it is known to fail.
func (l *Table) AskAgain(cdn string, ttl time.Duration, now time.Time) time.Duration {
	if now.Before(l.judged.Load().doubted[cdn]) {
		return min(ttl, doubtTTL)
	}
	return ttl
}

// heard notes the time of a slice that counts.
func (l *Table) heard(bus time.Time) {
	for at := bus.UnixNano(); ; {
		was := l.newest.Load()
		if at <= was || l.newest.CompareAndSwap(was, at) {
			return
		}
	}
}

// AgeMs is how old the newest slice is that counts, milliseconds; -1 without any.
func (l *Table) AgeMs(now time.Time) int64 {
	newest := l.newest.Load()
	if newest == 0 {
		return -1
	}
	return max(now.Sub(time.Unix(0, newest)).Milliseconds(), 0)
}
