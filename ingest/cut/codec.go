package cut

import (
	"bytes"
	"errors"
	"slices"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// Codec names an elementary stream's coding.
type Codec string

// Codecs that are cut.
const (
	H264 Codec = "h264" // ITU-T H.264
	H265 Codec = "h265" // ITU-T H.265
	AV1  Codec = "av1"  // AV1 Bitstream & Decoding Process Specification
	AAC  Codec = "aac"  // ISO/IEC 14496-3
	Opus Codec = "opus" // RFC 6716
)

// IsVideo tells whether c codes pictures.
func (c Codec) IsVideo() bool { return c == H264 || c == H265 || c == AV1 }

// ErrUnsupported is wrapped by errors about codec settings that are not taken.
var ErrUnsupported = errors.New("codec settings are not supported")

// VideoConfig is what a decoder needs before the first key frame.
type VideoConfig struct {
	Codec Codec
	// VPS (H.265), SPS and PPS are NAL units without start code or length.
	VPS, SPS, PPS []byte
	// MorePPS are the picture parameter sets behind the first, where an encoder uses several.
	MorePPS [][]byte
	// SequenceHeader is AV1's sequence header OBU, with header and size field.
	SequenceHeader []byte
	// FPS is the frame rate that the publisher declares; 0: not known.
	FPS float64
}

// Complete tells whether nothing is missing to make a track.
func (c *VideoConfig) Complete() bool {
	switch c.Codec {
	case H264:
		return len(c.SPS) > 0 && len(c.PPS) > 0
	case H265:
		return len(c.VPS) > 0 && len(c.SPS) > 0 && len(c.PPS) > 0
	case AV1:
		return len(c.SequenceHeader) > 0
	}
	return false
}

// Equal tells whether a decoder set up with c can go on with o. FPS is not compared.
func (c *VideoConfig) Equal(o *VideoConfig) bool {
	return c.Codec == o.Codec && bytes.Equal(c.VPS, o.VPS) && bytes.Equal(c.SPS, o.SPS) && bytes.Equal(c.PPS, o.PPS) &&
		slices.EqualFunc(c.MorePPS, o.MorePPS, bytes.Equal) && bytes.Equal(c.SequenceHeader, o.SequenceHeader)
}

// Clone gives a copy that shares no memory with c.
func (c *VideoConfig) Clone() VideoConfig {
	o := *c
	o.VPS, o.SPS, o.PPS = bytes.Clone(c.VPS), bytes.Clone(c.SPS), bytes.Clone(c.PPS)
	o.SequenceHeader, o.MorePPS = bytes.Clone(c.SequenceHeader), nil
	for _, p := range c.MorePPS {
		o.MorePPS = append(o.MorePPS, bytes.Clone(p))
	}
	return o
}

// Update takes over the configuration that access unit a carries in band, and
// tells whether it differs. Call it for key frames only: elsewhere encoders
// repeat what is known. What it keeps is a's memory, which ParseVideo does not reuse.
func (c *VideoConfig) Update(a *AccessUnit) bool {
	n := *c
	if a.VPS != nil {
		n.VPS = a.VPS
	}
	if a.SPS != nil {
		n.SPS = a.SPS
	}
	if a.PPS != nil {
		n.PPS, n.MorePPS = a.PPS, a.MorePPS
		if len(c.MorePPS) > 0 && len(a.MorePPS) < len(c.MorePPS) && c.hasPPS(a) {
			n.PPS, n.MorePPS = c.PPS, c.MorePPS // only some of the known ones were repeated
		}
	}
	if a.SequenceHeader != nil {
		n.SequenceHeader = a.SequenceHeader
	}
	if n.Equal(c) {
		return false
	}
	*c = n
	return true
}

func (c *VideoConfig) hasPPS(a *AccessUnit) bool {
	has := func(p []byte) bool {
		return bytes.Equal(p, c.PPS) || slices.ContainsFunc(c.MorePPS, func(q []byte) bool { return bytes.Equal(p, q) })
	}
	return has(a.PPS) && !slices.ContainsFunc(a.MorePPS, func(p []byte) bool { return !has(p) })
}

// AudioConfig describes an audio track.
type AudioConfig struct {
	Codec Codec
	// AAC is the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).
	AAC *mpeg4audio.AudioSpecificConfig
	// OpusChannels is 1 to 8 (channel mapping family 0 up to two, 1 beyond; RFC 7845, 5.1.1).
	OpusChannels int
	// OpusPreSkip is how many samples of 1/48000 s a decoder discards at the start.
	OpusPreSkip int
}

// Equal tells whether a decoder set up with c can go on with o.
func (c *AudioConfig) Equal(o *AudioConfig) bool {
	if c.Codec != o.Codec || (c.AAC == nil) != (o.AAC == nil) {
		return false
	}
	if c.AAC == nil {
		return c.OpusChannels == o.OpusChannels && c.OpusPreSkip == o.OpusPreSkip
	}
	a, errA := c.AAC.Marshal()
	b, errB := o.AAC.Marshal()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// Clone gives a copy that shares no memory with c.
func (c *AudioConfig) Clone() AudioConfig {
	o := *c
	if c.AAC != nil {
		a := *c.AAC
		o.AAC = &a
	}
	return o
}
