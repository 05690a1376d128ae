package cut

import "github.com/spillway-live/spillway/schemas"

// minima keeps the least (and greatest) of a value over a sliding window of buckets.
type minima struct {
	lo, hi   [16]int64
	n        int   // buckets in use
	at       int   // current bucket
	bucketUs int64 // length of one
	bucket   int64 // number of the current one
}

// add takes a value seen at now, microseconds.
func (m *minima) add(now, v int64) {
	b := floorDiv(now, m.bucketUs)
	switch {
	case m.n == 0:
		m.n, m.bucket, m.lo[0], m.hi[0] = 1, b, v, v
	case b > m.bucket:
		m.bucket = b
		m.at = (m.at + 1) % len(m.lo)
		m.n = min(m.n+1, len(m.lo))
		m.lo[m.at], m.hi[m.at] = v, v
	default:
		m.lo[m.at], m.hi[m.at] = min(m.lo[m.at], v), max(m.hi[m.at], v)
	}
}

func (m *minima) reset() { *m = minima{bucketUs: m.bucketUs} }

// least is the least value of the window.
func (m *minima) least() int64 {
	v := m.lo[0]
	for _, l := range m.lo[:m.n] {
		v = min(v, l)
	}
	return v
}

// wander is by how much the buckets' least values differ.
func (m *minima) wander() int64 {
	hi := m.lo[0]
	for _, l := range m.lo[:m.n] {
		hi = max(hi, l)
	}
	return hi - m.least()
}

// spread is the distance between the greatest and the least value of the window.
func (m *minima) spread() int64 {
	hi := m.hi[0]
	for _, h := range m.hi[:m.n] {
		hi = max(hi, h)
	}
	return hi - m.least()
}

// wallClock maps media time to wall-clock: see the package comment. It follows the
// publisher's capture times while they are usable, and otherwise the arrival of
// frames without its jitter.
type wallClock struct {
	grain   int64  // resolution of media times, microseconds
	early   minima // arrival minus media time
	capture captureClock
	first   int64 // first arrival
	last    int64
	offset  int64 // wall-clock minus media time in use
	target  int64 // what it moves to
	begun   bool
	src     schemas.ClockSource
	moving  bool // to the offset of another source
}

func newWallClock(grain int64) wallClock {
	return wallClock{grain: grain, early: minima{bucketUs: 1_000_000}, capture: newCaptureClock(), src: schemas.ClockArrival}
}

const (
	settleUs         = 1_000_000 // at the start the estimate so far is taken at once
	slewDownPerMille = 5         // how fast the offset may sink: 5 ms for each second
	slewUpPerMille   = 1
	moveMaxPerMille  = 200        // ... on the way to another source
	moveOverUs       = 10_000_000 // which takes about this long, whatever the distance
	movedUs          = 2_000      // and ends this near
)

// observe takes a frame that is presented at a media time, microseconds.
func (c *wallClock) observe(f *Frame, media int64) {
	arrived := f.ArrivedUs
	c.early.add(arrived, arrived-media)
	if f.CaptureUs != 0 {
		c.capture.observe(f, media)
	}
	src := schemas.ClockArrival
	c.target = c.early.least()
	if s, t, ok := c.capture.target(arrived); ok {
		src, c.target = s, t
	}
	if !c.begun {
		c.begun, c.first, c.last, c.offset, c.src = true, arrived, arrived, c.target, src
		return
	}
	if src != c.src {
		c.src, c.moving = src, true
	}
	elapsed := max(0, arrived-c.last)
	c.last = max(c.last, arrived)
	if arrived-c.first < settleUs {
		c.offset, c.moving = c.target, false
		return
	}
	diff := c.target - c.offset
	up, down := elapsed*slewUpPerMille/1000, elapsed*slewDownPerMille/1000
	if c.moving {
		fast := elapsed * min(moveMaxPerMille, max(slewDownPerMille, max(diff, -diff)*1000/moveOverUs)) / 1000
		up, down = fast, fast
		c.moving = diff > movedUs || diff < -movedUs
	}
	c.offset += max(min(diff, up), -down)
}

// wall gives the Unix microseconds of a media time.
func (c *wallClock) wall(media int64) int64 { return c.offset + media }

// source says what the wall-clock rests on.
func (c *wallClock) source() schemas.ClockSource { return c.src }

// bound says how far wall may be off, microseconds. With arrival: from the arrival
// of a frame that waited in no queue: the way still to go, how much the least delay
// of a second varied over the window, and the timestamps' resolution. Otherwise from
// the time of capture: see [captureClock].
func (c *wallClock) bound() int64 {
	if !c.begun {
		return 0
	}
	way := max(c.target-c.offset, c.offset-c.target)
	if c.src != schemas.ClockArrival {
		return way + c.capture.bound() + c.grain
	}
	return way + c.early.wander() + c.grain
}
