package overflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// A router tells its first maxFine tickets singly, the first of each line
	// before the second of any; those beyond as counts, in at most maxSpans spans of
	// coarseMs, or twice that, until they fit.
	maxFine  = 5_000
	maxSpans = 5_000
	coarseMs = 1000
	// maxLengthMs bounds the length of a span.
	maxLengthMs = 1 << 40
	// maxUsed bounds the used tickets in one message: the newest.
	maxUsed = 10_000
	// maxRouters bounds those whose counts are remembered.
	maxRouters = 1000
	// sameUse is within what two messages speak of one use of a ticket, and how long
	// after it no router is believed that it asks again: messages take their time.
	sameUse = 2 * time.Second
)

// said is what routers tell each other, all of it each time.
type said struct {
	Router string      `json:"router"`
	Lines  []saidLine  `json:"lines,omitempty"`
	Wait   []saidWait  `json:"wait,omitempty"`
	Used   []saidUse   `json:"used,omitempty"`
	Length int64       `json:"length_ms,omitempty"` // of each span
	Spans  []saidCount `json:"spans,omitempty"`
}

type saidLine struct {
	lineKey
	Room int `json:"n"`
}

// saidWait is a ticket. Ages are of when it asked last.
type saidWait struct {
	ID    uint64 `json:"i"`
	Ms    int64  `json:"ms"` // Unix milliseconds since when it waits
	Line  int    `json:"l"`
	AgeMs int64  `json:"a"`
	From  uint32 `json:"f,omitempty"`
}

type saidUse struct {
	ID    uint64 `json:"i"`
	AgeMs int64  `json:"a"`
}

// saidCount is how many tickets of a line are of one time.
type saidCount struct {
	Ms   int64 `json:"ms"`
	Line int   `json:"l"`
	N    int   `json:"n"`
}

// counts is what another router does not tell singly.
type counts struct {
	at       time.Time
	lengthMs int64
	spans    []span
}

type span struct {
	saidCount
	key lineKey
}

// Say gives what other routers should hear about twice a second; nil while there is nothing.
func (q *Queue) Say(now time.Time) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recount(now)
	x := said{Router: q.id}
	var own [][]*waiting
	for _, l := range q.lines {
		var mine []*waiting
		for _, w := range l.tickets {
			if w.own && q.all[w.id] == w && w.line == l {
				mine = append(mine, w)
			}
		}
		if len(mine) > 0 {
			own, x.Lines = append(own, mine), append(x.Lines, saidLine{l.lineKey, max(l.room, 0)})
		}
	}
	x.tellTickets(own, now)
	x.tellUsed(q.used, now)
	if len(x.Lines)+len(x.Used) == 0 {
		return nil
	}
	b, err := json.Marshal(x)
	if err != nil {
		return nil // a struct of numbers and strings encodes
	}
	return b
}

// tellTickets tells those of lines singly while they fit, and counts the others.
func (x *said) tellTickets(lines [][]*waiting, now time.Time) {
	for rank, more := 0, true; more && len(x.Wait) < maxFine; rank++ {
		more = false
		for l, mine := range lines {
			if rank < len(mine) && len(x.Wait) < maxFine {
				w := mine[rank]
				x.Wait = append(x.Wait, saidWait{w.id, w.ms, l, max(now.Sub(w.seen).Milliseconds(), 0), w.from})
				more = true
			}
		}
	}
	told := make([]int, len(lines))
	for i := range x.Wait {
		told[x.Wait[i].Line]++
	}
	n := map[saidCount]int{}
	for x.Length = coarseMs; ; x.Length *= 2 {
		clear(n)
		for l, mine := range lines {
			for _, w := range mine[told[l]:] {
				n[saidCount{Ms: w.ms - w.ms%x.Length, Line: l}]++
			}
		}
		if len(n) <= maxSpans || x.Length*2 > maxLengthMs {
			break
		}
	}
	for s, n := range n {
		s.N = n
		x.Spans = append(x.Spans, s)
	}
}

// tellUsed tells of tickets used here.
func (x *said) tellUsed(used map[uint64]use, now time.Time) {
	for id, u := range used {
		if u.own {
			x.Used = append(x.Used, saidUse{id, max(now.Sub(u.at).Milliseconds(), 0)})
		}
	}
	if len(x.Used) > maxUsed {
		slices.SortFunc(x.Used, func(a, b saidUse) int { return cmp.Compare(a.AgeMs, b.AgeMs) })
		x.Used = x.Used[:maxUsed]
	}
}

// Hear takes what another router said, or this one itself.
func (q *Queue) Hear(data []byte, now time.Time) error {
	var x said
	if err := json.Unmarshal(data, &x); err != nil {
		return fmt.Errorf("another router's queue: %w", err)
	}
	if err := x.check(); err != nil {
		return fmt.Errorf("another router's queue: router %.64q: %w", x.Router, err)
	}
	if x.Router == q.id {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range x.Used {
		q.hearUsed(u.ID, ago(now, u.AgeMs))
	}
	for i := range x.Wait {
		q.hearTicket(&x.Wait[i], x.Lines[x.Wait[i].Line].lineKey, now)
	}
	for i := range x.Lines {
		// What was looked at here is newer than what was heard.
		if l := q.lines[x.Lines[i].text()]; l != nil && now.Sub(l.looked) > time.Second {
			l.room, l.looked = x.Lines[i].Room, now
		}
	}
	delete(q.others, x.Router)
	if len(x.Spans) > 0 && len(q.others) < maxRouters {
		c := &counts{at: now, lengthMs: x.Length}
		for _, s := range x.Spans {
			c.spans = append(c.spans, span{s, x.Lines[s.Line].lineKey})
		}
		q.others[x.Router] = c
	}
	return nil
}

func ago(now time.Time, ms int64) time.Time { return now.Add(-time.Duration(ms) * time.Millisecond) }

// hearUsed takes that a ticket was used at another router.
func (q *Queue) hearUsed(id uint64, at time.Time) {
	if known, ok := q.used[id]; !ok || at.Sub(known.at) > sameUse {
		q.use(id, use{at, false})
	}
	if w := q.all[id]; w != nil && !w.seen.After(at) {
		q.drop(w)
	}
}

// hearTicket takes that a ticket asked at another router: it is of the one where it asked last.
func (q *Queue) hearTicket(s *saidWait, k lineKey, now time.Time) {
	seen := ago(now, s.AgeMs)
	if u, used := q.used[s.ID]; used && !seen.After(u.at.Add(sameUse)) {
		return
	}
	w := q.all[s.ID]
	if w == nil {
		if len(q.all) >= maxTickets {
			return
		}
		w = q.add(&waiting{id: s.ID, ms: s.Ms, from: s.From})
	}
	if seen.After(w.seen) {
		w.seen, w.own, w.line = seen, false, q.line(k)
	}
}

// check refuses what no router says.
func (x *said) check() error {
	if x.Router == "" || len(x.Lines) > maxLines+1 || len(x.Wait) > maxFine || len(x.Used) > maxUsed || len(x.Spans) > 2*maxSpans {
		return fmt.Errorf("%d lines, %d tickets, %d used ones, %d spans", len(x.Lines), len(x.Wait), len(x.Used), len(x.Spans))
	}
	for i := range x.Lines {
		if l := &x.Lines[i]; len(l.CDNs) > maxCDNs || !slices.IsSorted(l.CDNs) || l.Room < 0 {
			return fmt.Errorf("line %d: %d CDNs, room %d", i, len(l.CDNs), l.Room)
		}
	}
	maxAge := 2 * rememberUsed.Milliseconds()
	for i := range x.Wait {
		if w := &x.Wait[i]; w.Line < 0 || w.Line >= len(x.Lines) || w.AgeMs < 0 || w.AgeMs > maxAge || w.Ms < 0 || w.Ms > maxMs {
			return fmt.Errorf("ticket of line %d, age %d ms, since %d", w.Line, w.AgeMs, w.Ms)
		}
	}
	for _, u := range x.Used {
		if u.AgeMs < 0 || u.AgeMs > maxAge {
			return fmt.Errorf("a ticket used %d ms ago", u.AgeMs)
		}
	}
	if len(x.Spans) > 0 && (x.Length < 1 || x.Length > maxLengthMs) {
		return fmt.Errorf("spans of %d ms", x.Length)
	}
	for _, s := range x.Spans {
		if s.Line < 0 || s.Line >= len(x.Lines) || s.N < 1 || s.N > maxTickets || s.Ms < 0 || s.Ms > maxMs {
			return fmt.Errorf("%d tickets at once since %d in line %d", s.N, s.Ms, s.Line)
		}
	}
	return nil
}

// maxMs bounds times: thousands of years from now.
const maxMs = 1 << 50
