package cut

import (
	"errors"
	"fmt"
	"math"

	"github.com/spillway-live/spillway/schemas"
)

// MaxFrameBytes is the largest frame that fits a chunk, MaxPartBytes where a part
// is closed early so that parts of both tracks fit one.
const (
	MaxFrameBytes = schemas.MaxPayloadBytes - 64<<10
	MaxPartBytes  = MaxFrameBytes / 2
)

// Settings of a Cutter. Names are checked when chunks are encoded.
type Settings struct {
	App, Stream, Rendition, CDN string
	Epoch                       uint32
	DiscontinuitySeq            uint32
	// Discontinuity: the epoch continues an earlier one that had content.
	Discontinuity bool
	// Video and Audio are the tracks; one may be nil. Info.FirstMSN and
	// Info.PartTargetUs are obeyed.
	Video, Audio *Track
	// GrainUs is the resolution of the timestamps, microseconds; default 1000 (RTMP).
	// It widens what counts as on time.
	GrainUs int64
	// PartUs is the part target T, microseconds; default 200,000.
	PartUs int64
	// MaxWaitUs is how long a finished part waits for the other track's; default 100,000.
	MaxWaitUs int64
	// Emit takes each chunk and its payload, in order. The payload is Emit's to keep.
	Emit func(*schemas.Chunk, []byte)
	// Buffer gives an empty slice with room for n bytes; default make.
	Buffer func(n int) []byte
}

// Frame is one access unit.
type Frame struct {
	// DTSUs is the decode time on the publisher's media clock, microseconds, extended by
	// [Unwrap]; CTSUs the presentation time minus it.
	DTSUs, CTSUs int64
	// Key: decoding can start here (video).
	Key bool
	// Data is the sample as it goes into mdat: see [AccessUnit]; one raw AAC frame or one Opus packet.
	Data []byte
	// ArrivedUs is when its last byte arrived, Unix microseconds.
	ArrivedUs int64
	// CaptureUs is when the picture was taken on the publisher's wall-clock, Unix
	// microseconds; 0: not known. Capture says how good that is.
	CaptureUs int64
	Capture   Capture
}

// Capture says how good a capture time is.
type Capture struct {
	// Source is where it comes from; empty: [schemas.ClockCapture].
	Source schemas.ClockSource
	// Synchronised: the publisher's clock is ours (it asked /v1/clock), at most
	// BoundUs off; it is taken as it is.
	Synchronised bool
	BoundUs      int64
	// DelayUs is the time from the capture to the sending of the frame, on the same clock; 0: not known.
	DelayUs int64
}

// JumpError says that timestamps went where no repair is honest; open a new epoch.
type JumpError struct {
	Track schemas.Track
	ByMs  int64
}

func (e *JumpError) Error() string {
	return fmt.Sprintf("%s timestamps jumped by %d ms", e.Track, e.ByMs)
}

// ErrTooLarge is wrapped when a frame cannot fit a chunk.
var ErrTooLarge = errors.New("frame is too large")

// Counters tell what a cutter had to do.
type Counters struct {
	Repaired uint64 // frames whose timestamps were repaired
	Dropped  uint64 // frames that could not be used: before the first key frame, or overlapping
	// Clock counts capture times that were not believed: implausible, off their line, or drifting.
	Clock uint64
}

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

// Video takes a video frame. A [JumpError] or ErrTooLarge leaves the frame out.
func (c *Cutter) Video(f Frame) error {
	if c.video == nil {
		return errors.New("cut: video frame without a video track")
	}
	if len(f.Data) > MaxFrameBytes {
		return fmt.Errorf("%w: a video frame of %d bytes: at most %d are taken", ErrTooLarge, len(f.Data), MaxFrameBytes)
	}
	if len(f.Data) == 0 {
		return nil
	}
	c.now = max(c.now, f.ArrivedUs)
	if f.CTSUs < 0 {
		f.CTSUs = 0
		c.counters.Repaired++
	}
	if !c.started {
		if !f.Key {
			c.counters.Dropped++
			return nil
		}
		c.start(f)
	}
	us := f.DTSUs - c.origin
	v := c.video
	if v.begun {
		if by := v.jump(us); by != 0 {
			return &JumpError{schemas.Video, by / 1000}
		}
		if us <= v.lastUs {
			c.counters.Repaired++
		}
	}
	v.begun, v.lastArrived = true, f.ArrivedUs
	c.clock.observe(&f, us+f.CTSUs)
	c.placeVideo(f, us)
	v.lastUs = us
	c.sync()
	c.replayEarly()
	return nil
}

func (c *Cutter) placeVideo(f Frame, us int64) {
	v, smp := c.video, sample{data: f.Data, key: f.Key, arrived: f.ArrivedUs}
	if c.pace.locked {
		if len(v.open) == 0 || v.full(c.pace.interval) {
			if n := c.pace.correction(); n > 0 {
				v.lag = n
			}
		}
		if at, dur, ok := c.pace.onLine(us, v.end+v.lag); ok {
			smp.dur, smp.cto = uint32(dur), c.pace.compositionOffset(f.CTSUs)
			if v.lag > 0 {
				c.pace.shifted(v.lag)
				v.lag = 0
			}
			c.putVideo(smp, at)
			return
		}
		v.lag = 0
	}
	at := max(c.pace.offLine(us), v.end)
	if c.holding {
		at = max(at, c.heldAt+max(1, v.units(1000)))
		c.releaseHeld(at - c.heldAt)
	}
	if pts := c.pace.units(us + f.CTSUs); pts > float64(at) {
		smp.cto = int32(min(pts-float64(at), math.MaxInt32))
	}
	if c.pace.locked {
		smp.dur, smp.cto = uint32(c.pace.interval), c.pace.compositionOffset(f.CTSUs)
		c.putVideo(smp, at)
		return
	}
	c.held, c.heldAt, c.holding = smp, at, true
}

// releaseHeld places the frame that waited, dur before the next one.
func (c *Cutter) releaseHeld(dur uint64) {
	c.holding = false
	// A longer frame would make its segment longer than the target duration allows: the rest is a hole.
	dur = min(dur, c.video.units(schemas.SegmentMaxUs))
	c.lastDur = dur
	c.held.dur = uint32(dur)
	c.putVideo(c.held, c.heldAt)
	c.held = sample{}
}

// putVideo places a frame whose time and duration are known, closing segment and part as the rules ask.
func (c *Cutter) putVideo(s sample, at uint64) {
	v := c.video
	s, at = v.fillHole(s, at)
	next := uint64(s.dur)
	if v.segOpen {
		age := at - v.segStart
		if s.key && age+v.units(segSlackUs) >= v.units(schemas.SegmentMinUs) ||
			age+v.units(segSlackUs) >= v.units(schemas.SegmentMaxUs) || age+uint64(s.dur) > v.units(segHardUs) {
			c.closeSegment(v)
			c.bounds = append(c.bounds, bound{us: v.us(at) + v.us(uint64(s.cto)), index: v.segments})
		}
	}
	if s.key {
		c.lastGOP, c.prevGOP, c.lastKeyAt = at-c.lastKeyAt, c.lastGOP, at
		c.keyOffset = s.cto
	}
	c.put(v, s, at)
	if !v.full(next) {
		return
	}
	if age := v.end - v.segStart; age+v.units(segSlackUs) >= v.units(schemas.SegmentMaxUs) {
		c.closeSegment(v)
		c.bounds = append(c.bounds, bound{us: v.us(v.end), index: v.segments})
	} else if age+v.units(segSlackUs) >= v.units(schemas.SegmentMinUs) && c.keyMayFollow() {
		c.fullUntil = c.now + v.us(next) + c.s.MaxWaitUs/2
	} else {
		c.closePart(v, false)
	}
}

// keyMayFollow tells whether the next frame may be a key frame: always, unless
// the last two groups of pictures had the same length and the current one is shorter.
func (c *Cutter) keyMayFollow() bool {
	if c.lastGOP == 0 || c.lastGOP != c.prevGOP {
		return true
	}
	v := c.video
	near := v.lastSampleDur() / 2
	return v.end+near >= c.lastKeyAt+c.lastGOP
}

// keyIsNext tells whether the next frame is a key frame, as far as one can know: the
// last two groups of pictures had the same length and the current one has it now.
func (c *Cutter) keyIsNext() bool {
	if c.lastGOP == 0 || c.lastGOP != c.prevGOP {
		return false
	}
	near := c.video.lastSampleDur() / 2
	due := c.lastKeyAt + c.lastGOP
	return c.video.end+near >= due && c.video.end <= due+near
}

// closeLate finishes a full part whose successor is late. Where the next frame is a
// key frame by all that is known, the part ends its segment, so that readers need
// not wait for the next one's start to learn it. Should that frame be none after
// all, one segment begins without a key frame, as at the longest length.
func (c *Cutter) closeLate() {
	v := c.video
	if len(v.open) == 0 || !c.keyIsNext() {
		c.closePart(v, false)
		return
	}
	c.closeSegment(v)
	c.bounds = append(c.bounds, bound{us: v.us(v.end) + v.us(uint64(c.keyOffset)), index: v.segments})
}

// Audio takes an audio frame.
func (c *Cutter) Audio(f Frame) error {
	if c.audio == nil {
		return errors.New("cut: audio frame without an audio track")
	}
	if len(f.Data) > MaxFrameBytes {
		return fmt.Errorf("%w: an audio frame of %d bytes: at most %d are taken", ErrTooLarge, len(f.Data), MaxFrameBytes)
	}
	if len(f.Data) == 0 {
		return nil
	}
	c.now = max(c.now, f.ArrivedUs)
	if !c.started {
		if c.video != nil {
			if len(c.early) == maxEarly {
				copy(c.early, c.early[1:])
				c.early = c.early[:maxEarly-1]
				c.counters.Dropped++
			}
			c.early = append(c.early, f)
			return nil
		}
		c.start(f)
	}
	if err := c.placeAudio(f); err != nil {
		return err
	}
	c.sync()
	return nil
}

const (
	maxEarly   = 256       // audio frames kept while video's first key frame is awaited
	segSlackUs = 2_000     // RTMP's timestamps are whole milliseconds
	segHardUs  = 4_400_000 // a segment above 4.5 s would round to more than the target duration
	audioHard  = 4_200_000 // when audio closes a segment although video's boundary is not known
)

func (c *Cutter) placeAudio(f Frame) error {
	a := c.audio
	if c.s.Audio.Codec == Opus {
		n := OpusDuration(f.Data)
		if n == 0 {
			c.counters.Dropped++
			return nil
		}
		c.count.frame = uint64(n)
	}
	us := f.DTSUs + c.shiftUs - c.origin
	if !a.begun {
		if c.video != nil {
			if off := us - c.video.lastUs; off > maxForwardUs || off < -maxForwardUs {
				c.shiftUs -= off
				us -= off
				c.counters.Repaired++
			}
		}
		// The first audio frame is the one nearest to the first picture.
		if unitsOf(us, float64(a.scale))+float64(c.count.frame)/2 < unitsOf(c.firstPicture(), float64(a.scale)) || us < 0 {
			c.counters.Dropped++
			return nil
		}
		a.end = uint64(math.Round(unitsOf(us, float64(a.scale))))
	} else if by := a.jump(us); by != 0 {
		return &JumpError{schemas.Audio, by / 1000}
	}
	a.begun, a.lastUs, a.lastArrived = true, us, f.ArrivedUs
	if c.video == nil {
		c.clock.observe(&f, us)
	}
	if len(a.open) == 0 {
		if n := c.count.correction(); n > 0 {
			a.end += n
			c.count.shifted(n)
		}
	}
	at, dur, v := c.count.next(us, a.end)
	if v == drop {
		c.counters.Dropped++
		return nil
	}
	if a.segOpen && at-a.segStart >= a.units(audioHard) {
		c.closeSegment(a)
	}
	c.put(a, sample{data: f.Data, dur: uint32(dur), key: true, arrived: f.ArrivedUs}, at)
	if a.full(c.count.frame) {
		c.endAudioPart()
	}
	return nil
}

// endAudioPart finishes the open audio part, and with it the segment where that is due.
func (c *Cutter) endAudioPart() {
	if c.audioSegmentDue() {
		c.closeSegment(c.audio)
	} else {
		c.closePart(c.audio, false)
	}
}

// audioSegmentDue tells, when a part is full, whether audio's segment ends with
// it: at the first whole part that reaches video's boundary, or, without video,
// at the least length. A shorter last part of its own would end exactly there, at
// the cost of a request more for every segment.
func (c *Cutter) audioSegmentDue() bool {
	a := c.audio
	if c.video == nil {
		return a.end-a.segStart >= a.units(schemas.SegmentMinUs)
	}
	due := false
	// Audio that paused over several boundaries ends its segment once for all of them.
	for len(c.bounds) > 0 {
		b := c.bounds[0]
		if a.segments < b.index {
			if float64(a.end)*1e6 < float64(b.us)*float64(a.scale) {
				break
			}
			due = true
		}
		c.bounds = append(c.bounds[:0], c.bounds[1:]...)
	}
	return due
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
