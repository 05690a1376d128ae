package overflow

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sort"
	"time"
)

const (
	// countEvery is how old the order may be in an answer, and countEach what each
	// ticket adds to that: 1.25 s for maxTickets.
	countEvery = 250 * time.Millisecond
	countEach  = 2 * time.Microsecond
	// hearFor is how long the counts that another router told hold.
	hearFor = 3 * time.Second
	// maxLines bounds the lines: those beyond are one, which competes with all.
	maxLines = 200
	// maxCDNs bounds the CDNs of a line: one with more competes with all.
	maxCDNs = 64
)

// Line is what tickets compete for: room at a set of CDNs, for a region.
type Line struct {
	Region string
	CDNs   []string // which may take the sessions, in any order
}

// lineKey is a Line as routers tell it.
type lineKey struct {
	Region string `json:"r,omitempty"`
	// CDNs are hashes of names, in order; none: it competes with all.
	CDNs []uint32 `json:"c,omitempty"`
}

func (l *Line) key() lineKey {
	k := lineKey{Region: l.Region}
	if len(l.CDNs) > maxCDNs {
		return k
	}
	for _, name := range l.CDNs {
		h := fnv.New32a()
		_, _ = h.Write([]byte(name)) // never fails
		k.CDNs = append(k.CDNs, h.Sum32())
	}
	slices.Sort(k.CDNs)
	return k
}

func (k *lineKey) text() string {
	b := make([]byte, 0, 4*len(k.CDNs)+len(k.Region))
	for _, c := range k.CDNs {
		b = binary.BigEndian.AppendUint32(b, c)
	}
	return string(append(b, k.Region...))
}

// line is who waits for the same.
type line struct {
	lineKey
	room    int       // for its region, when looked at last
	looked  time.Time // zero: never
	tickets []*waiting
	coarse  []point
	longest int64 // point
}

// point is how many tickets are of a time, and how many before it.
type point struct {
	ms, length int64
	n, before  int
}

// line finds or begins a line.
func (q *Queue) line(k lineKey) *line {
	t := k.text()
	if len(q.lines) >= maxLines && q.lines[t] == nil {
		k, t = lineKey{}, ""
	}
	l := q.lines[t]
	if l == nil {
		l = &line{lineKey: k}
		q.lines[t] = l
	}
	return l
}

// Place is where a ticket stands.
type Place struct {
	// Ahead is how many are before it that may take its room, Here those of its region.
	Ahead, Here int
}

// Retry is when to ask again: the sooner the nearer.
func (p Place) Retry() time.Duration {
	return min(max(time.Duration(p.Here/200)*time.Second, 2*time.Second), MaxRetry)
}

// place counts who is before a ticket: all of its own line, and of other lines
// that share a CDN with it as many as there is room for, since no more come in.
func (q *Queue) place(own *line, ms int64, id uint64) Place {
	n := own.before(ms, id)
	p := Place{Ahead: n, Here: n}
	for _, l := range q.lines {
		if l == own || l.room <= 0 || !share(l.CDNs, own.CDNs) {
			continue
		}
		n := min(l.before(ms, id), l.room)
		if p.Ahead += n; l.Region == own.Region {
			p.Here += n
		}
	}
	return p
}

// share says whether two sets in order have something in common; none is all.
func share(a, b []uint32) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] == b[0]:
			return true
		case a[0] < b[0]:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return false
}

func (l *line) before(ms int64, id uint64) int {
	return l.search(ms, id) + l.coarseBefore(ms)
}

func (l *line) search(ms int64, id uint64) int {
	return sort.Search(len(l.tickets), func(i int) bool { return !l.tickets[i].less(ms, id) })
}

// insert puts a ticket where it belongs and says how many it has put there.
func (l *line) insert(w *waiting) int {
	i := l.search(w.ms, w.id)
	if i < len(l.tickets) && l.tickets[i].id == w.id {
		return 0
	}
	l.tickets = slices.Insert(l.tickets, i, w)
	return 1
}

// remove takes a ticket out and says how many it has taken.
func (l *line) remove(w *waiting) int {
	i := l.search(w.ms, w.id)
	if i == len(l.tickets) || l.tickets[i] != w {
		return 0
	}
	l.tickets = slices.Delete(l.tickets, i, i+1)
	return 1
}

func (w *waiting) less(ms int64, id uint64) bool { return w.ms < ms || w.ms == ms && w.id < id }

// coarseBefore counts those of points before a time. Of one that the time is in,
// as many as of it have passed: tickets come evenly.
func (l *line) coarseBefore(ms int64) int {
	i := sort.Search(len(l.coarse), func(i int) bool { return l.coarse[i].ms >= ms })
	n := 0
	if i > 0 {
		n = l.coarse[i-1].before + l.coarse[i-1].n
	}
	for i--; i >= 0 && l.coarse[i].ms > ms-l.longest; i-- {
		if x := &l.coarse[i]; x.ms+x.length > ms {
			n -= x.n - int(float64(x.n)*float64(ms-x.ms)/float64(x.length))
		}
	}
	return n
}

// recount forgets who does not ask any more and puts the lines together.
func (q *Queue) recount(now time.Time) {
	if age := now.Sub(q.counted); age >= 0 && age < countEvery+time.Duration(len(q.all))*countEach {
		return
	}
	q.counted, q.total = now, 0
	for id, u := range q.used {
		if now.Sub(u.at) > rememberUsed {
			delete(q.used, id)
		}
	}
	for _, l := range q.lines {
		l.tickets, l.coarse, l.longest = l.tickets[:0], l.coarse[:0], 0
	}
	for _, w := range q.all {
		if now.Sub(w.seen) > ForgetAfter {
			q.forget(w)
			continue
		}
		w.line.tickets = append(w.line.tickets, w)
		q.total++
	}
	for router, c := range q.others {
		if now.Sub(c.at) > hearFor {
			delete(q.others, router)
			continue
		}
		for _, s := range c.spans {
			l := q.line(s.key)
			l.coarse = append(l.coarse, point{ms: s.Ms, length: c.lengthMs, n: s.N})
			l.longest = max(l.longest, c.lengthMs)
			q.total += s.N
		}
	}
	for k, l := range q.lines {
		if l.order(); len(l.tickets)+len(l.coarse) == 0 && now.Sub(l.looked) > ForgetAfter {
			delete(q.lines, k)
		}
	}
}

// order sorts a line.
func (l *line) order() {
	slices.SortFunc(l.tickets, func(a, b *waiting) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.id, b.id)) })
	slices.SortFunc(l.coarse, func(a, b point) int { return cmp.Compare(a.ms, b.ms) })
	n := 0
	for i := range l.coarse {
		l.coarse[i].before = n
		n += l.coarse[i].n
	}
}
