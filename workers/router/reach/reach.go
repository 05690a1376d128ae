// Package reach keeps what publishers measured of the ways to publish: which
// transports reach which CDN from where, and how soon. It is apart from what is
// known of CDNs' health, which is that of viewers.
//
// It promises that few address prefixes do not speak for many: reports are taken
// by groups of prefixes, one value a group, and the median of the groups counts.
// Its memory is bounded. It leaves out what follows from it: a router orders by it
// only what its policy holds for equal.
package reach

import (
	"slices"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

const (
	// Every is how often one publisher may report.
	Every = 30 * time.Second
	// holds is how long a report counts.
	holds = 10 * time.Minute
	// maxGroupReports is how many reports of one group of address prefixes count within Every.
	maxGroupReports = 200
	// enoughGroups is from how many groups on a cell speaks for itself, and not the one around it.
	enoughGroups = 3
	// maxCells bounds the memory: about 1 KB each.
	maxCells = 20_000
	// weight of a new report beside what its group said before.
	weight = 0.3
)

// Place is where a publisher is; what is unknown is empty.
type Place struct{ Region, ISP string }

// Report is what one publisher measured.
type Report struct {
	// ID is that of the answer it was given; one counts once within Every.
	ID    string
	Place Place
	// Group is the publisher's group of address prefixes, one of health.Groups.
	Group   uint8
	Results []schemas.ProbeResult
}

type key struct{ cdn, transport, region, isp string }

// said is what a group of address prefixes says of a cell.
type said struct {
	at      time.Time
	failed  float64 // share
	rttMs   float64 // 0: none succeeded
	reports int
}

type cell [health.Groups]said

// Table keeps reports. The zero value is not usable; see [New]. Safe for concurrent use.
type Table struct {
	mu          sync.Mutex
	cells       map[key]*cell
	now, before map[string]time.Time // when a publisher reported last, in this span of Every and the one before
	from, swept time.Time
	counts      [health.Groups]int
}

// New makes an empty table.
func New() *Table { return &Table{cells: map[key]*cell{}, now: map[string]time.Time{}} }

// Add counts a report, and says whether it counts: not where the publisher or its
// group of prefixes reported too often. Results of unknown CDNs are the caller's to leave out.
func (t *Table) Add(r *Report, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.may(r, now) {
		return false
	}
	g := int(r.Group) % health.Groups
	for i := range r.Results {
		x := &r.Results[i]
		for _, p := range around(r.Place) {
			if c := t.cell(key{x.CDN, x.Transport, p.Region, p.ISP}, now); c != nil {
				c[g].take(x, now)
			}
		}
	}
	return true
}

// may holds a report to the limits.
func (t *Table) may(r *Report, now time.Time) bool {
	if age := now.Sub(t.from); age > Every || age < 0 {
		t.before, t.now, t.from, t.counts = t.now, map[string]time.Time{}, now, [health.Groups]int{}
		if age > 2*Every {
			t.before = nil
		}
	}
	if _, did := t.now[r.ID]; did {
		return false
	}
	if at, did := t.before[r.ID]; did && now.Sub(at) < Every {
		return false
	}
	n := &t.counts[int(r.Group)%health.Groups]
	if *n >= maxGroupReports {
		return false
	}
	*n++
	t.now[r.ID] = now
	return true
}

// around are the cells that a place is in, the finest first.
func around(p Place) []Place {
	out := []Place{p}
	if p.Region != "" && p.ISP != "" {
		out = append(out, Place{Region: p.Region})
	}
	if p != (Place{}) {
		out = append(out, Place{})
	}
	return out
}

// cell finds or makes one; nil where there is no memory for it.
func (t *Table) cell(k key, now time.Time) *cell {
	if c := t.cells[k]; c != nil {
		return c
	}
	if len(t.cells) >= maxCells && now.Sub(t.swept) >= Every { // not for each new one: it looks at all
		t.swept = now
		t.sweep(now)
	}
	if len(t.cells) >= maxCells {
		return nil
	}
	c := &cell{}
	t.cells[k] = c
	return c
}

// sweep forgets cells of which all reports are too old.
func (t *Table) sweep(now time.Time) {
	for k, c := range t.cells {
		if len(c.fresh(now)) == 0 {
			delete(t.cells, k)
		}
	}
}

func (s *said) take(x *schemas.ProbeResult, now time.Time) {
	if now.Sub(s.at) > holds {
		*s = said{}
	}
	failed := 0.0
	if x.Failed {
		failed = 1
	}
	switch {
	case s.reports == 0:
		s.failed = failed
	default:
		s.failed += weight * (failed - s.failed)
	}
	if !x.Failed {
		ms := max(x.FirstByteMs, 0.01) // 0 is: none
		if s.rttMs == 0 {
			s.rttMs = ms
		} else {
			s.rttMs += weight * (ms - s.rttMs)
		}
	}
	s.at = now
	s.reports++
}

// fresh are the groups that have said something of late.
func (c *cell) fresh(now time.Time) (out []said) {
	for i := range c {
		if s := &c[i]; s.reports > 0 && now.Sub(s.at) <= holds {
			out = append(out, *s)
		}
	}
	return out
}

// Of gives what is known of a CDN's transport at a place: of the finest cell in
// which groups enough have reported, or else of all there are; nil: nothing.
func (t *Table) Of(cdn, transport string, p Place, now time.Time) *schemas.TransportMeasured {
	t.mu.Lock()
	defer t.mu.Unlock()
	var groups []said
	for _, at := range around(p) {
		c := t.cells[key{cdn, transport, at.Region, at.ISP}]
		if c == nil {
			continue
		}
		if groups = c.fresh(now); len(groups) >= enoughGroups {
			break
		}
	}
	if len(groups) == 0 {
		return nil
	}
	var failed, rtt []float64
	m := &schemas.TransportMeasured{AgeSec: int64(holds / time.Second)}
	for _, g := range groups {
		failed = append(failed, g.failed)
		if g.rttMs > 0 {
			rtt = append(rtt, g.rttMs)
		}
		m.Reports += g.reports
		m.AgeSec = min(m.AgeSec, int64(max(now.Sub(g.at), 0)/time.Second))
	}
	m.FailedShare, m.RTTMs = median(failed), median(rtt)
	return m
}

// median of an even number is the mean of the two in the middle; 0 of none.
func median(v []float64) float64 {
	n := len(v)
	if n == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
