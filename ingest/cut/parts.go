package cut

import (
	"github.com/spillway-live/spillway/schemas"
)

// track is the cutting state of one track.
type track struct {
	info  schemas.TrackInfo
	scale uint64
	limit uint64 // longest part, units

	begun       bool
	lastUs      int64
	lastArrived int64

	open     []sample
	openBase uint64
	openDur  uint64
	openSize int
	end      uint64 // where the last frame ends
	lag      uint64 // by which the next part starts later, to follow the clock

	segOpen  bool
	segStart uint64
	segments uint64 // closed
	part     uint32 // index of the next part in the segment
	number   uint32 // fragments so far
	disc     bool   // the next fragment carries the discontinuity

	ready []part
	free  [][]sample
}

// part is a finished part that has not been emitted.
type part struct {
	samples []sample
	layout  layout
	base    uint64
	dur     uint64
	number  uint32
	ref     reference
	frag    schemas.Fragment
}

func newTrack(t *Track, partUs int64, disc bool) *track {
	n := &track{info: t.Info, scale: uint64(t.Info.Timescale), disc: disc}
	target := partUs
	if t.Info.PartTargetUs > 0 {
		target = t.Info.PartTargetUs
	}
	n.limit = n.units(target)
	return n
}

func (t *track) units(us int64) uint64 { return uint64(us) * t.scale / 1_000_000 }
func (t *track) us(units uint64) int64 {
	// Split, so that the product cannot overflow within the life of a stream.
	return int64(units/t.scale*1_000_000 + units%t.scale*1_000_000/t.scale)
}

// jump gives by how much timestamp us is out of what can be repaired, microseconds; 0 if it is not.
func (t *track) jump(us int64) int64 {
	if by := us - t.lastUs; by > maxForwardUs {
		return by
	}
	if by := us - t.us(t.end); by < -maxBackwardUs {
		return by
	}
	return 0
}

func (t *track) nextMSN() uint64 {
	n := t.info.FirstMSN + t.segments
	if t.segOpen {
		n++
	}
	return n
}

// full tells whether one more frame of duration next would not fit the open part.
func (t *track) full(next uint64) bool { return len(t.open) > 0 && t.openDur+next > t.limit }

func (t *track) lastSampleDur() uint64 {
	if len(t.open) == 0 {
		return 0
	}
	return uint64(t.open[len(t.open)-1].dur)
}

// put appends a frame to the open part, after closing it if it has no room. A
// hole before the frame goes into the last frame's duration if the part allows it.
func (c *Cutter) put(t *track, s sample, at uint64) {
	if hole := at - t.end; len(t.open) > 0 && hole > 0 {
		if t.openDur+hole <= t.limit {
			t.open[len(t.open)-1].dur += uint32(hole)
			t.openDur += hole
		} else {
			c.closePart(t, false)
		}
	}
	if len(t.open) > 0 && (t.openDur+uint64(s.dur) > t.limit || t.openSize+len(s.data) > MaxPartBytes) {
		c.closePart(t, false)
	}
	if len(t.open) == 0 {
		t.openBase, t.openDur, t.openSize = at, 0, 0
		if t.open == nil {
			t.open = t.takeSlice()
		}
	}
	if !t.segOpen {
		c.openSegment(t, at)
		t.segOpen, t.segStart, t.part = true, at, 0
	}
	t.open = append(t.open, s)
	t.openDur += uint64(s.dur)
	t.openSize += len(s.data)
	t.end = at + uint64(s.dur)
}

// fillHole lets a picture begin where the last one ended when frames between
// them are missing (an encoder that cannot keep up, a publisher that drops).
// Players stop at a hole in the picture and then jump over it, which viewers see
// as a stall; a picture that shows early does no harm. Only where the frame
// before cannot be lengthened any more, because its part is finished, and not
// for reordered frames (B-frames), whose presentation order would change. The
// part then holds one long frame and may exceed the part target.
func (t *track) fillHole(s sample, at uint64) (sample, uint64) {
	hole := at - t.end
	if at <= t.end || t.number == 0 || s.cto != 0 || hole > t.units(schemas.SegmentMaxUs)-uint64(s.dur) ||
		hole < t.units(minHoleUs) || len(t.open) > 0 && t.openDur+hole <= t.limit {
		return s, at
	}
	s.dur += uint32(hole)
	return s, t.end
}

// minHoleUs: shorter holes come from following the publisher's clock; players do not notice them.
const minHoleUs = 5_000

// closeSegment ends the open segment with the open part, if there is one.
func (c *Cutter) closeSegment(t *track) {
	c.closePart(t, true)
	t.segOpen = false
	t.segments++
}

// closePart finishes the open part.
func (c *Cutter) closePart(t *track, segmentEnd bool) {
	if t == c.video {
		c.fullUntil = 0
	}
	if len(t.open) == 0 {
		return
	}
	first := &t.open[0]
	l := layoutOf(t.open)
	pts := t.openBase + uint64(first.cto)
	wall := c.clock.wall(t.us(pts))
	t.number++
	t.ready = append(t.ready, part{
		samples: t.open, layout: l, base: t.openBase, dur: t.openDur, number: t.number,
		ref: reference{wallUs: wall, pts: pts, captured: c.clock.source() != schemas.ClockArrival},
		frag: schemas.Fragment{
			Track: t.info.Track, MSN: t.info.FirstMSN + t.segments, Part: t.part, Size: l.size, InitID: t.info.InitID,
			BaseTime: t.openBase, Duration: t.openDur, Timescale: uint32(t.scale), Samples: len(t.open),
			WallUnixUs: wall, DoneUnixUs: t.open[len(t.open)-1].arrived, Independent: first.key,
			SegmentStart: t.part == 0, SegmentEnd: segmentEnd, Discontinuity: t.disc,
		},
	})
	if t.part == 0 {
		t.ready[len(t.ready)-1].frag.Line = c.lineOf(t)
	}
	t.disc = false
	t.part++
	t.open = t.takeSlice()
	t.openDur, t.openSize = 0, 0
}

func (t *track) takeSlice() []sample {
	if n := len(t.free); n > 0 {
		s := t.free[n-1]
		t.free = t.free[:n-1]
		return s
	}
	return make([]sample, 0, 16)
}

func (t *track) giveSlice(s []sample) {
	clear(s) // lets go of the frames' memory
	if len(t.free) < 8 {
		t.free = append(t.free, s[:0])
	}
}

// leastPart is the share of the part target that a part may not be under, but for the
// last one of its segment (draft-pantos-hls-rfc8216bis 4.4.4.9).
const leastPart = 0.85

// keepStep finishes the open audio part when a finished video part waits for it and it is
// long enough: so both tracks' parts end together, and neither waits for the other.
func (c *Cutter) keepStep() {
	a := c.audio
	if a == nil || c.video == nil || len(c.video.ready) == 0 || len(a.ready) > 0 || len(a.open) == 0 ||
		float64(a.openDur) < leastPart*float64(a.limit) {
		return
	}
	c.endAudioPart()
}

// flow emits finished parts, or sets until when they wait for the other track's.
func (c *Cutter) flow() {
	c.keepStep()
	nv, na := 0, 0
	if c.video != nil {
		nv = len(c.video.ready)
	}
	if c.audio != nil {
		na = len(c.audio.ready)
	}
	switch {
	case nv == 0 && na == 0:
		c.waitUntil = 0
	case nv > 0 && na > 0:
		c.emit()
	case nv > 0 && c.soon(c.audio), na > 0 && c.soon(c.video):
		if c.waitUntil == 0 {
			c.waitUntil = c.now + c.s.MaxWaitUs
		}
	default:
		c.emit()
	}
	if c.waitUntil != 0 && c.now >= c.waitUntil {
		c.emit()
	}
}

// soon tells whether t's next part may come within the longest wait: waiting for
// one that cannot would be delay for nothing.
func (c *Cutter) soon(t *track) bool {
	if t == nil || !t.begun || c.now-t.lastArrived > 2*c.s.MaxWaitUs {
		return false
	}
	rest := int64(0)
	if t.limit > t.openDur {
		rest = t.us(t.limit - t.openDur)
	}
	return rest <= c.s.MaxWaitUs
}

// emit makes chunks of all finished parts.
func (c *Cutter) emit() {
	c.waitUntil = 0
	for {
		var frags []schemas.Fragment
		var parts []*part
		size := 0
		for _, t := range []*track{c.video, c.audio} {
			if t == nil {
				continue
			}
			for i := range t.ready {
				p := &t.ready[i]
				if p.samples == nil {
					continue
				}
				if len(parts) == schemas.MaxFragments || len(parts) > 0 && size+p.layout.size > schemas.MaxPayloadBytes {
					break
				}
				p.frag.Offset = size
				size += p.layout.size
				if frags == nil {
					frags = make([]schemas.Fragment, 0, 4)
				}
				frags = append(frags, p.frag)
				parts = append(parts, p)
			}
		}
		if len(parts) == 0 {
			break
		}
		payload := c.s.Buffer(size)[:0]
		received := parts[0].samples[0].arrived
		for _, p := range parts {
			payload = appendFragment(payload, p.layout, p.samples, p.base, p.number, p.ref)
			t := c.video
			if p.frag.Track == schemas.Audio {
				t = c.audio
			}
			t.giveSlice(p.samples)
			p.samples = nil
		}
		ch := &schemas.Chunk{
			App: c.s.App, Stream: c.s.Stream, Rendition: c.s.Rendition, Epoch: c.s.Epoch, Seq: c.seq,
			DiscontinuitySeq: c.s.DiscontinuitySeq, CDN: c.s.CDN, ReceivedUnixUs: received,
			Clock: c.clock.source(), ClockBoundUs: c.clock.bound(), Fragments: frags,
		}
		c.seq++
		c.s.Emit(ch, payload)
	}
	for _, t := range []*track{c.video, c.audio} {
		if t != nil {
			t.ready = t.ready[:0]
		}
	}
}
