// Package overflow says what new sessions get when every CDN is full: first
// fewer bits, then a place in a queue.
//
// It promises: pure folds with the time passed in; a queue in the order of
// tickets' times, the same in every router that hears of the others' tickets, in
// which those of a region whose CDNs are full hold up nobody else; a cap that
// comes back later each time it had to return. It leaves out who signs tickets
// and how routers tell each other (the router does), and what room there is
// (package policy).
package overflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// countEvery is how old the order may be in an answer.
	countEvery = 250 * time.Millisecond
	// forgetAfter is when a ticket that does not ask is taken for gone; who waits
	// is told to ask well within it.
	forgetAfter = 3 * MaxRetry
	// MaxRetry is the longest time that who waits is told to wait before asking again.
	MaxRetry = 10 * time.Second
	// hearFor is how long what another router said holds.
	hearFor = 3 * time.Second
	// maxTickets bounds those remembered, maxSpans what one router tells the others:
	// to the millisecond up to maxFine tickets, then in spans of coarseMs.
	maxTickets = 500_000
	maxSpans   = 50_000
	maxFine    = 5_000
	coarseMs   = 1000
)

// Ticket is a place in the queue.
type Ticket struct {
	ID     string
	Region string
	// Since is when the viewer first asked: the order.
	Since time.Time
}

// Queue counts who waits. It is safe for concurrent use.
type Queue struct {
	id string // of the router, unique

	mu     sync.Mutex
	mine   map[string]*waiting
	of     map[int64]map[string]*waiting // mine by the millisecond they are of
	others map[string]*heard
	open   map[string]bool // regions in which a CDN had room when last looked at
	// line is the order by region, counted at counted: spans by time with how many are before each.
	line    map[string][]point
	total   int
	counted time.Time
}

type waiting struct {
	Ticket
	seen time.Time
}

// heard is what another router said.
type heard struct {
	at  time.Time
	say said
}

// span is how many tickets of a region are of one time.
type span struct {
	// Ms is its begin, Unix milliseconds.
	Ms     int64  `json:"ms"`
	Region string `json:"r,omitempty"`
	N      int    `json:"n"`
}

// point is a span of a length in a region's line.
type point struct {
	ms, length int64
	n, before  int
}

// New gives an empty queue of a router, whose id tells it from all others.
func New(id string) *Queue {
	return &Queue{id: id, mine: map[string]*waiting{}, of: map[int64]map[string]*waiting{}, others: map[string]*heard{}, open: map[string]bool{}}
}

// Place is where a ticket stands.
type Place struct {
	// Ahead is how many are before it for whom there may be room, Here those in its region.
	Ahead, Here int
}

// Wait notes that a ticket asks and gives its place. A ticket whose id is known
// keeps its time. room is how many sessions the CDNs of its region can take.
func (q *Queue) Wait(t *Ticket, room int, now time.Time) Place {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.mine[t.ID]
	if w == nil {
		w = &waiting{Ticket: *t}
		if len(q.mine) < maxTickets { // beyond, it is not counted and comes after those that are
			q.mine[t.ID] = w
			ms := t.Since.UnixMilli()
			if q.of[ms] == nil {
				q.of[ms] = map[string]*waiting{}
			}
			q.of[ms][t.ID] = w
		}
	}
	t.Since, w.seen = w.Since, now
	q.open[t.Region] = room > 0
	q.recount(now)
	ms := t.Since.UnixMilli()
	p := Place{Here: before(q.line[t.Region], ms)}
	p.Ahead = p.Here
	for region, line := range q.line {
		if region != t.Region && q.open[region] {
			p.Ahead += before(line, ms)
		}
	}
	for _, x := range q.of[ms] {
		if x.Since.Before(t.Since) || x.Since.Equal(t.Since) && x.ID < t.ID {
			if p.Ahead++; x.Region == t.Region {
				p.Here++
			}
		}
	}
	return p
}

// before counts the tickets of a line from before a time. Of a span that the
// time is in, as many as of it have passed: tickets come evenly.
func before(line []point, ms int64) int {
	i := sort.Search(len(line), func(i int) bool { return line[i].ms >= ms })
	n := 0
	if i > 0 {
		n = line[i-1].before + line[i-1].n
	}
	for i--; i >= 0 && line[i].ms > ms-coarseMs; i-- {
		if x := &line[i]; x.ms+x.length > ms {
			n -= x.n - int(int64(x.n)*(ms-x.ms)/x.length)
		}
	}
	return n
}

// Leave forgets a ticket: its viewer plays, or will not.
func (q *Queue) Leave(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(id)
}

// drop forgets a ticket. q.mu is held.
func (q *Queue) drop(id string) {
	w := q.mine[id]
	if w == nil {
		return
	}
	delete(q.mine, id)
	ms := w.Since.UnixMilli()
	if delete(q.of[ms], id); len(q.of[ms]) == 0 {
		delete(q.of, ms)
	}
}

// Waiting counts those who wait, at all routers.
func (q *Queue) Waiting(now time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recount(now)
	return q.total
}

// recount puts together who waits where. q.mu is held.
func (q *Queue) recount(now time.Time) {
	if age := now.Sub(q.counted); age >= 0 && age < countEvery {
		return
	}
	q.counted, q.total, q.line = now, 0, map[string][]point{}
	add := func(spans []span, length int64) {
		for _, s := range spans {
			q.line[s.Region] = append(q.line[s.Region], point{ms: s.Ms, length: length, n: s.N})
			q.total += s.N
		}
	}
	add(q.own(now, 1), 1)
	for id, h := range q.others {
		if now.Sub(h.at) > hearFor {
			delete(q.others, id)
			continue
		}
		add(h.say.Spans, h.say.LengthMs)
	}
	for _, line := range q.line {
		slices.SortFunc(line, func(a, b point) int { return cmp.Compare(a.ms, b.ms) })
		n := 0
		for i := range line {
			line[i].before = n
			n += line[i].n
		}
	}
	if q.total == 0 {
		clear(q.open)
	}
}

// own counts this router's tickets in spans of a length, and forgets those that
// do not ask any more. q.mu is held.
func (q *Queue) own(now time.Time, lengthMs int64) []span {
	type at struct {
		ms     int64
		region string
	}
	n := map[at]int{}
	for id, w := range q.mine {
		if now.Sub(w.seen) > forgetAfter {
			q.drop(id)
			continue
		}
		ms := w.Since.UnixMilli()
		n[at{ms - ms%lengthMs, w.Region}]++
	}
	out := make([]span, 0, len(n))
	for a, n := range n {
		out = append(out, span{a.ms, a.region, n})
	}
	return out
}

// said is what routers tell each other.
type said struct {
	Router   string `json:"router"`
	LengthMs int64  `json:"length_ms"` // of each span
	Spans    []span `json:"spans"`
}

// Say gives what other routers should hear about twice a second; nil while nobody waits here.
func (q *Queue) Say(now time.Time) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := said{Router: q.id, LengthMs: 1}
	if len(q.mine) > maxFine {
		x.LengthMs = coarseMs
	}
	if x.Spans = q.own(now, x.LengthMs); len(x.Spans) == 0 {
		return nil
	}
	x.Spans = x.Spans[:min(len(x.Spans), maxSpans)]
	b, err := json.Marshal(x)
	if err != nil {
		return nil // a struct of numbers and strings encodes
	}
	return b
}

// Hear takes what another router said, or this one itself.
func (q *Queue) Hear(data []byte, now time.Time) error {
	var x said
	if err := json.Unmarshal(data, &x); err != nil {
		return fmt.Errorf("another router's queue: %w", err)
	}
	if x.Router == "" || len(x.Spans) > maxSpans || x.LengthMs < 1 || x.LengthMs > coarseMs {
		return fmt.Errorf("another router's queue: router %q with %d spans of %d ms", x.Router, len(x.Spans), x.LengthMs)
	}
	if x.Router == q.id {
		return nil
	}
	for i := range x.Spans {
		if s := &x.Spans[i]; s.N < 0 || s.N > maxTickets {
			return fmt.Errorf("another router's queue: %d tickets at once", s.N)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.others[x.Router] = &heard{now, x}
	return nil
}

// Retry is when to ask again: the sooner the nearer.
func (p Place) Retry() time.Duration {
	return min(max(time.Duration(p.Here/200)*time.Second, 2*time.Second), MaxRetry)
}
