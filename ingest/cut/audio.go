package cut

import (
	"fmt"
	"math"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"

	"github.com/spillway-live/spillway/schemas"
)

// opusHz is the rate of Opus decode times, whatever the encoder's input was (RFC 7845, 4).
const opusHz = 48000

// opusMaxUnits is the longest Opus packet, 120 ms (RFC 6716, 3.2.5).
const opusMaxUnits = 5760

// NewAudioTrack describes an audio track. partUs is the part target T. Errors wrap [ErrUnsupported].
func NewAudioTrack(c *AudioConfig, partUs int64) (*Track, error) {
	switch {
	case c.Codec == AAC && c.AAC != nil:
		return aacTrack(c.AAC, partUs)
	case c.Codec == Opus:
		return opusTrack(c, partUs)
	}
	return nil, fmt.Errorf("%w: %q is no audio codec with its configuration: AAC and Opus are taken", ErrUnsupported, c.Codec)
}

func aacTrack(c *mpeg4audio.AudioSpecificConfig, partUs int64) (*Track, error) {
	channels := int(c.ChannelConfig)
	switch channels {
	case 0:
		return nil, fmt.Errorf("%w: AAC channel layout in a program config element: send a plain channel configuration", ErrUnsupported)
	case 7:
		channels = 8
	}
	if c.SampleRate < 7350 || c.SampleRate > 96000 {
		return nil, fmt.Errorf("%w: AAC sample rate of %d Hz", ErrUnsupported, c.SampleRate)
	}
	asc, err := c.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: AAC configuration: %w", ErrUnsupported, err)
	}
	kind, frame := int(c.Type), 1024
	if c.ExtensionType != 0 {
		kind = int(c.ExtensionType)
	}
	if c.FrameLengthFlag {
		frame = 960
	}
	t := &Track{Codec: AAC, interval: float64(frame), Info: schemas.TrackInfo{
		Track: schemas.Audio, Codec: fmt.Sprintf("mp4a.40.%d", kind),
		Timescale: uint32(c.SampleRate), SampleRate: c.SampleRate, Channels: channels,
	}}
	return t.withInit(aacInit(asc, t.Info.Timescale, channels), partUs), nil
}

func opusTrack(c *AudioConfig, partUs int64) (*Track, error) {
	if c.OpusChannels < 1 || c.OpusChannels > 8 {
		return nil, fmt.Errorf("%w: Opus with %d channels: 1 to 8 are taken", ErrUnsupported, c.OpusChannels)
	}
	if c.OpusPreSkip < 0 || c.OpusPreSkip > 0xffff {
		return nil, fmt.Errorf("%w: Opus pre-skip of %d samples", ErrUnsupported, c.OpusPreSkip)
	}
	// Packets are nearly always 20 ms; each is measured when it comes.
	t := &Track{Codec: Opus, interval: opusHz / 50, Info: schemas.TrackInfo{
		Track: schemas.Audio, Codec: "opus", Timescale: opusHz, SampleRate: opusHz, Channels: c.OpusChannels,
	}}
	return t.withInit(opusInit(c.OpusChannels, c.OpusPreSkip), partUs), nil
}

// BesideVideo gives an audio track that is played with video a part target of one frame
// more than fits partUs, video's part target, where parts of one frame less are still long
// enough: its parts can then end with video's while they alternate between the two
// lengths (AAC at 48 kHz: 192 and 213 ms). With parts of one length the tracks would drift
// apart and together, and one would wait for the other, up to half a part.
func (t *Track) BesideVideo(partUs int64) {
	if t.interval <= 0 || t.Info.Timescale == 0 {
		return
	}
	d := t.interval * 1e6 / float64(t.Info.Timescale)
	k := math.Floor(float64(partUs)/d+1e-9) + 1
	if (k-1)/k >= leastPart {
		t.Info.PartTargetUs = int64(math.Ceil(k*d - 1e-6))
	}
}

func (t *Track) withInit(b []byte, partUs int64) *Track {
	t.Info.PartTargetUs = partTarget(t.interval, t.Info.Timescale, partUs)
	t.Init = b
	t.Info.InitID = schemas.InitID(t.Init)
	return t
}

// OpusDuration gives the duration of an Opus packet from its table-of-contents
// byte (RFC 6716, 3.1), in samples of 1/48000 s; 0 if the packet is malformed.
func OpusDuration(packet []byte) int {
	n := opus.PacketDuration2(packet)
	if n <= 0 || n > opusMaxUnits {
		return 0
	}
	return int(n)
}
