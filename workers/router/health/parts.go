package health

import (
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"
)

const (
	// A part of a CDN fails by the same measure as a whole one, with more to show for it, since there are
	// many parts: at least minGroups groups tell, more than half of them lose more than failHarm
	// (so that four of the groups cannot make it up), and all together do by
	// partCertain standard errors. And another CDN must certainly serve there.
	partCertain = 2
	// Where partWell of what is told of a CDN comes from parts that are well, and lose no more than
	// partLost of what all together do, those that are not fail, and not the whole.
	partWell = 0.25
	partLost = 0.25
	// maxSpots bounds the places whose parts are judged; in others a CDN fails as a whole.
	maxSpots = 1000
	// maxParts bounds the failing parts that are listed.
	maxParts = 100
)

// spot is where a part of a CDN serves: a region, or a provider in it.
type spot struct{ region, isp string }

func (s spot) of(cdn string) place { return place{cdn, s.region, s.isp} }

// around is the place that a place is a part of; a whole CDN is none's.
func (p place) around() (outer place, ok bool) {
	switch {
	case p.isp != "":
		return place{cdn: p.cdn, region: p.region}, true
	case p.region != "":
		return place{cdn: p.cdn}, true
	}
	return p, false
}

// in says whether a place is another, or a part of it.
func (p place) in(q place) bool {
	for ok := true; ok; p, ok = p.around() {
		if p == q {
			return true
		}
	}
	return false
}

// level names what a place is of its CDN.
func (p place) level() string {
	switch {
	case p.isp != "":
		return "isp"
	case p.region != "":
		return "region"
	}
	return "cdn"
}

// innermost finds what is said of a place, or else of what is around it.
func innermost[T any](of map[place]T, p place) (at place, what T) {
	for ok := true; ok; p, ok = p.around() {
		if x, is := of[p]; is {
			return p, x
		}
	}
	return p, what
}

// spotted is a spot whose parts are judged.
type spotted struct {
	spot
	suspected bool // a part may fail
}

// see makes the parts of CDNs at a place be judged.
func (t *Table) see(s spot) {
	if s == (spot{}) || t.seen[s] != nil || len(t.spots) >= maxSpots {
		return
	}
	at := &spotted{spot: spot{strings.Clone(s.region), strings.Clone(s.isp)}}
	t.seen[at.spot] = at
	t.spots = append(t.spots, at)
}

func (t *Table) suspect(s spot) {
	if at := t.seen[s]; at != nil {
		at.suspected = true
	}
}

// forgetSpots leaves the places of which some cell is held.
func (t *Table) forgetSpots() {
	held := make(map[spot]bool, len(t.spots))
	for p := range t.cells {
		held[spot{p.region, p.isp}] = true
	}
	t.spots = slices.DeleteFunc(t.spots, func(at *spotted) bool { return !held[at.spot] })
	maps.DeleteFunc(t.seen, func(s spot, _ *spotted) bool { return !held[s] })
	maps.DeleteFunc(t.down, func(p place, _ *failing) bool { return p.level() != "cdn" && !held[spot{p.region, p.isp}] })
}

// judgePart says which of the CDNs fail at a place.
func (t *Table) judgePart(at *spotted, cdns []string, now time.Time) {
	if !at.suspected {
		return
	}
	all := make([]seen, len(cdns))
	at.suspected = false
	for i, c := range cdns {
		s := t.recent(at.of(c), now)
		s.ill = s.groups >= minGroups && 2*s.losing > s.groups && s.harm-partCertain*shareError(s.harm, s.reports) > failHarm
		at.suspected = at.suspected || t.cells[at.of(c)].mayFail()
		all[i] = s
	}
	for i, c := range cdns {
		if all[i].ill {
			t.verdict(at.of(c), &all[i], compare(all, i, true), now)
		}
	}
}

// mayFail says quickly whether it is worth looking at a cell: as many groups as must, lost that much when they last told.
func (c *cell) mayFail() bool { return c != nil && 2*bits.OnesCount16(c.losing) > minGroups }

// partly says whether a CDN, of which so much was seen at a place, serves a good part of it well.
func (t *Table) partly(p place, me *seen, now time.Time) bool {
	if p.isp != "" {
		return false
	}
	well := 0.0
	for _, at := range t.spots {
		part := at.of(p.cdn)
		if around, _ := part.around(); around != p {
			continue
		}
		if s := t.recent(part, now); s.groups >= minGroups && 2*s.losing < s.groups && s.harm < min(wellHarm, partLost*me.harm) {
			well += s.reports
		}
	}
	return well >= partWell*me.reports
}

// FailingParts gives the regions, and the providers as region/provider, within a region (empty: all)
// in which a CDN fails, in order, maxParts at most.
func (t *Table) FailingParts(cdn, region string) (parts []string) {
	within := place{cdn: cdn, region: region}
	for p := range t.down {
		if p == within || !p.in(within) {
			continue
		}
		name := p.region
		if p.isp != "" {
			name += "/" + p.isp
		}
		parts = append(parts, name)
	}
	slices.Sort(parts)
	return parts[:min(len(parts), maxParts)]
}
