package load

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// quiet is how old the newest slice is when telemetry has stopped, or half the window of
	// sessions where that is less: sessionisers tell of who watches every few seconds.
	quiet = 15 * time.Second
	// HoldFor is how long the last state is held when telemetry has stopped: viewers
	// that nothing else tells of stay counted, and estimates stay what they were. In as
	// much time again they are let go, one after the other.
	HoldFor = 10 * time.Minute
)

// silence is a time without telemetry, in which nobody can tell who has left.
type silence struct {
	// from is when the last slice before it came, back when the first one after it did;
	// Unix nanoseconds, 0: there is none, it has not come.
	from, back atomic.Int64
	held       atomic.Int64 // sessions that count because of it alone
	said       atomic.Bool
}

// silent says whether telemetry has stopped. Where there never was any it has not.
func (l *Table) silent(now time.Time) bool {
	newest := l.newest.Load()
	return newest != 0 && now.UnixNano()-newest > int64(l.quiet())
}

func (l *Table) quiet() time.Duration { return min(quiet, l.window/2) }

// listen notes whether telemetry has stopped or is back. Who is held has a window
// from then on to be heard of again.
func (l *Table) listen(now time.Time) {
	q, at := &l.silence, now.UnixNano()
	from, back := q.from.Load(), q.back.Load()
	switch {
	case l.silent(now):
		if from == 0 {
			q.from.Store(l.newest.Load())
		}
		q.back.Store(0)
	case from != 0 && back == 0:
		q.back.Store(at)
		if q.said.Swap(false) {
			l.logger.Info("telemetry is back", "without_for", time.Duration(at-from).Round(time.Second))
		}
	case from != 0 && (at-back > int64(l.window) || at-from > 2*int64(HoldFor)):
		q.from.Store(0)
		q.back.Store(0)
	}
}

// limits say which sessions count at a moment, by their last sign of life.
type limits struct {
	alive int64 // who was seen since counts
	// held is since when those count that cannot be told to have left, math.MaxInt64: none are
	// held. silent is since when there is no telemetry; let is the share of them that is let go.
	held, silent int64
	let          float64
}

func (l *Table) limits(now time.Time) limits {
	x := limits{alive: now.UnixNano() - int64(l.window), held: math.MaxInt64}
	from := l.silence.from.Load()
	if from == 0 && l.silent(now) { // not noted yet
		from = l.newest.Load()
	}
	if from == 0 {
		return x
	}
	past := time.Duration(now.UnixNano() - from)
	if past > 2*HoldFor {
		return x
	}
	x.held, x.silent = from-int64(l.window), from
	if past > HoldFor && l.silence.back.Load() == 0 {
		x.let = float64(past-HoldFor) / float64(HoldFor)
	}
	return x
}

// count says whether a session counts, and whether it is held: telemetry told of it until it
// stopped, or was about to, and nothing else does. Who began since, and says no more, may be one
// that comes in place of one of those: an audience that stays as large is counted right.
func (x *limits) count(k key, s *session) (counts, held bool) {
	if s.seen >= x.alive {
		return true, false
	}
	held = s.seen >= x.held && !s.speaks && (s.served || s.seen <= x.silent && s.seen >= x.silent-int64(settled)) && float64(k.b)/math.MaxUint64 >= x.let
	return held, held
}

// Held is how many sessions count only because telemetry has stopped.
func (l *Table) Held() int64 { return l.silence.held.Load() }

// sayHeld tells the log once that sessions are held.
func (l *Table) sayHeld(n int64, now time.Time) {
	l.silence.held.Store(n)
	if n > 0 && l.silent(now) && !l.silence.said.Swap(true) {
		l.logger.Warn("telemetry has stopped: the last state is held; see whether collectors, the sessioniser and the bus run",
			"newest_s", l.AgeMs(now)/1000, "sessions_held", n, "held_for", HoldFor)
	}
}

// asOf is the moment that estimates are made for: now, or soon after the last
// telemetry while none comes, for HoldFor; then they fade.
func (l *Table) asOf(now time.Time) time.Time {
	if !l.silent(now) {
		return now
	}
	over := time.Duration(now.UnixNano()-l.newest.Load()) - l.quiet()
	return now.Add(-min(over, HoldFor))
}

// Since is from when on a router that starts reads the streams, when the newest slice
// that the bus has was stored at last (zero: there is none): a window back, or as far as
// others know that have held the last state since telemetry stopped.
func (l *Table) Since(last time.Time) time.Time {
	now, newest := l.Now(), l.newest.Load()
	// Who knows of newer ones has not just started.
	if age := now.Sub(last); !last.IsZero() && age > l.quiet() && age <= 2*HoldFor && newest <= last.UnixNano() {
		l.heard(last)
		return last.Add(-l.window)
	}
	return now.Add(-l.window)
}
