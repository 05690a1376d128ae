package health

import (
	"math"
	"time"
)

const (
	// Players load more slowly where the throughput that they measured in the last
	// seconds is below slowShare of the last minute's while on the others it is not
	// below steadyShare: they tell it before they stall.
	slowShare, steadyShare = 0.85, 0.9
	// collapsed is the share below which that speaks for failing, too, where slowReports tell:
	// of fewer viewers two whose own network fades look the same.
	collapsed   = 0.6
	slowReports = 20
	// fellTo is the share of what a player told before that is much less: a player's own
	// estimate is smoothed, so that one object that comes slowly does not take it further.
	fellTo = 0.7
	// unusual is by how many standard deviations of a rare event's count, and counts, more
	// players must tell much less than usually do.
	unusual = 4
	// fallen is the share of players that tell much less which speaks for failing, too.
	fallen = 0.2
)

// pace is the throughput of the last seconds to that of the last minute, with how many
// reports of the last seconds know it.
type pace struct{ share, reports float64 }

func (t *Table) pace(cdn string, now time.Time) pace {
	c := t.cells[place{cdn: cdn}]
	if c == nil {
		return pace{1, 0}
	}
	var have [Groups]part
	list := c.kept(&have, now, true)
	late, usual := add(list), 0.0 // what the same reports were, had each group loaded as in the last minute
	for i := range list {
		g := &c.group[list[i].group]
		usual += list[i].f * g.fast.measured * ratio(g.slow.throughput, g.slow.measured)
	}
	if late.measured <= 0 || usual <= 0 {
		return pace{1, 0}
	}
	return pace{late.throughput / usual, late.measured}
}

// slows says to what share of before players on a CDN load, where those on others
// load as before; 1: they do as well, or too few tell.
func slows(cdn int, all []pace) float64 {
	me := all[cdn]
	if me.reports < failReports || me.share > slowShare {
		return 1
	}
	for i, other := range all {
		if i != cdn && other.reports >= failReports && other.share < steadyShare {
			return 1
		}
	}
	return me.share
}

// Compared notes by which factor the throughput that a player measured on a CDN differs
// from what it told before: sessions compared with themselves tell of a change sooner than means do.
func (t *Table) Compared(cdn string, factor float64, group uint8, at time.Time) {
	c := t.cells[place{cdn: cdn}]
	if c == nil {
		return
	}
	x := sums{compared: 1}
	if factor < fellTo {
		x.fell = 1
	}
	c.add(&x, int(group)%Groups, at)
}

// fall is how many players of the last seconds told their throughput again, how many of them
// much less, and what of as many does so in the last minute.
type fall struct{ told, fell, usual float64 }

// falls leaves out the groups with the highest and lowest shares.
func (t *Table) falls(cdn string, now time.Time) (all fall) {
	c := t.cells[place{cdn: cdn}]
	if c == nil {
		return fall{}
	}
	var have [Groups]fall
	n, moment := 0, now.UnixNano()
	for i := range c.group {
		g := &c.group[i]
		if g.at == 0 || g.fast.compared == 0 {
			continue
		}
		f := fade(time.Duration(max(moment-g.at, 0)), fast)
		usual := ratio(g.slow.fell-g.fast.fell, g.slow.compared-g.fast.compared) // of the minute before the last seconds
		x, at := fall{f * g.fast.compared, f * g.fast.fell, f * g.fast.compared * usual}, n
		for ; at > 0 && ratio(x.fell, x.told) < ratio(have[at-1].fell, have[at-1].told); at-- {
			have[at] = have[at-1]
		}
		have[at] = x
		n++
	}
	cut := 0
	if n >= minGroups {
		cut = int(trim * float64(n))
	}
	for _, x := range have[cut : n-cut] {
		all.told, all.fell, all.usual = all.told+x.told, all.fell+x.fell, all.usual+x.usual
	}
	return all
}

// more says whether more players tell much less than usually do, by as many standard
// deviations of a Poisson count and as many counts.
func (x fall) more(than float64) bool {
	usual := max(x.usual, 0.002*x.told)
	return x.told >= slowReports && x.fell > usual+than*(math.Sqrt(usual)+1)
}

// fell says whether more players on a CDN than usual tell much less than before, while those
// on others do not, and whether these are so many that it speaks for failing.
func fell(cdn int, all []fall) (more, many bool) {
	me := all[cdn]
	if !me.more(unusual) {
		return false, false
	}
	for i, other := range all {
		if i != cdn && other.more(unusual/2) {
			return false, false
		}
	}
	return true, me.fell > max(fallen*me.told, 2*me.usual)
}
