package cut

import (
	"fmt"
	"math"

	"github.com/Eyevinn/mp4ff/av1"
	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"

	"github.com/spillway-live/spillway/schemas"
)

// Track is what a cutter needs to know of one elementary stream.
type Track struct {
	// Info describes the track for EpochOpen. FirstMSN is the caller's to set;
	// so is PartTargetUs where an earlier epoch has fixed it.
	Info schemas.TrackInfo
	// Init is the init segment, Info.InitID its name.
	Init []byte
	// Codec is the track's coding.
	Codec Codec
	// interval is the declared frame interval in 1/Timescale s; 0 if not known. For
	// AAC it is exact; for Opus each packet says its own.
	interval float64
}

// stream is what a parser finds out about a video configuration.
type stream struct {
	codec, entry, config string // RFC 6381 string, sample entry and its configuration box
	record               []byte
	width, height        int
	fps                  float64
	colour               colour
}

// NewVideoTrack describes a video track. Where c.FPS is 0, the rate is taken from
// the bitstream's own timing, if it has any. partUs is the part target T. Errors
// wrap [ErrUnsupported].
func NewVideoTrack(c *VideoConfig, partUs int64) (*Track, error) {
	var s stream
	var err error
	switch c.Codec {
	case H264:
		s, err = avcStream(c)
	case H265:
		s, err = hevcStream(c)
	case AV1:
		s, err = av1Stream(c)
	default:
		return nil, fmt.Errorf("%w: %q is no video codec: H.264, H.265 and AV1 are taken", ErrUnsupported, c.Codec)
	}
	if err != nil {
		return nil, err
	}
	if s.width <= 0 || s.height <= 0 || s.width > 16384 || s.height > 16384 {
		return nil, fmt.Errorf("%w: picture of %d x %d", ErrUnsupported, s.width, s.height)
	}
	fps := usableFPS(c.FPS)
	if fps == 0 {
		fps = usableFPS(s.fps)
	}
	scale, interval := videoTimescale(fps)
	t := &Track{Codec: c.Codec, interval: interval, Info: schemas.TrackInfo{
		Track: schemas.Video, Codec: s.codec, Timescale: scale, Width: s.width, Height: s.height, FPS: math.Round(fps*1000) / 1000,
	}}
	t.Info.PartTargetUs = partTarget(interval, scale, partUs)
	t.Init = visualInit(s.entry, s.config, s.record, picture{scale: scale, width: s.width, height: s.height, colour: s.colour})
	t.Info.InitID = schemas.InitID(t.Init)
	return t, nil
}

// checkSet tells what is wrong with a parameter set.
func checkSet(codec, kind string, set []byte, least int, typeOK bool) error {
	if len(set) < least || !typeOK {
		return fmt.Errorf("%w: the %s %s parameter set is missing or malformed", ErrUnsupported, codec, kind)
	}
	if len(set) > math.MaxUint16 {
		return fmt.Errorf("%w: the %s %s parameter set is over 65535 bytes", ErrUnsupported, codec, kind)
	}
	return nil
}

func avcStream(c *VideoConfig) (s stream, err error) {
	if err := checkSet("H.264", "sequence", c.SPS, 4, len(c.SPS) > 0 && c.SPS[0]&0x1f == avcSPS); err != nil {
		return s, err
	}
	if len(c.MorePPS) > maxPPS {
		return s, fmt.Errorf("%w: %d H.264 picture parameter sets", ErrUnsupported, 1+len(c.MorePPS))
	}
	for _, p := range append([][]byte{c.PPS}, c.MorePPS...) {
		if err := checkSet("H.264", "picture", p, 2, len(p) > 0 && p[0]&0x1f == avcPPS); err != nil {
			return s, err
		}
	}
	var p h264.SPS
	if err := p.Unmarshal(c.SPS); err != nil {
		return s, fmt.Errorf("%w: H.264 sequence parameter set: %w", ErrUnsupported, err)
	}
	s = stream{entry: "avc1", config: "avcC", width: p.Width(), height: p.Height(), fps: p.FPS()}
	s.codec = fmt.Sprintf("avc1.%02x%02x%02x", c.SPS[1], c.SPS[2], c.SPS[3])
	s.record = avcC(c, sampleFormat{byte(p.ChromaFormatIdc), byte(p.BitDepthLumaMinus8), byte(p.BitDepthChromaMinus8)})
	if v := p.VUI; v != nil && v.ColourDescriptionPresentFlag {
		s.colour = colour{true, v.ColourPrimaries, v.TransferCharacteristics, v.MatrixCoefficients, v.VideoFullRangeFlag}
	}
	return s, nil
}

func hevcStream(c *VideoConfig) (s stream, err error) {
	is := func(set []byte, typ byte) bool { return len(set) > 0 && set[0]>>1&0x3f == typ }
	if err := checkSet("H.265", "video", c.VPS, 4, is(c.VPS, hevcVPS)); err != nil {
		return s, err
	}
	if err := checkSet("H.265", "sequence", c.SPS, 15, is(c.SPS, hevcSPS)); err != nil {
		return s, err
	}
	if len(c.MorePPS) > maxPPS {
		return s, fmt.Errorf("%w: %d H.265 picture parameter sets", ErrUnsupported, 1+len(c.MorePPS))
	}
	for _, p := range append([][]byte{c.PPS}, c.MorePPS...) {
		if err := checkSet("H.265", "picture", p, 3, is(p, hevcPPS)); err != nil {
			return s, err
		}
	}
	profile, ok := readHEVCProfile(c.SPS)
	if !ok {
		return s, fmt.Errorf("%w: the H.265 sequence parameter set ends before its profile does", ErrUnsupported)
	}
	p, err := hevc.ParseSPSNALUnit(c.SPS)
	if err != nil {
		return s, fmt.Errorf("%w: H.265 sequence parameter set: %w", ErrUnsupported, err)
	}
	w, h := p.ImageSize()
	s = stream{entry: "hvc1", config: "hvcC", codec: profile.codecString(), width: int(min(w, 1<<20)), height: int(min(h, 1<<20))}
	s.record = hvcC(c, profile, sampleFormat{p.ChromaFormatIDC, p.BitDepthLumaMinus8, p.BitDepthChromaMinus8})
	if v := p.VUI; v != nil {
		if v.TimingInfoPresentFlag && v.NumUnitsInTick > 0 {
			s.fps = float64(v.TimeScale) / float64(v.NumUnitsInTick)
		}
		if v.ColourDescriptionFlag {
			s.colour = colour{true, v.ColourPrimaries, v.TransferCharacteristics, v.MatrixCoefficients, v.VideoFullRangeFlag}
		}
	}
	return s, nil
}

func av1Stream(c *VideoConfig) (s stream, err error) {
	if len(c.SequenceHeader) == 0 {
		return s, fmt.Errorf("%w: the AV1 sequence header is missing", ErrUnsupported)
	}
	if len(c.SequenceHeader) > math.MaxUint16 {
		return s, fmt.Errorf("%w: the AV1 sequence header is over 65535 bytes", ErrUnsupported)
	}
	u, err := readOBU(c.SequenceHeader)
	if err != nil {
		return s, fmt.Errorf("%w: AV1 sequence header: %w", ErrUnsupported, err)
	}
	if u.typ != obuSequenceHeader || !u.hasSize || u.head+u.size != len(c.SequenceHeader) {
		return s, fmt.Errorf("%w: not a single AV1 sequence header OBU with its size", ErrUnsupported)
	}
	p, err := av1.ParseSequenceHeader(c.SequenceHeader[u.head:])
	if err != nil {
		return s, fmt.Errorf("%w: AV1 sequence header: %w", ErrUnsupported, err)
	}
	s = stream{entry: "av01", config: "av1C", codec: p.CodecString("av01"), width: int(min(p.Width(), 1<<20)), height: int(min(p.Height(), 1<<20))}
	record := av1.CodecConfRecFromSequenceHeader(p, nil)
	w := &boxWriter{}
	w.u8(0x81, record.SeqProfile<<5|record.SeqLevelIdx0,
		record.SeqTier0<<7|record.HighBitdepth<<6|record.TwelveBit<<5|record.MonoChrome<<4|
			record.ChromaSubsamplingX<<3|record.ChromaSubsamplingY<<2|record.ChromaSamplePosition, 0)
	w.bytes(c.SequenceHeader)
	s.record = w.b
	if p.TimingInfoPresent && p.EqualPictureInterval && p.NumUnitsInDisplayTick > 0 {
		s.fps = float64(p.TimeScale) / float64(p.NumUnitsInDisplayTick) / float64(p.NumTicksPerPictureMinus1+1)
	}
	const unspecified = 2
	if p.ColorPrimaries != unspecified || p.TransferCharacteristics != unspecified || p.MatrixCoefficients != unspecified {
		s.colour = colour{true, p.ColorPrimaries, p.TransferCharacteristics, p.MatrixCoefficients, p.ColorRange}
	}
	return s, nil
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
