package health

import "time"

const (
	// A CDN is in doubt when more than doubtHarm of what was tried on it in the last
	// seconds was lost while less than half of that was lost on the others, or when
	// our own probe of it had no answer in good time while that of another had. Those
	// on it are asked to come for their next answer sooner; nobody is moved. So it
	// may be wrong: it ends after doubtFor, and does not come again for doubtRest.
	doubtHarm = 0.05
	doubtFor  = 15 * time.Second
	doubtRest = time.Minute
	// With a probe that failed, too, viewers need to have lost no more than probedHarm
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

// doubt begins or ends that about a CDN. me and others are what was lost of late.
func (t *Table) doubt(cdn string, me, reports, others float64, now time.Time) {
	since, was := t.doubts[cdn]
	if was && now.Sub(since) < doubtFor+doubtRest {
		return
	}
	delete(t.doubts, cdn)
	if reports >= failReports && me > doubtHarm && others < doubtHarm/2 || t.probeFails(cdn, now) {
		t.doubts[cdn] = now
	}
}

// Doubted says whether a CDN is in doubt.
func (t *Table) Doubted(cdn string, now time.Time) bool {
	since, is := t.doubts[cdn]
	return is && now.Sub(since) < doubtFor
}

// Alone says whether a CDN loses what would be failing, and nothing is known of
// the others: nobody is on them and no prober asks them. Some must try one.
func (t *Table) Alone(cdn string) bool { return t.alone[cdn] }
