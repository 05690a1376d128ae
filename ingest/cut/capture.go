package cut

import "github.com/spillway-live/spillway/schemas"

const (
	captureStaleUs  = 10_000_000                 // without a capture time for this long, arrival is used
	captureBucketUs = 4_000_000                  // offsets are the least of 16 of these
	captureOutUs    = 250_000                    // a capture time this far off the line is discarded ...
	captureAgreeUs  = 50_000                     // ... unless several in a row agree this well:
	captureSteps    = 5                          // the publisher's clock was set
	captureMaxUs    = int64(7_300_000_000) * 1e6 // Unix times beyond are none (year 2201), ...
	captureMinUs    = int64(980_000_000) * 1e6   // ... nor before (2001)
	captureDelayUs  = 60_000_000                 // longest plausible time from capture to sending
	driftAfterUs    = 30_000_000                 // drift is judged over at least this
	driftPPM        = 1_000                      // capture times that leave the media's clock faster are not a clock
	driftSlackUs    = 20_000
	distrustUs      = 60_000_000 // for this long after
	syncedEarlyUs   = 50_000     // a synchronised clock cannot be ahead of arrival by more, ...
	syncedLateUs    = 30_000_000 // ... nor behind by more
	unknownPathUs   = 100_000    // least one-way delay that may hide in the estimate where the round trip is not known
	unknownCodingUs = 500_000    // the same for the time from capture to sending
	dayUs           = 86_400_000_000
)

// captureClock estimates the offset of the publisher's clock by the minimum-delay
// method: arrival - (capture + time to sending) is that offset plus the delay of the
// network, so its least value over about a minute is the offset plus the least delay.
// Half of the least round trip, if it is known, is taken for the latter. What cannot
// be known is part of the bound. A publisher that has synchronised its clock with
// ours is believed, if arrival does not contradict it.
type captureClock struct {
	source  schemas.ClockSource
	synced  bool
	line    int64 // capture minus media time, smoothed
	lines   minima
	delays  minima // arrival - capture - time to sending
	coding  bool   // the time to sending is known
	markUs  int64  // what the marks say of their own error
	rttUs   int64  // least round trip; 0: not known
	begun   bool
	last    int64 // arrival of the last one taken
	anchor  int64 // line where drift is measured from, ...
	since   int64 // ... at this arrival
	bad     int   // in a row
	badLine int64
	until   int64 // not trusted before this arrival
	strikes int   // how often it drifted: each time it is distrusted for longer
	dropped uint64
}

func newCaptureClock() captureClock {
	return captureClock{lines: minima{bucketUs: captureBucketUs}, delays: minima{bucketUs: captureBucketUs}}
}

// observe takes a frame with a capture time.
func (c *captureClock) observe(f *Frame, media int64) {
	now, at, source := f.ArrivedUs, f.CaptureUs, f.Capture.Source
	if source == "" {
		source = schemas.ClockCapture
	}
	if at < captureMinUs || at > captureMaxUs || f.Capture.DelayUs < 0 || f.Capture.DelayUs > captureDelayUs || now < c.until {
		c.dropped++
		return
	}
	if c.begun && now-c.last > captureStaleUs {
		c.restart()
	}
	if c.begun && rank(source) < rank(c.source) {
		return // a better one is there
	}
	if source == schemas.ClockTimecode && c.begun { // has no date: the nearest one
		at += (c.line + media - at + dayUs/2) / dayUs * dayUs
	}
	line, delay := at-media, now-at-f.Capture.DelayUs
	synced := f.Capture.Synchronised
	if synced && (delay < -syncedEarlyUs-f.Capture.BoundUs || delay > syncedLateUs) {
		synced = false
		c.dropped++
	}
	switch {
	case c.begun && (source != c.source || synced != c.synced):
		c.restart()
	case c.begun && max(line-c.line, c.line-line) > captureOutUs:
		if c.outlier(line); c.bad < captureSteps {
			return
		}
		c.restart()
	}
	c.bad = 0
	if !c.begun {
		c.begun, c.line, c.anchor, c.since = true, line, line, now
		c.source, c.synced = source, synced
	}
	c.last, c.coding, c.markUs = now, f.Capture.DelayUs > 0, max(0, f.Capture.BoundUs)
	c.line += (line - c.line) / 16
	c.lines.add(now, line)
	c.delays.add(now, delay)
	c.watchDrift(now)
}

func rank(s schemas.ClockSource) int {
	switch s {
	case schemas.ClockTimecode:
		return 1
	case schemas.ClockMetadata:
		return 0
	}
	return 2
}

// outlier counts a capture time that is off the line.
func (c *captureClock) outlier(line int64) {
	c.dropped++
	if c.bad == 0 || max(line-c.badLine, c.badLine-line) > captureAgreeUs {
		c.bad = 0
	}
	c.badLine = line
	c.bad++
}

// watchDrift gives up a clock that leaves the media's too fast.
func (c *captureClock) watchDrift(now int64) {
	over := now - c.since
	if over < driftAfterUs {
		return
	}
	if d := max(c.line-c.anchor, c.anchor-c.line); d > over*driftPPM/1_000_000+driftSlackUs {
		c.restart()
		c.until = now + distrustUs<<min(c.strikes, 6)
		c.strikes++
		c.dropped++
		return
	}
	c.anchor, c.since = c.line, now
}

func (c *captureClock) restart() {
	c.begun, c.bad = false, 0
	c.lines.reset()
	c.delays.reset()
}

// target gives the offset of media time to wall-clock, if capture times are usable.
func (c *captureClock) target(now int64) (schemas.ClockSource, int64, bool) {
	switch {
	case !c.begun || now-c.last > captureStaleUs:
		return "", 0, false
	case c.synced:
		return schemas.ClockSynced, c.line, true
	}
	return c.source, c.line + c.delays.least() - c.rttUs/2, true
}

// bound is how far the corrected time of capture may be off.
func (c *captureClock) bound() int64 {
	b := c.markUs + c.lines.spread()/2
	if c.synced {
		return b
	}
	b += c.delays.wander()
	if c.rttUs > 0 {
		b += c.rttUs / 2
	} else {
		b += unknownPathUs
	}
	if !c.coding {
		b += unknownCodingUs
	}
	return b
}
