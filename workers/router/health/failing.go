package health

import (
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
	// A failing CDN is back once probeReports of those who tried it since lost less
	// than wellHarm, and not before minDown.
	probeReports = 5
	minDown      = 20 * time.Second
	// probeShare of new sessions try a failing CDN.
	probeShare = 0.01
)

type failing struct{ since time.Time }

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
	for _, c := range cdns {
		h, n := t.recent(c, now)
		all[c] = seen{h, n}
	}
	for _, c := range cdns {
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
		switch {
		case d == nil && me.reports >= failReports && me.harm > failHarm && weight > 0 && others < wellHarm:
			t.down[c] = &failing{since: now}
		case d != nil && now.Sub(d.since) >= minDown && me.reports >= probeReports && me.harm < wellHarm:
			delete(t.down, c)
		}
	}
	for c := range t.down {
		if _, ok := all[c]; !ok {
			delete(t.down, c) // gone from the registry
		}
	}
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
	return true, d.since, probeShare
}
