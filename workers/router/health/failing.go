package health

import (
	"cmp"
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
	// That other must not look well by chance, as one of many does: so many tell of it, of
	// wellGroups of address groups, that less than failHarm is lost by certain standard errors. The
	// others together are enough where all of them are well.
	certain    = 3
	wellGroups = 5
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

// seen is what of the last seconds was lost on a CDN.
type seen struct {
	harm, reports float64
	groups        int // that told of it
	down          bool
	// ill: it loses what a failing one does. witness: probes or throughput speak against it.
	ill, witness bool
}

// recent is what of the last seconds was lost on a CDN.
func (t *Table) recent(cdn string, now time.Time) seen {
	x := seen{down: t.down[cdn] != nil}
	c := t.cells[place{cdn: cdn}]
	if c == nil {
		return x
	}
	s := c.total(now, true)
	x.harm, x.reports, x.groups = min(s.lost(), 1), s.sessions, c.telling(now)
	return x
}

// telling is how many groups told anything in the last seconds.
func (c *cell) telling(now time.Time) (n int) {
	for i := range c.group {
		g := &c.group[i]
		if g.at != 0 && g.fast.sessions*fade(time.Duration(max(now.UnixNano()-g.at, 0)), fast) >= tellsLately {
			n++
		}
	}
	return n
}

// well says whether a CDN certainly serves, as far as one can know that compares it with another.
func (s *seen) well(other *seen) bool {
	return !s.down && !s.ill && s.harm < wellHarm && s.groups >= min(wellGroups, other.groups) &&
		s.harm+certain*shareError(s.harm, s.reports) < failHarm
}

// compared is what the others say of a CDN.
type compared struct {
	// well: another serves. unknown: of none it is known whether it does, of at least one
	// not that it does not.
	well, unknown bool
	// lost is the share that was lost on the better half of the others.
	lost float64
}

// compare says how the others do, of which those count that are not failing already.
func compare(all []seen, me int) (x compared) {
	others := make([]*seen, 0, len(all))
	ill, middling := false, false
	for i := range all {
		o := &all[i]
		if i == me || o.down {
			continue
		}
		if o.reports > 0 {
			others = append(others, o)
		}
		x.well = x.well || o.well(&all[me])
		ill = ill || o.ill
		middling = middling || !o.ill && o.harm >= wellHarm
		x.unknown = x.unknown || !o.ill
	}
	// One that fails alone is told from all the others together, however few tell of them.
	x.well = x.well || !ill && len(others) > 0 && lost(others) < wellHarm
	x.unknown = x.unknown && !x.well && !middling && (ill || len(others) == 0)
	slices.SortFunc(others, func(a, b *seen) int { return cmp.Compare(a.harm, b.harm) })
	x.lost = lost(others[:(len(others)+1)/2])
	return x
}

// lost is the share lost of all that was tried on some CDNs.
func lost(on []*seen) float64 {
	harm, reports := 0.0, 0.0
	for _, s := range on {
		harm += s.harm * s.reports
		reports += s.reports
	}
	return ratio(harm, reports)
}

// Judge says which of the CDNs fail now. Call it every second or so.
func (t *Table) Judge(cdns []string, now time.Time) {
	all := make([]seen, len(cdns))
	paces, falls := make([]pace, len(cdns)), make([]fall, len(cdns))
	for i, c := range cdns {
		all[i], paces[i], falls[i] = t.recent(c, now), t.pace(c, now), t.falls(c, now)
	}
	for i, c := range cdns {
		me := &all[i]
		harm := failHarm
		probe, slow := t.probeFails(c, now), slows(i, paces)
		more, many := fell(i, falls)
		if probe || many || slow < collapsed && me.reports >= slowReports {
			harm = probedHarm
		}
		me.ill, me.witness = me.reports >= failReports && me.harm > harm, probe || more || slow < 1
	}
	clear(t.alone)
	for i, c := range cdns {
		me, others, d := &all[i], compare(all, i), t.down[c]
		switch {
		case d != nil && now.Sub(d.since) >= minDown && d.well(now):
			delete(t.down, c)
		case d == nil && me.ill && others.well:
			t.down[c] = &failing{since: now}
		case d == nil && me.ill && others.unknown:
			t.alone[c] = true
		}
		if len(cdns) > 1 {
			t.doubt(c, me, others.lost, now)
		}
	}
	// What is gone from the registry is forgotten.
	gone := func(c string) bool { return !slices.Contains(cdns, c) }
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
