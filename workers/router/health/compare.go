package health

import (
	"cmp"
	"slices"
	"time"
)

// seen is what of the last seconds was lost on a CDN.
type seen struct {
	harm, reports float64
	groups        int // that told of it
	losing        int // of these, each more than failHarm
	down          bool
	// ill: it loses what a failing one does. witness: probes or throughput speak against it.
	ill, witness bool
	unanswered   bool // our own probe, and another CDN's was answered
}

// recent is what of the last seconds was lost on a CDN in a place.
func (t *Table) recent(p place, now time.Time) (x seen) {
	_, d := innermost(t.down, p)
	x.down = d != nil
	c := t.cells[p]
	if c == nil {
		return x
	}
	s := c.total(now, true)
	x.harm, x.reports = min(s.lost(), 1), s.sessions
	x.groups, x.losing = c.telling(now)
	return x
}

// telling is how many groups told anything in the last seconds, and how many of them that they lose much.
func (c *cell) telling(now time.Time) (n, losing int) {
	for i := range c.group {
		g := &c.group[i]
		if g.at == 0 || g.fast.sessions*fade(time.Duration(max(now.UnixNano()-g.at, 0)), fast) < tellsLately {
			continue
		}
		n++
		losing += int(c.losing >> i & 1)
	}
	return n, losing
}

// well says whether a CDN certainly serves, as far as one can know that compares it with another.
func (s *seen) well(other *seen) bool {
	return !s.down && !s.ill && s.harm < wellHarm && s.groups >= min(wellGroups, other.groups) && 2*s.losing < s.groups &&
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

// compare says how the others do, of which those count that are not failing already. strict: only
// what is certain, as where there are many places to be wrong about.
func compare(all []seen, me int, strict bool) (x compared) {
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
		// Of few reports nobody can tell: one viewer who stalls is no reason that nobody else may try it.
		tells := o.reports >= failReports && (!strict || o.groups >= wellGroups)
		middling = middling || tells && !o.ill && o.harm >= wellHarm
		x.unknown = x.unknown || !o.ill
	}
	// One that fails alone is told from all the others together, however few tell of them.
	x.well = x.well || !strict && !ill && len(others) > 0 && lost(others) < wellHarm
	x.unknown = x.unknown && !x.well && !middling && (strict || ill || len(others) == 0)
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
