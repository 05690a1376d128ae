package router

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// deepBufferMs is the buffer, milliseconds, with which a session can try a
	// failing CDN: a player needs about half of it to see that nothing comes and to go back.
	deepBufferMs = 6000
	// testers is how many sessions try failing CDNs at a time, of those that ask this router.
	testers = 6
	// enough of them tell whether a CDN is back: new sessions are spared then.
	enough = testers / 2
	// maxTest is the largest share of those who could.
	maxTest = 0.5
	// deepRound is the time over which they are counted, or the TTL of steering
	// answers where that is longer.
	deepRound = 10 * time.Second
)

// deepBuffers counts the steering requests of sessions with deep buffers that
// could try a failing CDN, and of those that do.
type deepBuffers struct {
	mu        sync.Mutex
	round     time.Duration // 0: deepRound
	from      time.Time
	now, last deepRequests // since from, and in the round before
}

// deepRequests are the requests of one round.
type deepRequests struct {
	could int
	tests map[part]int
}

// part is what fails of a CDN: in a region, or for a provider there; both empty: the whole.
type part struct{ cdn, region, isp string }

// failingPart is the part of a CDN that fails for who asks.
func failingPart(in *policy.Input, i int) part {
	p := part{cdn: in.CDNs[i].Name}
	switch in.Facts[i].FailingIn {
	case "region":
		p.region = strings.Clone(in.Region) // not the token it is of
	case "isp":
		p.region, p.isp = strings.Clone(in.Region), strings.Clone(in.ISP)
	}
	return p
}

func (d *deepRequests) testing() (n int) {
	for _, x := range d.tests {
		n += x
	}
	return n
}

// share counts a session that could try a failing CDN, and gives what share of
// such sessions may: so many that about testers do at a time.
func (d *deepBuffers) share(now time.Time) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	d.now.could++
	free := testers - max(d.now.testing(), d.last.testing())
	return min(max(float64(free), 0)/float64(max(d.now.could, d.last.could)), maxTest)
}

// tests counts a session that is sent to a failing CDN to try it, or stays there for that.
func (d *deepBuffers) tests(p part, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	if d.now.tests == nil {
		d.now.tests = map[part]int{}
	}
	d.now.tests[p]++
}

// tested says whether enough sessions in play have tried what fails of a CDN in this round or the last.
func (d *deepBuffers) tested(p part, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	return max(d.now.tests[p], d.last.tests[p]) >= enough
}

func (d *deepBuffers) turn(now time.Time) {
	round := max(d.round, deepRound)
	switch age := now.Sub(d.from); {
	case age < round && age >= 0:
		return
	case age < 2*round && age >= 0:
		d.last = d.now
	default:
		d.last = deepRequests{}
	}
	d.now, d.from = deepRequests{}, now
}

// spare lets a new session be where sessions that lose nothing by it try failing
// CDNs, and gives one in play its share of those tries if it could make one: with
// a deep buffer, not pinned, and a failing CDN to try that its player does not avoid.
func (r *Router) spare(q *asked, in *policy.Input, now time.Time) {
	could := false
	for i := range in.Facts {
		f, c := &in.Facts[i], &in.CDNs[i]
		if !f.Failing || f.Probe <= 0 {
			continue
		}
		if q.current == "" && r.deep.tested(failingPart(in, i), now) {
			f.Probe = 0
		}
		could = could || c.State == schemas.CDNActive && c.Name != q.current && !slices.Contains(q.avoid, c.Name)
	}
	if could && q.current != "" && q.pin == "" && q.bufferMs >= deepBufferMs {
		in.Test = r.deep.share(now)
	}
}

// noteTest counts a session in play that an answer makes try a failing CDN.
func (r *Router) noteTest(q *asked, in *policy.Input, a *policy.Answer, now time.Time) {
	if q.current == "" || len(in.Facts) != len(in.CDNs) {
		return
	}
	stays := q.trying != "" && q.trying == q.current && a.Chosen == q.current
	if !stays && a.Reason != policy.ReasonProbe {
		return
	}
	for i := range in.CDNs {
		if in.CDNs[i].Name == a.Chosen && in.Facts[i].Failing {
			r.deep.tests(failingPart(in, i), now)
		}
	}
}

// bufferOf reads the buffer that a steering request tells of, milliseconds: CMCD
// (dash.js, where steering is among its includeInRequests), or a parameter bl
// (our page and viewers). 0: not told.
func bufferOf(v query) int64 {
	if text := v.Get("CMCD"); text != "" {
		var rec cmcd.Record
		rec.ParseText(cmcd.ModeRequest, text)
		if ms, ok := rec.BufferMs.Min(); ok && rec.Has.Has(cmcd.BL) {
			return ms
		}
	}
	ms, err := strconv.ParseInt(v.Get("bl"), 10, 32)
	if err != nil || ms < 0 {
		return 0
	}
	return ms
}
