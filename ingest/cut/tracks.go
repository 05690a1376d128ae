package cut

import (
	"errors"
	"fmt"
	"math"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/schemas"
)

// Track is what a cutter needs to know of one elementary stream.
type Track struct {
	// Info describes the track for EpochOpen. FirstMSN is the caller's to set;
	// so is PartTargetUs where an earlier epoch has fixed it.
	Info schemas.TrackInfo
	// Init is the init segment, Info.InitID its name.
	Init []byte
	// interval is the declared frame interval in 1/Timescale s; 0 if not known. For
	// audio it is exact.
	interval float64
}

// ErrUnsupported is wrapped by errors about codec settings that are not taken.
var ErrUnsupported = errors.New("codec settings are not supported")

// VideoTrack describes an H.264 track. declaredFPS is what the publisher says (0:
// not known; then the SPS's timing is used). partUs is the part target T.
func VideoTrack(sps, pps []byte, declaredFPS float64, partUs int64) (*Track, error) {
	if len(sps) < 4 || sps[0]&0x1f != nalSPS {
		return nil, fmt.Errorf("%w: the H.264 sequence parameter set is missing or malformed", ErrUnsupported)
	}
	if len(pps) < 2 || pps[0]&0x1f != nalPPS {
		return nil, fmt.Errorf("%w: the H.264 picture parameter set is missing or malformed", ErrUnsupported)
	}
	if len(sps) > math.MaxUint16 || len(pps) > math.MaxUint16 {
		return nil, fmt.Errorf("%w: a H.264 parameter set is over 65535 bytes", ErrUnsupported)
	}
	var p h264.SPS
	if err := p.Unmarshal(sps); err != nil {
		return nil, fmt.Errorf("%w: H.264 sequence parameter set: %w", ErrUnsupported, err)
	}
	w, h := p.Width(), p.Height()
	if w <= 0 || h <= 0 || w > 16384 || h > 16384 {
		return nil, fmt.Errorf("%w: picture of %d x %d", ErrUnsupported, w, h)
	}
	fps := usableFPS(declaredFPS)
	if fps == 0 {
		fps = usableFPS(p.FPS())
	}
	scale, interval := videoTimescale(fps)
	t := &Track{interval: interval, Info: schemas.TrackInfo{
		Track: schemas.Video, Codec: fmt.Sprintf("avc1.%02x%02x%02x", sps[1], sps[2], sps[3]),
		Timescale: scale, Width: w, Height: h, FPS: math.Round(fps*1000) / 1000,
	}}
	t.Info.PartTargetUs = partTarget(interval, scale, partUs)
	t.Init = videoInit(sps, pps, &p, scale, w, h)
	t.Info.InitID = schemas.InitID(t.Init)
	return t, nil
}

// AudioTrack describes an AAC track from its AudioSpecificConfig (ISO/IEC 14496-3).
func AudioTrack(c *mpeg4audio.AudioSpecificConfig, partUs int64) (*Track, error) {
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
	t := &Track{interval: float64(frame), Info: schemas.TrackInfo{
		Track: schemas.Audio, Codec: fmt.Sprintf("mp4a.40.%d", kind),
		Timescale: uint32(c.SampleRate), SampleRate: c.SampleRate, Channels: channels,
	}}
	t.Info.PartTargetUs = partTarget(t.interval, t.Info.Timescale, partUs)
	t.Init = audioInit(asc, t.Info.Timescale, channels)
	t.Info.InitID = schemas.InitID(t.Init)
	return t, nil
}

// partTarget is the longest k*d within partUs, or d where that is longer, in
// microseconds rounded up; partUs where d is not known.
func partTarget(interval float64, scale uint32, partUs int64) int64 {
	if interval == 0 {
		return partUs
	}
	d := interval * 1e6 / float64(scale)
	k := math.Max(1, math.Floor(float64(partUs)/d+1e-9))
	return int64(math.Ceil(k*d - 1e-6))
}

func usableFPS(f float64) float64 {
	if !(f >= 1 && f <= 240) {
		return 0
	}
	for _, n := range [...]float64{24, 30, 48, 60, 120} {
		if r := n * 1000 / 1001; math.Abs(f-r) < 0.006 {
			return r
		}
	}
	if r := math.Round(f); math.Abs(f-r) < 0.006 {
		return r
	}
	return f
}

// videoTimescale gives a timescale in which both a millisecond and, for the
// usual rates, the frame interval are whole numbers.
func videoTimescale(fps float64) (scale uint32, interval float64) {
	switch {
	case fps == 0:
		return 90000, 0
	case fps == math.Trunc(fps):
		return 90000, 90000 / fps
	}
	for _, n := range [...]float64{24, 30, 48, 60, 120} {
		if fps == n*1000/1001 {
			return uint32(n * 1000), 1001
		}
	}
	return 90000, 90000 / fps
}
