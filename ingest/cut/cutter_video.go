package cut

import (
	"errors"
	"fmt"
	"math"

	"github.com/spillway-live/spillway/schemas"
)

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
