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

// AloneIn says what of a CDN, as in [Table.FailingIn], loses what would be failing for viewers of a
// place while nothing is known of the others that do not: nobody is on them and no prober
// asks them, or too few to tell where another loses as much. Some must try one.
func (t *Table) AloneIn(cdn, region, isp string) string {
	if len(t.alone) == 0 {
		return ""
	}
	if p, is := innermost(t.alone, place{cdn, region, isp}); is {
		return p.level()
	}
	return ""
}
