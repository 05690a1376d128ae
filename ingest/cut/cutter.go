package cut

import (
	"errors"

	"github.com/spillway-live/spillway/schemas"
)

// Cutter cuts one epoch. Not safe for concurrent use.
type Cutter struct {
	s          Settings
	video      *track
	audio      *track
	pace       pacer
	count      sampler
	clock      wallClock
	started    bool
	origin     int64 // publisher's microseconds at media time 0
	firstPTSUs int64 // presentation of the first picture, media microseconds
	shiftUs    int64 // added to audio timestamps whose clock is not the video's
	early      []Frame
	bounds     []bound
	seq        uint64
	line       line
	now        int64

	held    sample // video frame off the line, waiting for the next
	heldAt  uint64
	holding bool
	lastDur uint64

	lastKeyAt, lastGOP, prevGOP uint64 // key frames' decode times, to foresee the next
	keyOffset                   int32  // presentation minus decode time of the last one

	waitUntil int64 // finished parts go at this time; 0: none wait
	fullUntil int64 // a full video part that may be its segment's last goes at this time
	counters  Counters
}

// bound is the end of a video segment, at which audio's segment of the same index ends.
type bound struct {
	us    int64
	index uint64
}

// New starts an epoch.
func New(s Settings) (*Cutter, error) {
	if s.Video == nil && s.Audio == nil {
		return nil, errors.New("cut: neither video nor audio")
	}
	if s.Emit == nil {
		return nil, errors.New("cut: Emit is nil")
	}
	if s.PartUs == 0 {
		s.PartUs = schemas.DefaultPartTargetUs
	}
	if s.GrainUs == 0 {
		s.GrainUs = 1000
	}
	if s.MaxWaitUs == 0 {
		s.MaxWaitUs = 100_000
	}
	if s.Buffer == nil {
		s.Buffer = func(n int) []byte { return make([]byte, 0, n) }
	}
	c := &Cutter{s: s, clock: newWallClock(s.GrainUs)}
	if s.Video != nil {
		c.video = newTrack(s.Video, s.PartUs, s.Discontinuity)
		c.pace = newPacer(c.video.scale, s.Video.interval, s.GrainUs)
		c.lastDur = c.video.units(33_000)
		if s.Video.interval > 0 {
			c.lastDur = uint64(s.Video.interval)
		}
	}
	if s.Audio != nil {
		c.audio = newTrack(s.Audio, s.PartUs, s.Discontinuity)
		c.count = sampler{scale: float64(c.audio.scale), frame: uint64(s.Audio.interval)}
	}
	return c, nil
}

// Started tells whether media flows: with video, that a key frame has come.
func (c *Cutter) Started() bool { return c.started }

// Counters gives what had to be repaired or dropped so far.
func (c *Cutter) Counters() Counters {
	n := c.counters
	n.Clock = c.clock.capture.dropped
	return n
}

// SetRoundTrip tells the least round trip to the publisher known so far (of SRT, RTCP
// or the TCP socket), microseconds: half of it is the delay that arrival hides.
func (c *Cutter) SetRoundTrip(us int64) { c.clock.capture.rttUs = max(0, us) }

// Seq is the number of chunks so far.
func (c *Cutter) Seq() uint64 { return c.seq }

// Locked tells whether video keeps a constant rate, so that no frame waits for the next.
func (c *Cutter) Locked() bool { return c.pace.locked }

// NextMSN gives the first media sequence number not used yet, by track.
func (c *Cutter) NextMSN() map[schemas.Track]uint64 {
	out := map[schemas.Track]uint64{}
	for _, t := range []*track{c.video, c.audio} {
		if t != nil {
			out[t.info.Track] = t.nextMSN()
		}
	}
	return out
}

// Wall gives the wall-clock of a frame's presentation on the publisher's clock, Unix
// microseconds, and how far it may be off.
func (c *Cutter) Wall(ptsUs int64) (us, boundUs int64) {
	return c.clock.wall(ptsUs - c.origin), c.clock.bound()
}

// start fixes the origin of media time at the first frame.
func (c *Cutter) start(f Frame) {
	c.started, c.origin = true, f.DTSUs
	c.firstPTSUs = f.CTSUs
}

func (c *Cutter) firstPicture() int64 {
	if c.video == nil {
		return 0
	}
	return c.firstPTSUs
}

func (c *Cutter) replayEarly() {
	if len(c.early) == 0 {
		return
	}
	early := c.early
	c.early = nil
	for _, f := range early {
		if err := c.placeAudio(f); err != nil {
			c.counters.Dropped++
		}
	}
	c.sync()
}

// sync forgets boundaries that no other track waits for and emits what is ready.
func (c *Cutter) sync() {
	if c.audio == nil || c.video == nil {
		c.bounds = c.bounds[:0]
	}
	c.flow()
}

// Deadline is when Tick must be called next, Unix microseconds; 0: no need.
func (c *Cutter) Deadline() int64 {
	switch {
	case c.waitUntil == 0:
		return c.fullUntil
	case c.fullUntil == 0:
		return c.waitUntil
	}
	return min(c.waitUntil, c.fullUntil)
}

// Tick lets go what has waited until now, Unix microseconds.
func (c *Cutter) Tick(now int64) {
	c.now = max(c.now, now)
	if c.fullUntil != 0 && c.now >= c.fullUntil {
		c.closeLate()
	}
	if c.waitUntil != 0 && c.now >= c.waitUntil {
		c.emit()
	}
	c.flow()
}

// Finish closes what is open and emits it. The cutter is of no use afterwards.
func (c *Cutter) Finish() {
	if c.holding {
		c.releaseHeld(max(1, c.lastDur))
	}
	for _, t := range []*track{c.video, c.audio} {
		if t != nil && t.segOpen {
			c.closeSegment(t)
		}
	}
	c.emit()
}
