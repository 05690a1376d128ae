// Package overflow says what new sessions get when every CDN is full: first
// fewer bits, then a place in a queue.
//
// It promises: pure folds with the time passed in; a queue in the order of
// tickets' times, the same in every router that hears of the others' tickets, in
// which a ticket counts once wherever it asks and is used once, and in which
// those whose CDNs are full hold up nobody else; a cap that comes back later each
// time it had to return. It leaves out who signs tickets and how routers tell
// each other (the router does), and what room there is (package policy).
package overflow

import (
	"hash/fnv"
	"sync"
	"time"
)

const (
	// ForgetAfter is when a ticket that does not ask is taken for gone; who waits
	// is told to ask well within it.
	ForgetAfter = 3 * MaxRetry
	// MaxRetry is the longest time that who waits is told to wait before asking again.
	MaxRetry = 10 * time.Second
	// rememberUsed is how long ids of used tickets are kept: until those that were
	// signed last have expired by the clock of any router.
	rememberUsed = ForgetAfter + 10*time.Second
	// maxTickets bounds those remembered, and those remembered as used.
	maxTickets = 500_000
	// MaxPlaces bounds the places of one address prefix.
	MaxPlaces = 1000
)

// Ticket is a place in the queue.
type Ticket struct {
	ID   string
	Line Line
	// Since is when the viewer first asked, to the millisecond: the order.
	Since time.Time
	// From is a hash of the viewer's address prefix; 0: it has as many places as it likes.
	From uint32
	// Given says that the asker brought the ticket: it was handed out before, perhaps by another router.
	Given bool
}

// Queue knows who waits. It is safe for concurrent use.
type Queue struct {
	id string // of the router, unique

	mu   sync.Mutex
	all  map[uint64]*waiting // by the hash of the ticket's id
	used map[uint64]use      // of tickets, by the same
	from map[uint32]int      // places by address prefix
	// others is what other routers say of tickets that they do not tell singly.
	others  map[string]*counts
	lines   map[string]*line
	total   int
	counted time.Time
}

type waiting struct {
	id   uint64
	ms   int64
	from uint32
	line *line
	seen time.Time // when it asked last
	own  bool      // it did so here
}

// use is that a ticket let somebody in.
type use struct {
	at  time.Time
	own bool // here
}

// New gives an empty queue of a router, whose id tells it from all others.
func New(id string) *Queue {
	return &Queue{
		id: id, all: map[uint64]*waiting{}, used: map[uint64]use{}, from: map[uint32]int{},
		others: map[string]*counts{}, lines: map[string]*line{},
	}
}

func hash(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum64()
}

// Look gives the place of a ticket that asks. One whose id is known keeps its
// time. room is how many sessions the CDNs of its line can take in its region.
func (q *Queue) Look(t *Ticket, room int, now time.Time) Place {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recount(now)
	id, ms := hash(t.ID), t.Since.UnixMilli()
	if w := q.all[id]; w != nil {
		ms = w.ms
	}
	t.Since = time.UnixMilli(ms)
	own := q.line(t.Line.key())
	own.room, own.looked = room, now
	return q.place(own, ms, id)
}

// Hold keeps a ticket's place. False: there are too many already, of its address
// prefix or in all, and it has none.
func (q *Queue) Hold(t *Ticket, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := hash(t.ID)
	w := q.all[id]
	if w == nil {
		if len(q.all) >= maxTickets {
			return t.Given
		}
		if !t.Given && t.From != 0 && q.from[t.From] >= MaxPlaces {
			return false
		}
		w = q.add(&waiting{id: id, ms: t.Since.UnixMilli(), from: t.From})
	}
	l := q.line(t.Line.key())
	if w.line != nil && w.line != l {
		q.total -= w.line.remove(w)
	}
	w.seen, w.own, w.line = now, true, l
	q.total += l.insert(w)
	return true
}

// Enter ends the waiting of a ticket: its viewer plays. False: the ticket was
// used before.
func (q *Queue) Enter(t *Ticket, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := hash(t.ID)
	w := q.all[id]
	if _, used := q.used[id]; used && w == nil {
		return false
	}
	if w != nil || t.Given { // others may know of it, and somebody may hold it
		q.drop(w)
		q.use(id, use{now, true})
	}
	return true
}

// Used says whether a ticket has let somebody in.
func (q *Queue) Used(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := hash(id)
	_, used := q.used[h]
	return used && q.all[h] == nil
}

// Waiting counts those who wait, at all routers.
func (q *Queue) Waiting(now time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recount(now)
	return q.total
}

// add remembers a ticket. q.mu is held, as for all below.
func (q *Queue) add(w *waiting) *waiting {
	q.all[w.id] = w
	q.from[w.from]++
	return w
}

// drop forgets a ticket, and takes it out of its line at once.
func (q *Queue) drop(w *waiting) {
	if w != nil {
		q.total -= w.line.remove(w)
		q.forget(w)
	}
}

func (q *Queue) forget(w *waiting) {
	delete(q.all, w.id)
	if q.from[w.from]--; q.from[w.from] <= 0 {
		delete(q.from, w.from)
	}
}

// use remembers that a ticket was used.
func (q *Queue) use(id uint64, u use) {
	if _, known := q.used[id]; known || len(q.used) < maxTickets {
		q.used[id] = u
	}
}
