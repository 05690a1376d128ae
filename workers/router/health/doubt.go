package health

import "time"

const (
	// A CDN is in doubt when more than doubtHarm of what was tried on it in the last
	// seconds was lost while less than half of that was lost on the better half of the others, or when
	// our own probe of it had no answer in good time while that of another had, or when
	// players load more slowly on it alone. Those
	// on it are asked to come for their next answer sooner; nobody is moved. So it
	// may be wrong: it ends after doubtFor, and does not come again for doubtRest.
	doubtHarm = 0.05
	doubtFor  = 15 * time.Second
	doubtRest = time.Minute
	// With a probe that failed, or throughput that collapsed, too, viewers need to have lost no more than probedHarm
	// for the CDN to be failing.
	probedHarm = 0.1
	// Players load more slowly where the throughput that they measured in the last
	// seconds is below slowShare of the last minute's while on the others it is not
	// below steadyShare: they tell it before they stall.
	slowShare, steadyShare = 0.85, 0.9
	// collapsed is the share below which that speaks for failing, too, where slowReports tell:
	// of fewer viewers two whose own network fades look the same.
	collapsed   = 0.6
	slowReports = 20
	// probeFresh is how long a probe tells.
	probeFresh = 10 * time.Second
)

// probed is what our last probe of a CDN showed.
type probed struct {
	failed bool
	at     time.Time
}

// Probed notes what a probe of our own showed of a CDN: failed, or late so far.
func (t *Table) Probed(cdn string, failed bool, at time.Time) { t.probes[cdn] = probed{failed, at} }

// probeFails says whether a CDN fails a prober that another CDN answers: one that
// reaches none has lost its own network.
func (t *Table) probeFails(cdn string, now time.Time) bool {
	if !t.probes[cdn].tells(true, now) {
		return false
	}
	for other, p := range t.probes {
		if other != cdn && p.tells(false, now) {
			return true
		}
	}
	return false
}

func (p probed) tells(failed bool, now time.Time) bool {
	return !p.at.IsZero() && p.failed == failed && now.Sub(p.at) < probeFresh
}

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

// doubt begins or ends that about a CDN; others is what was lost of late on the better half of the others.
func (t *Table) doubt(cdn string, me *seen, others float64, now time.Time) {
	since, was := t.doubts[cdn]
	if was && now.Sub(since) < doubtFor+doubtRest {
		return
	}
	delete(t.doubts, cdn)
	if me.reports >= failReports && me.harm > doubtHarm && others < doubtHarm/2 || me.witness {
		t.doubts[cdn] = now
	}
}

// DoubtedUntil gives when a CDN is in doubt no more; zero: it is not known to have been.
func (t *Table) DoubtedUntil(cdn string) time.Time {
	since, is := t.doubts[cdn]
	if !is {
		return time.Time{}
	}
	return since.Add(doubtFor)
}

// Alone says whether a CDN loses what would be failing, and nothing is known of
// the others that do not: nobody is on them and no prober asks them, or too few to tell
// where another loses as much. Some must try one.
func (t *Table) Alone(cdn string) bool { return t.alone[cdn] }
