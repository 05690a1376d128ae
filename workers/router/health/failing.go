package health

import (
	"maps"
	"math"
	"time"
)

const (
	// A CDN fails when, over the last seconds, more than failHarm of what was tried
	// on it was lost while less than wellHarm was lost on the others: a publisher
	// or a stream that is bad is bad everywhere and no CDN's fault.
	failHarm = 0.3
	wellHarm = 0.1
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

// recent is what of the last seconds was lost on a CDN, and from how many reports it is known.
func (t *Table) recent(cdn string, now time.Time) (harm, reports float64) {
	c := t.cells[place{cdn: cdn}]
	if c == nil {
		return 0, 0
	}
	s := c.total(now, true)
	return min(s.lost(), 1), s.sessions
}

// Judge says which of the CDNs fail now. Call it every second or so.
func (t *Table) Judge(cdns []string, now time.Time) {
	type seen struct{ harm, reports float64 }
	all := make(map[string]seen, len(cdns))
	paces := make([]pace, len(cdns))
	for i, c := range cdns {
		h, n := t.recent(c, now)
		all[c], paces[i] = seen{h, n}, t.pace(c, now)
	}
	clear(t.alone)
	for i, c := range cdns {
		var others, weight float64
		for o, s := range all {
			if o != c && t.down[o] == nil {
				others += s.harm * s.reports
				weight += s.reports
			}
		}
		others = ratio(others, weight)
		me := all[c]
		d := t.down[c]
		harm := failHarm
		probe, slow := t.probeFails(c, now), slows(i, paces)
		if probe || slow < collapsed && me.reports >= slowReports {
			harm = probedHarm
		}
		ill := me.reports >= failReports && me.harm > harm
		switch {
		case d == nil && ill && weight > 0 && others < wellHarm:
			t.down[c] = &failing{since: now}
		case d == nil && ill && weight == 0 && len(cdns) > 1:
			t.alone[c] = true
		case d != nil && now.Sub(d.since) >= minDown && d.well(now):
			delete(t.down, c)
		}
		if len(cdns) > 1 {
			t.doubt(c, me.harm, me.reports, others, probe || slow < 1, now)
		}
	}
	// What is gone from the registry is forgotten.
	gone := func(c string) bool { _, ok := all[c]; return !ok }
	maps.DeleteFunc(t.down, func(c string, _ *failing) bool { return gone(c) })
	maps.DeleteFunc(t.doubts, func(c string, _ time.Time) bool { return gone(c) })
	maps.DeleteFunc(t.probes, func(c string, _ probed) bool { return gone(c) })
}

// well says whether those who try a failing CDN find it well.
func (d *failing) well(now time.Time) bool {
	s := d.tried.total(now, false)
	return s.sessions >= probeReports && s.lost() < wellHarm
}

// Failing says whether a CDN was last judged to fail, since when, and which
// share of new sessions may try it.
func (t *Table) Failing(cdn string, now time.Time) (is bool, since time.Time, probe float64) {
	d := t.down[cdn]
	if d == nil {
		return false, time.Time{}, 0
	}
	if now.Sub(d.since) < minDown {
		return true, d.since, 0
	}
	return true, d.since, min(probeShare*math.Exp2((now.Sub(d.since)-minDown).Minutes()), maxProbe)
}
