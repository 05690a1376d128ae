package cut

import (
	"encoding/binary"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

// DecodeTimes finds decode times for protocols that carry presentation times only
// (RTP), from the order in which pictures are coded. One for each video track; a
// change of configuration needs no new one.
type DecodeTimes struct {
	codec Codec
	avc   h264.DTSExtractor
	hevc  h265.DTSExtractor
	units [][]byte
	begun bool
	last  int64 // microseconds
	step  int64 // last distance of two decode times
	// Guessed counts frames whose order could not be read from the bitstream.
	Guessed uint64
}

// NewDecodeTimes is for a video codec.
func NewDecodeTimes(c Codec) *DecodeTimes {
	d := &DecodeTimes{codec: c}
	d.avc.Initialize()
	d.hevc.Initialize()
	return d
}

// Next gives the decode time of access unit a, presented at ptsUs, in microseconds:
// later than the one before. c is the configuration that a is decoded with. Errors
// wrap [ErrBitstream]: nothing can be told before the first key frame.
func (d *DecodeTimes) Next(c *VideoConfig, a *AccessUnit, ptsUs int64) (int64, error) {
	if !d.begun && !a.Key {
		return 0, fmt.Errorf("%w: no key frame has come yet, so decode times are not known", ErrBitstream)
	}
	dts, err := d.extract(c, a, ptsUs)
	switch {
	case !d.begun:
		if err != nil || dts > ptsUs {
			dts = ptsUs
		}
		d.begun, d.last = true, dts
		return dts, nil
	case err != nil:
		d.Guessed++
		dts = min(ptsUs, d.last+d.step)
	}
	if dts <= d.last {
		if back := d.last - ptsUs; back > maxBackwardUs { // the clock was set: the cutter tells
			dts = ptsUs
		} else {
			dts = d.last + 1
		}
	}
	d.step = max(1, min(dts-d.last, 1_000_000))
	d.last = dts
	return dts, nil
}

// extract asks the codec's extractor, which counts in 1/90000 s.
func (d *DecodeTimes) extract(c *VideoConfig, a *AccessUnit, ptsUs int64) (int64, error) {
	d.units = d.units[:0]
	if a.Key && len(c.SPS) > 0 && len(c.PPS) > 0 {
		d.units = append(d.units, c.SPS, c.PPS)
	}
	for b := a.Data; len(b) > 4; {
		n := int(binary.BigEndian.Uint32(b))
		if n <= 0 || n > len(b)-4 {
			break
		}
		d.units = append(d.units, b[4:4+n])
		b = b[4+n:]
	}
	pts := floorDiv(ptsUs*9, 100)
	var dts int64
	var err error
	switch d.codec {
	case H264:
		if dts, err = d.avc.Extract(d.units, pts); err != nil {
			d.avc = h264.DTSExtractor{}
			d.avc.Initialize()
		}
	case H265:
		if dts, err = d.hevc.Extract(d.units, pts); err != nil {
			d.hevc = h265.DTSExtractor{}
			d.hevc.Initialize()
		}
	default: // pictures are coded in the order in which they are shown
		return ptsUs, nil
	}
	if err != nil {
		return 0, err
	}
	return ptsUs - (pts-dts)*100/9, nil
}
