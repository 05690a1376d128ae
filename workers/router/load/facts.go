package load

import (
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// factsEvery is how old estimates may be in an answer; counts of viewers are of the moment.
	factsEvery = 250 * time.Millisecond
	// horizon is how far ahead load is forecast: what was answered now is felt
	// until about the next round of steering answers.
	horizon = 10 * time.Second
	// soon is how far ahead a CDN's caches are warmed for what will spill to it.
	soon = 30 * time.Second
	// shedGain is how many of those who should leave an overloaded CDN are told so
	// in the first round of steering answers, as a multiple of the excess. What is
	// left of the excess is drawn again in the next round.
	shedGain = 2
	// doubtTTL is when sessions on a CDN in doubt ask for steering again.
	doubtTTL = 2 * time.Second
	// triers is how many sessions of a CDN that loses much try another of which
	// nothing is known, in a round, and maxTriers the largest share of its sessions.
	triers    = 20
	maxTriers = 0.2
	// maxPlaces bounds the places whose estimates are kept.
	maxPlaces = 10_000
)

// Place is where a viewer is.
type Place struct{ Region, ISP string }

// placeFacts are estimates for a place as they were at a moment.
type placeFacts struct {
	at    time.Time
	cdns  []schemas.CDN // whose facts they are, in this order
	facts []policy.Facts
}

// Tick lets trends and health see the time pass.
func (l *Table) Tick(now time.Time) {
	cdns := l.CDNs()
	names := make([]string, len(cdns))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	for i := range cdns {
		names[i] = cdns[i].Name
		if l.on[names[i]] == nil {
			l.on[names[i]] = newCDNLoad()
		}
	}
	for name, c := range l.on {
		if c.viewers == 0 && !slices.Contains(names, name) {
			delete(l.on, name) // gone from the registry
			continue
		}
		c.trend.Add(float64(c.viewers), now)
		for region, r := range c.byRegion {
			if r.trend.Add(float64(r.viewers), now); r.viewers == 0 {
				delete(c.byRegion, region)
			}
		}
	}
	l.health.Judge(names, now)
	l.health.Sweep(now)
	for p, f := range l.places {
		if now.Sub(f.at) > time.Minute {
			delete(l.places, p)
		}
	}
}

// Facts gives what is known of each CDN for a viewer at a place, in the CDNs' order. The slice is the caller's.
func (l *Table) Facts(cdns []schemas.CDN, p Place, bitrateBps float64, now time.Time) []policy.Facts {
	out := make([]policy.Facts, len(cdns))
	l.mu.Lock()
	defer l.mu.Unlock()
	copy(out, l.estimates(cdns, p, now).facts)
	for i := range cdns {
		c, f := &cdns[i], &out[i]
		if on := l.on[c.Name]; on != nil {
			f.Viewers = on.viewers
			if r := on.byRegion[p.Region]; r != nil {
				f.RegionViewers = r.viewers
			}
		}
		each := f.BitrateBps
		if each == 0 {
			each = bitrateBps
		}
		f.BandwidthBps, f.RegionBandwidthBps = float64(f.Viewers)*each, float64(f.RegionViewers)*each
		if over := policy.Overload(c, f, p.Region); over > 1 {
			f.Shed = min(shedGain*(over-1)/over, 1)
		}
		if l.health.Alone(c.Name) {
			f.Trial = min(triers/float64(max(f.Viewers, 1)), maxTriers)
		}
	}
	return out
}

// AskAgain gives when a session on a CDN should ask for steering again: after the
// TTL, or sooner while the CDN is in doubt, so that its sessions can leave as soon
// as it is known to fail.
func (l *Table) AskAgain(cdn string, ttl time.Duration, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.health.Doubted(cdn, now) {
		return min(ttl, doubtTTL)
	}
	return ttl
}

// estimates of a place, at most factsEvery old. l.mu is held.
func (l *Table) estimates(cdns []schemas.CDN, p Place, now time.Time) *placeFacts {
	have := l.places[p]
	if have != nil && now.Sub(have.at) < factsEvery && now.Sub(have.at) >= 0 && sameCDNs(have.cdns, cdns) {
		return have
	}
	have = &placeFacts{at: now, cdns: cdns, facts: make([]policy.Facts, len(cdns))}
	var used *schemas.Usage
	if l.Usage != nil {
		used = l.Usage()
	}
	share := schemas.MonthShare(now)
	for i := range cdns {
		name := cdns[i].Name
		e := l.health.Estimate(name, p.Region, p.ISP, now)
		f := policy.Facts{
			Growth: 1, RegionGrowth: 1, StallRatio: e.StallRatio, StartFailRatio: e.StartFailRatio, ErrorRatio: e.ErrorRatio, FirstScreenMs: e.FirstScreenMs,
			BitrateBps: e.BitrateBps, ThroughputBps: e.ThroughputBps, Samples: e.Samples, AgeSec: e.AgeSec,
			MonthGB: used.GB(name, now), MonthShare: share,
		}
		if on := l.on[name]; on != nil {
			f.Growth, f.Soon = on.trend.Growth(horizon), on.trend.Growth(soon)
			if r := on.byRegion[p.Region]; r != nil && len(cdns[i].RegionCapacity) > 0 {
				f.RegionGrowth, f.RegionSoon = r.trend.Growth(horizon), r.trend.Growth(soon)
			}
		}
		f.Failing, _, f.Probe = l.health.Failing(name, now)
		have.facts[i] = f
	}
	if len(l.places) < maxPlaces || l.places[p] != nil {
		l.places[p] = have
	}
	return have
}

// sameCDNs says whether two lists are one version of the registry.
func sameCDNs(x, y []schemas.CDN) bool {
	return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
}
