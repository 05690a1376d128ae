// Package session turns telemetry rows into session slices: what one playback
// session did, as signed additive deltas.
//
// It promises: the same rows and ticks in the same order give the same slices
// (time is stream time, never the wall clock); all slices of a session add up
// to the session, whatever order its rows came in; memory is bounded in time
// and number of sessions; a stall shows while it lasts.
//
// Rows are ordered by client time, then sn. A row that arrives late is put
// where it belongs and the session is computed again from there: the next slice
// then carries the difference, which may be negative. Definitions follow CMCD v2
// player states:
//
//   - attempt: a new load (s or d, an sn that starts again, or for players
//     without them the first r); its start-up runs from s (else d, else r) to
//     the first p, pauses excluded;
//   - stall: r or w after the first p, not between a k and the next p;
//   - seek: k, r or w from k to the next p;
//   - a failure (f, or an error event before the first p) counts until a p disproves it;
//   - states that the page's beacon says outrank the player's from the first one on, as its latency does;
//   - a session ends by e, q or an end-of-view beacon after a grace, or by silence.
//
// It does no I/O and leaves out bus, persistence of snapshots and ClickHouse.
package session

// Config sizes a Table. The zero value is usable.
type Config struct {
	// MinSilenceMs is the shortest silence, in stream time, that closes a session; default 30,000.
	// A session that reports rarely gets three times its longest gap, up to MaxSilenceMs.
	MinSilenceMs int64
	MaxSilenceMs int64 // default 120,000
	// GraceMs is how long an ended session stays open for late rows; default 5,000.
	GraceMs int64
	// KeepMs is how long a closed session is remembered, so that late rows still find it; default 300,000.
	KeepMs int64
	// QuietMs is how often a session that plays without reporting gets a slice; default 15,000.
	// Stalls get one at every tick.
	QuietMs int64
	// RunMs is how long a state is taken to go on after the last sign of life; default 10,000,
	// more for sessions that report more rarely.
	RunMs int64
	// MaxSessions bounds the sessions held; rows of further ones are counted and left out. Default 400,000:
	// with eight partitions a million open ones and those that closed within KeepMs, at a mean of five minutes a view or more.
	MaxSessions int
}

func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.MinSilenceMs, 30_000)
	def(&c.MaxSilenceMs, 120_000)
	def(&c.GraceMs, 5_000)
	def(&c.KeepMs, 300_000)
	def(&c.QuietMs, 15_000)
	def(&c.RunMs, 10_000)
	if c.MaxSessions <= 0 {
		c.MaxSessions = 400_000
	}
	return c
}

// Stats count what a Table has seen since it was made.
type Stats struct {
	Rows       int64 // rows given to Add
	NoSession  int64 // of those, rows without session id and publishers' rows
	Overflow   int64 // rows left out because MaxSessions was reached
	Duplicates int64 // rows that repeat one seen before
	Late       int64 // rows older, by client time, than what was accounted already
	TooLate    int64 // of those, rows from before the kept history: counted, states ignored
	Lost       int64 // reports missing by sn, found so far
	Opened     int64 // sessions begun
	Touched    int64 // times a session was worked on: once a tick in which it had rows or something due
	Closed     int64 // sessions closed, less those that came back
}
