package load

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

const (
	// probesEvery is how often one session may report probes.
	probesEvery = 30 * time.Second
	// maxGroupProbes is how many reports of one group of address prefixes count
	// within probesEvery: beyond, more say no more.
	maxGroupProbes = 200
)

// Probe is what one client measured of CDNs.
type Probe struct {
	ID      string // of the session
	Place   Place
	Group   uint8
	Results []schemas.ProbeResult
}

// probeBudget counts reports by group since from.
type probeBudget struct {
	from   time.Time
	counts [health.Groups]int
}

func (b *probeBudget) take(group uint8, now time.Time) bool {
	if age := now.Sub(b.from); age > probesEvery || age < 0 {
		*b = probeBudget{from: now}
	}
	n := &b.counts[int(group)%health.Groups]
	*n++
	return *n <= maxGroupProbes
}

// Probed counts a report: a probe that failed is an attempt to start that failed, one
// that was answered is one that did not. It does not count, and false is
// returned, where no router began the session, where session or group reported
// too often, or while telemetry has stopped: what was known would fade behind it.
func (l *Table) Probed(p *Probe, now time.Time) bool {
	if l.silent(now) {
		return false
	}
	h, k := l.of(p.ID)
	defer h.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	s, at := h.get(k), now.UnixNano()
	if s == nil || s.stored == 0 || s.probed != 0 && at-s.probed < int64(probesEvery) || !l.probes.take(p.Group, now) {
		return false
	}
	s.probed = at
	for i := range p.Results {
		x := schemas.Slice{CDN: l.registered(p.Results[i].CDN), Region: p.Place.Region, ISP: p.Place.ISP, SessionID: p.ID, Attempts: 1}
		if p.Results[i].Failed {
			x.StartFails = 1
		}
		l.health.Add(&x, p.Group, now)
	}
	return true
}

// Synthetic counts a probe of our own (package probe) as an attempt to start at a
// CDN, failed or not: thin beside what viewers tell, and all there is where there are none.
func (l *Table) Synthetic(cdn string, failed bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := schemas.Slice{CDN: l.registered(cdn), Attempts: 1}
	if failed {
		x.StartFails = 1
	}
	if x.CDN == "" {
		return
	}
	l.health.Add(&x, 0, now)
	l.health.Probed(x.CDN, failed, now)
}

// Late notes that a probe of our own has no answer yet, in longer than one takes.
func (l *Table) Late(cdn string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cdn = l.registered(cdn); cdn != "" {
		l.health.Probed(cdn, true, now)
	}
}

// measuredEvery is how often a session's throughput counts.
const measuredEvery = 5 * time.Second

// Measured counts the throughput that a player tells when it asks for steering,
// bit/s, of the CDN that it says it is on: sooner than its reports come. It counts
// for sessions that a router began, now and then, and not while telemetry has stopped, as [Table.Probed].
func (l *Table) Measured(id, cdn string, p Place, bps int64, now time.Time) {
	if l.silent(now) {
		return
	}
	h, k := l.of(id)
	defer h.mu.Unlock()
	s, at := h.get(k), now.UnixNano()
	if s == nil || s.stored == 0 || s.cdn != l.names.of(cdn) || bps <= 0 || at-s.measured < int64(measuredEvery) {
		return
	}
	s.measured = at
	x := schemas.Slice{CDN: l.registered(cdn), Region: p.Region, ISP: p.ISP, SessionID: id, ThroughputKbpsSum: bps / 1000, ThroughputReports: 1}
	before := &s.asked
	if s.blends(at) {
		before = nil
	}
	l.add(&x, s.group, now, before)
}
