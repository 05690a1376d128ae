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
	"maps"
	"slices"
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
	// maxTickets bounds those remembered; maxSpans those of another router, a second each.
	maxTickets = 500_000
	maxSpans   = 50_000
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
	others map[string]*heard
	open   map[string]bool // regions in which a CDN had room when last looked at
	spans  []span          // in order, counted at counted
	count  time.Time
}

type waiting struct {
	Ticket
	seen time.Time
}

// heard is what another router said.
type heard struct {
	at    time.Time
	spans []span
}

// span is how many tickets of a region are of one second.
type span struct {
	Second int64  `json:"s"`
	Region string `json:"r,omitempty"`
	N      int    `json:"n"`
	// router that said it; among those of one second the lower id is first.
	router string
}

// New gives an empty queue of a router, whose id tells it from all others.
func New(id string) *Queue {
	return &Queue{id: id, mine: map[string]*waiting{}, others: map[string]*heard{}, open: map[string]bool{}}
}

// Place is where a ticket stands.
type Place struct {
	// Ahead is how many are before it, Here those of them in its region.
	Ahead, Here int
}

// Wait notes that a ticket asks and gives its place. A ticket whose id is known
// keeps its time. room is how many sessions the CDNs of its region can take.
func (q *Queue) Wait(t *Ticket, room int, now time.Time) Place {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.mine[t.ID]
	switch {
	case w != nil:
		t.Since = w.Since
	case len(q.mine) < maxTickets:
		w = &waiting{Ticket: *t}
		q.mine[t.ID] = w
	default:
		w = &waiting{Ticket: *t} // it is not counted, and comes after those that are
	}
	w.seen = now
	q.open[t.Region] = room > 0
	q.recount(now)
	second := t.Since.Unix()
	p := Place{}
	for i := range q.spans {
		s := &q.spans[i]
		if s.Second > second || s.Second == second && s.router >= q.id {
			break
		}
		p.add(s, t.Region, s.N, q.open)
	}
	for _, x := range q.sameSecond(second) {
		if x.Since.Before(t.Since) || x.Since.Equal(t.Since) && x.ID < t.ID {
			p.add(&span{Region: x.Region}, t.Region, 1, q.open)
		}
	}
	return p
}

// add counts n tickets of a span before one of a region.
func (p *Place) add(s *span, region string, n int, open map[string]bool) {
	if s.Region == region {
		p.Here += n
	}
	if s.Region == region || open[s.Region] {
		p.Ahead += n
	}
}

// sameSecond gives this router's tickets of one second.
func (q *Queue) sameSecond(second int64) []*waiting {
	var out []*waiting
	for _, w := range q.mine {
		if w.Since.Unix() == second {
			out = append(out, w)
		}
	}
	return out
}

// Leave forgets a ticket: its viewer plays, or will not.
func (q *Queue) Leave(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.mine, id)
}

// Waiting counts those who wait, at all routers.
func (q *Queue) Waiting(now time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recount(now)
	n := 0
	for i := range q.spans {
		n += q.spans[i].N
	}
	return n
}

// recount puts together who waits where. q.mu is held.
func (q *Queue) recount(now time.Time) {
	if age := now.Sub(q.count); age >= 0 && age < countEvery {
		return
	}
	q.count = now
	q.spans = q.own(now)
	for id, h := range q.others {
		if now.Sub(h.at) > hearFor {
			delete(q.others, id)
			continue
		}
		q.spans = append(q.spans, h.spans...)
	}
	slices.SortFunc(q.spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.Second, b.Second), cmp.Compare(a.router, b.router))
	})
	if len(q.spans) == 0 {
		clear(q.open)
	}
}

// own counts this router's tickets, and forgets those that do not ask any more. q.mu is held.
func (q *Queue) own(now time.Time) []span {
	type at struct {
		second int64
		region string
	}
	n := map[at]int{}
	for id, w := range q.mine {
		if now.Sub(w.seen) > forgetAfter {
			delete(q.mine, id)
			continue
		}
		n[at{w.Since.Unix(), w.Region}]++
	}
	out := make([]span, 0, len(n))
	for _, a := range slices.SortedFunc(maps.Keys(n), func(a, b at) int {
		return cmp.Or(cmp.Compare(a.second, b.second), cmp.Compare(a.region, b.region))
	}) {
		out = append(out, span{a.second, a.region, n[a], q.id})
	}
	return out
}

// said is what routers tell each other.
type said struct {
	Router string `json:"router"`
	Spans  []span `json:"spans"`
}

// Say gives what other routers should hear about twice a second; nil while nobody waits here.
func (q *Queue) Say(now time.Time) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	spans := q.own(now)
	if len(spans) == 0 {
		return nil
	}
	b, err := json.Marshal(said{q.id, spans[:min(len(spans), maxSpans)]})
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
	if x.Router == "" || len(x.Spans) > maxSpans {
		return fmt.Errorf("another router's queue: router %q with %d spans", x.Router, len(x.Spans))
	}
	if x.Router == q.id {
		return nil
	}
	for i := range x.Spans {
		if s := &x.Spans[i]; s.N < 0 || s.N > maxTickets {
			return fmt.Errorf("another router's queue: %d tickets in a second", s.N)
		}
		x.Spans[i].router = x.Router
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.others[x.Router] = &heard{now, x.Spans}
	return nil
}

// Retry is when to ask again: the sooner the nearer.
func (p Place) Retry() time.Duration {
	return min(max(time.Duration(p.Here/200)*time.Second, 2*time.Second), MaxRetry)
}
