package health

import (
	"maps"
	"math"
	"slices"
	"time"
)

const (
	// A CDN fails when, over the last seconds, more than failHarm of what was tried
	// on it was lost while less than wellHarm was lost on another: a publisher
	// or a stream that is bad is bad everywhere and no CDN's fault.
	failHarm = 0.3
	wellHarm = 0.1
	// That other must not look well by chance, as one of many does: so many tell of it, in wellGroups
	// groups, of which four may lie, or as many as tell of the first, that less than failHarm is lost by certain standard errors.
	// The others together are enough where all of them are well.
	certain    = 3
	wellGroups = 6
	// tellsLately is what is left of a group's reports when they no longer speak of the last seconds.
	tellsLately = 0.1
	// failReports is how many reports that takes.
	failReports = 5
	// From minDown on a share of the sessions tries a failing CDN. It is back once
	// probeReports of the last minute, from then on, lost less than wellHarm.
	probeReports = 5
	minDown      = 20 * time.Second
	// The share begins at probeShare and doubles each minute up to maxProbe, so that
	// where few sessions begin some try it, too.
	probeShare = 0.01
	maxProbe   = 0.2
)

// failing is a CDN that was judged to fail.
type failing struct {
	since time.Time
	tried cell // reports since somebody may try it
}

// Judge says which of the CDNs fail now, each as a whole and in its parts: a region, a
// provider in a region. Call it every second or so.
func (t *Table) Judge(cdns []string, now time.Time) {
	clear(t.alone)
	maps.DeleteFunc(t.down, func(_ place, d *failing) bool { return now.Sub(d.since) >= minDown && d.well(now) })
	t.judgeWhole(cdns, now)
	for _, at := range t.spots {
		t.judgePart(at, cdns, now)
	}
	// What is gone from the registry is forgotten.
	gone := func(c string) bool { return !slices.Contains(cdns, c) }
	maps.DeleteFunc(t.down, func(p place, _ *failing) bool { return gone(p.cdn) })
	maps.DeleteFunc(t.doubts, func(c string, _ time.Time) bool { return gone(c) })
	maps.DeleteFunc(t.probes, func(c string, _ probed) bool { return gone(c) })
}

func (t *Table) judgeWhole(cdns []string, now time.Time) {
	all := make([]seen, len(cdns))
	paces, falls := make([]pace, len(cdns)), make([]fall, len(cdns))
	for i, c := range cdns {
		all[i], paces[i], falls[i] = t.recent(place{cdn: c}, now), t.pace(c, now), t.falls(c, now)
	}
	for i, c := range cdns {
		me := &all[i]
		harm := failHarm
		probe, slow := t.probeFails(c, now), slows(i, paces)
		more, many := fell(i, falls)
		if probe || many || slow < collapsed && me.reports >= slowReports {
			harm = probedHarm
		}
		me.unanswered = probe
		me.ill, me.witness = me.reports >= failReports && me.harm > harm, probe || more || slow < 1
	}
	for i, c := range cdns {
		others := compare(all, i, false)
		t.verdict(place{cdn: c}, &all[i], others, now)
		if len(cdns) > 1 {
			t.doubt(c, &all[i], others.lost, now)
		}
	}
}

// verdict begins what follows from how a CDN does in a place, beside others there.
func (t *Table) verdict(p place, me *seen, others compared, now time.Time) {
	switch {
	case me.down || !me.ill || !me.unanswered && t.partly(p, me, now):
	case others.well:
		// The whole stands for its parts, so that it is tried, and is back, as a whole.
		maps.DeleteFunc(t.down, func(q place, _ *failing) bool { return q.in(p) })
		t.down[p] = &failing{since: now}
	case others.unknown:
		t.alone[p] = true
	}
}

// well says whether those who try a failing CDN find it well.
func (d *failing) well(now time.Time) bool {
	s := d.tried.total(now, false)
	return s.sessions >= probeReports && s.lost() < wellHarm
}

// FailingIn says what of a CDN was last judged to fail for viewers of a place: "cdn", "region" or
// "isp", named as in [Estimate].Cell (empty: nothing), since when, and which share of new
// sessions may try it.
func (t *Table) FailingIn(cdn, region, isp string, now time.Time) (in string, since time.Time, probe float64) {
	if len(t.down) == 0 {
		return "", time.Time{}, 0
	}
	p, d := innermost(t.down, place{cdn, region, isp})
	if d == nil {
		return "", time.Time{}, 0
	}
	if now.Sub(d.since) >= minDown {
		probe = min(probeShare*math.Exp2((now.Sub(d.since)-minDown).Minutes()), maxProbe)
	}
	return p.level(), d.since, probe
}
