package cut

import (
	"errors"
	"fmt"
	"math"

	"github.com/spillway-live/spillway/schemas"
)

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
