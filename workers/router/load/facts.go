package load

import (
	"cmp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// Estimates are made anew in each round of factsEvery, and when it has been judged
	// who fails (Tick): what they tell fades over 8 s and more. For turnsIn longer those
	// before do where others are being made, so that who asks need not wait. Counts of
	// viewers are of the moment.
	factsEvery = time.Second
	turnsIn    = 250 * time.Millisecond
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

// places are those that are asked from.
type places struct {
	mu sync.RWMutex
	by map[Place]*place
}

// place is what is known of the CDNs from a place.
type place struct {
	estimates atomic.Pointer[estimates]
	view      atomic.Pointer[view]
}

// estimates are facts of a place but for what is counted, as they were at a moment.
type estimates struct {
	at    time.Time
	round int64
	cdns  []schemas.CDN // whose facts they are, in this order
	facts []policy.Facts
	alone []string // by CDN, see [health.Table.AloneIn]; nil: none is
	each  []each
}

// view are the counts of a place's CDNs, in their order, and of its region there; nil: there are none.
type view struct {
	version uint64 // of counts
	cdns    []schemas.CDN
	on      []*cdnLoad
	here    []*regionLoad
}

// get finds or makes a place. Beyond maxPlaces it is kept nowhere.
func (p *places) get(key Place) *place {
	p.mu.RLock()
	at := p.by[key]
	p.mu.RUnlock()
	if at != nil {
		return at
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at = p.by[key]; at == nil {
		at = &place{}
		if len(p.by) < maxPlaces {
			p.by[Place{strings.Clone(key.Region), strings.Clone(key.ISP)}] = at // not the tokens they are parts of
		}
	}
	return at
}

// sweep forgets places that nobody asks from any more.
func (p *places) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, at := range p.by {
		if e := at.estimates.Load(); e != nil && now.Sub(e.at) > time.Minute {
			delete(p.by, key)
		}
	}
}

// Tick lets trends and health see the time pass.
func (l *Table) Tick(now time.Time) {
	cdns := l.CDNs()
	names := make([]string, len(cdns))
	for i := range cdns {
		names[i] = cdns[i].Name
	}
	l.listen(now)
	l.sweep(now)
	l.counts.keep(names)
	l.streams.tick(l.limitsStreams(cdns), now)
	for _, on := range l.counts.all() {
		l.trend(on, now)
	}
	l.judge(names, now)
	l.places.sweep(now)
}

func (l *Table) trend(on *cdnLoad, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	on.trend.Add(float64(on.viewers.Load()), now)
	on.ahead.Add(float64(on.viewers.Load()), now)
	l.counts.mu.RLock()
	defer l.counts.mu.RUnlock()
	for _, here := range on.byRegion {
		here.trend.Add(float64(here.viewers.Load()), now)
	}
}

func (l *Table) judge(names []string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health.Judge(names, now)
	l.health.Sweep(l.asOf(now))
	j := &judgement{serial: l.judged.Load().serial + 1, doubted: map[string]time.Time{}}
	for _, name := range names {
		if until := l.health.DoubtedUntil(name); until.After(now) {
			j.doubted[name] = until
		}
	}
	l.judged.Store(j)
}

// Facts gives what is known of each CDN for a viewer at a place, in the CDNs' order. The slice is the caller's.
func (l *Table) Facts(cdns []schemas.CDN, p Place, bitrateBps float64, now time.Time) []policy.Facts {
	return l.AppendFacts(make([]policy.Facts, 0, len(cdns)), cdns, p, bitrateBps, now)
}

// AppendFacts appends what [Table.Facts] gives.
func (l *Table) AppendFacts(out []policy.Facts, cdns []schemas.CDN, p Place, bitrateBps float64, now time.Time) []policy.Facts {
	at := l.places.get(p)
	e, v := l.estimates(at, cdns, p, now), l.view(at, cdns, p.Region)
	before := len(out)
	out = append(out, e.facts...)
	for i := range cdns {
		c, f := &cdns[i], &out[before+i]
		if v.on[i] != nil {
			f.Viewers = int(v.on[i].viewers.Load())
			if v.here[i] != nil {
				f.RegionViewers = int(v.here[i].viewers.Load())
			}
		}
		each := e.each[i]
		f.BandwidthBps, f.RegionBandwidthBps = float64(f.Viewers)*cmp.Or(each.allBps, bitrateBps), float64(f.RegionViewers)*cmp.Or(each.hereBps, bitrateBps)
		f.Shed = shed(c, f, p.Region)
		if e.alone != nil && e.alone[i] != "" {
			some := f.Viewers
			if e.alone[i] != "cdn" {
				some = f.RegionViewers // of a provider's they are not counted
			}
			f.Trial = min(triers/float64(max(some, 1)), maxTriers)
		}
	}
	return out
}

// shed is the share of the sessions on a CDN that must leave.
func shed(c *schemas.CDN, f *policy.Facts, region string) float64 {
	if over := policy.Overload(c, f, region); over > 1 {
		return min(shedGain*(over-1)/over, 1)
	}
	return 0
}

// view of a place, as CDNs and regions are now.
func (l *Table) view(at *place, cdns []schemas.CDN, region string) *view {
	version := l.counts.version.Load() // before what it is of: what changes meanwhile is looked up again next time
	if v := at.view.Load(); v != nil && v.version == version && sameCDNs(v.cdns, cdns) {
		return v
	}
	v := &view{version, cdns, make([]*cdnLoad, len(cdns)), make([]*regionLoad, len(cdns))}
	for i := range cdns {
		v.on[i], v.here[i] = l.counts.of(cdns[i].Name, region)
	}
	at.view.Store(v)
	return v
}

// estimates of a place, of this round.
func (l *Table) estimates(at *place, cdns []schemas.CDN, p Place, now time.Time) *estimates {
	round := now.UnixNano()/int64(factsEvery)<<16 | int64(l.judged.Load().serial)
	have := at.estimates.Load()
	if have != nil && !sameCDNs(have.cdns, cdns) {
		have = nil
	}
	if have != nil && have.round == round {
		return have
	}
	if have != nil && now.Sub(have.at) < factsEvery+turnsIn {
		if !l.mu.TryLock() {
			return have
		}
	} else {
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if made := at.estimates.Load(); made != nil && made.round == round && sameCDNs(made.cdns, cdns) {
		return made // by who had the lock before
	}
	have = l.estimate(cdns, p, round, now)
	at.estimates.Store(have)
	return have
}

// estimate makes those of a place. l.mu is held.
func (l *Table) estimate(cdns []schemas.CDN, p Place, round int64, now time.Time) *estimates {
	out := &estimates{at: now, round: round, cdns: cdns, facts: make([]policy.Facts, len(cdns)), each: make([]each, len(cdns))}
	var used *schemas.Usage
	if l.Usage != nil {
		used = l.Usage()
	}
	share, asOf := schemas.MonthShare(now), l.asOf(now)
	for i := range cdns {
		name := cdns[i].Name
		e := l.health.EstimateIn(round, name, p.Region, p.ISP, asOf)
		e.Age(now.Sub(asOf))
		f := policy.Facts{
			Growth: 1, RegionGrowth: 1, StallRatio: e.StallRatio, StartFailRatio: e.StartFailRatio, ErrorRatio: e.ErrorRatio, FirstScreenMs: e.FirstScreenMs,
			BitrateBps: e.BitrateBps, ThroughputBps: e.ThroughputBps, Samples: e.Samples, AgeSec: e.AgeSec,
			MonthGB: used.GB(name, now), MonthShare: share,
		}
		if on, here := l.counts.of(name, p.Region); on != nil {
			out.each[i] = each{l.mean(on, name, round, asOf), l.health.RegionIn(round, name, p.Region, asOf).BitrateBps}
			f.Growth, f.Soon = on.trend.Growth(horizon), on.trend.Growth(soon)
			for k, x := range on.ahead.Forecasts() {
				f.GrowthAhead[k] = x.Growth
			}
			if here != nil && len(cdns[i].RegionCapacity) > 0 {
				f.RegionGrowth, f.RegionSoon = here.trend.Growth(horizon), here.trend.Growth(soon)
			}
		}
		f.FailingIn, _, f.Probe = l.health.FailingIn(name, p.Region, p.ISP, now)
		f.Failing = f.FailingIn != ""
		out.facts[i] = f
		if in := l.health.AloneIn(name, p.Region, p.ISP); in != "" {
			if out.alone == nil {
				out.alone = make([]string, len(cdns))
			}
			out.alone[i] = in
		}
	}
	return out
}

// sameCDNs says whether two lists are one version of the registry.
func sameCDNs(x, y []schemas.CDN) bool {
	return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
}
