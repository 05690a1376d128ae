package collect

import (
	"sync"
	"time"
)

// lineSource is one run of one edge; lineMark one of its log lines.
type lineSource struct{ cdn, server, boot string }

type lineMark struct {
	lineSource
	seq uint64
}

const (
	lineWindow  = 1 << 15 // lines of a source that are remembered
	lineSources = 1024    // sources that are remembered
)

// lineLog remembers the lines accepted lately, so that a batch that an edge
// repeats, for lack of an answer, is not accepted twice. It forgets when the
// collector restarts; readers have the line's identity in detail.
type lineLog struct {
	mu      sync.Mutex
	sources map[lineSource]*lineBits
}

// lineBits is a window that ends at the highest line seen.
type lineBits struct {
	high uint64
	used time.Time
	bits [lineWindow / 64]uint64
}

func newLineLog() *lineLog { return &lineLog{sources: map[lineSource]*lineBits{}} }

// seen reports whether the line was accepted before. Lines without identity, and those older than the window, never are.
func (l *lineLog) seen(m lineMark) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.sources[m.lineSource]
	if b == nil || m.boot == "" || m.seq == 0 || m.seq > b.high || m.seq+lineWindow <= b.high {
		return false
	}
	return b.bits[m.seq%lineWindow/64]>>(m.seq%64)&1 != 0
}

// mark remembers lines as accepted.
func (l *lineLog) mark(marks []lineMark, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		if m.boot == "" || m.seq == 0 {
			continue
		}
		b := l.sources[m.lineSource]
		if b == nil {
			if len(l.sources) == lineSources {
				l.evict()
			}
			b = &lineBits{}
			l.sources[m.lineSource] = b
		}
		b.used = now
		switch {
		case m.seq >= b.high+lineWindow:
			clear(b.bits[:])
			b.high = m.seq
		case m.seq > b.high:
			for s := b.high + 1; s <= m.seq; s++ {
				b.bits[s%lineWindow/64] &^= 1 << (s % 64)
			}
			b.high = m.seq
		case m.seq+lineWindow <= b.high:
			continue
		}
		b.bits[m.seq%lineWindow/64] |= 1 << (m.seq % 64)
	}
}

func (l *lineLog) evict() {
	var oldest lineSource
	var at time.Time
	for s, b := range l.sources {
		if at.IsZero() || b.used.Before(at) {
			oldest, at = s, b.used
		}
	}
	delete(l.sources, oldest)
}
