package cut

import (
	"encoding/binary"

	"github.com/Eyevinn/mp4ff/av1"
	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"

	"github.com/spillway-live/spillway/schemas"
)

// Mark is the time of capture that an access unit carries in its bitstream.
type Mark struct {
	// UnixUs is on the publisher's clock, Unix microseconds; with TimeOfDay,
	// microseconds since midnight of an unknown day and zone.
	UnixUs    int64
	TimeOfDay bool
	Capture   Capture
	rank      int // 0: none
}

// Known tells whether there is a mark.
func (m *Mark) Known() bool { return m.rank > 0 }

// Apply gives the mark to the frame that carried it, whose ArrivedUs is set.
func (m *Mark) Apply(f *Frame) {
	if !m.Known() {
		return
	}
	f.CaptureUs, f.Capture = m.UnixUs, m.Capture
	if m.TimeOfDay { // on the day that brings it nearest to arrival
		day := floorDiv(f.ArrivedUs-m.UnixUs+dayUs/2, dayUs)
		f.CaptureUs += day * dayUs
	}
}

const (
	rankTimecode = iota + 1
	rankForeign
	rankOurs
)

func (m *Mark) better(o Mark) {
	if o.rank > m.rank {
		*m = o
	}
}

// ClockUUID identifies Spillway's clock message: user data unregistered SEI of H.264
// and H.265 (payload type 5), or private metadata of AV1 (metadata_type 31).
// Behind it: version (1), flags (bit 0: synchronised with /v1/clock, bit 1: the
// delay is known), capture time in Unix microseconds (64 bits), bound of the
// synchronisation in microseconds (32 bits), microseconds from capture to sending
// (32 bits); big-endian.
var ClockUUID = [16]byte{0x7e, 0x1f, 0x3c, 0x52, 0x9b, 0x0a, 0x4d, 0x6e, 0x8c, 0x41, 0x5a, 0x3d, 0x2f, 0x9e, 0x6b, 0x17}

const (
	clockVersion   = 1
	clockSynced    = 1
	clockDelay     = 2
	clockBodyBytes = 18
	av1Private     = 31 // metadata_type; 6 to 31 are for private use (AV1 6.7.1)
	av1Timecode    = 5
)

// ClockMessage gives the NAL unit (without length or start code) or OBU with which
// a publisher tells the time of capture of the access unit it stands in, before the picture.
func ClockMessage(codec Codec, captureUs int64, c Capture) []byte {
	body := append(make([]byte, 0, 64), ClockUUID[:]...)
	flags := byte(0)
	if c.Synchronised {
		flags |= clockSynced
	}
	if c.DelayUs > 0 {
		flags |= clockDelay
	}
	body = append(body, clockVersion, flags)
	body = binary.BigEndian.AppendUint64(body, uint64(captureUs))
	body = binary.BigEndian.AppendUint32(body, uint32(min(max(0, c.BoundUs), 1<<32-1)))
	body = binary.BigEndian.AppendUint32(body, uint32(min(max(0, c.DelayUs), 1<<32-1)))
	if codec == AV1 {
		payload := append([]byte{av1Private}, body...)
		payload = append(payload, 0x80) // trailing bits
		out := appendLEB128([]byte{obuMetadata<<3 | 2}, uint64(len(payload)))
		return append(out, payload...)
	}
	rbsp := append([]byte{seiUnregistered, byte(len(body))}, body...)
	rbsp = append(rbsp, 0x80)
	head := []byte{avcSEI}
	if codec == H265 {
		head = []byte{hevcSEI << 1, 1}
	}
	return escape(head, rbsp)
}

// escape appends an RBSP with emulation prevention bytes (ITU-T H.264, 7.4.1).
func escape(dst, rbsp []byte) []byte {
	zeros := 0
	for _, v := range rbsp {
		if zeros >= 2 && v <= 3 {
			dst, zeros = append(dst, 3), 0
		}
		if v == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, v)
	}
	return dst
}

// MarkReader parses access units together with those time marks that need to be
// told the stream's configuration or remember earlier ones: time codes. The zero
// value reads all others.
type MarkReader struct {
	// Of the configuration: units of a second, units in a frame's (or field's) tick.
	timeScale, tick uint64
	hasDelays       bool // pic_timing begins with two delays of these widths, bits
	removal, output int
	picStruct       bool
	offsetBits      int

	hours, minutes, seconds uint64 // of the last time code, which later ones may leave out
}

// Configure tells the stream's configuration, whenever it changes.
func (r *MarkReader) Configure(c *VideoConfig) {
	*r = MarkReader{offsetBits: 24}
	switch c.Codec {
	case H264:
		r.configureAVC(c.SPS)
	case H265:
		if p, err := hevc.ParseSPSNALUnit(c.SPS); err == nil && p.VUI != nil && p.VUI.TimingInfoPresentFlag {
			r.timeScale, r.tick = uint64(p.VUI.TimeScale), uint64(p.VUI.NumUnitsInTick)
		}
	case AV1:
		if len(c.SequenceHeader) == 0 {
			break
		}
		if u, err := readOBU(c.SequenceHeader); err == nil && u.typ == obuSequenceHeader {
			if p, err := av1.ParseSequenceHeader(c.SequenceHeader[u.head:]); err == nil && p.TimingInfoPresent {
				r.timeScale, r.tick = uint64(p.TimeScale), uint64(p.NumUnitsInDisplayTick)*(min(p.NumTicksPerPictureMinus1, 1<<20)+1)
			}
		}
	}
	if (r.timeScale == 0 || r.tick == 0) && c.FPS > 0 {
		r.timeScale, r.tick = uint64(c.FPS*1000), 1000
	}
}

func (r *MarkReader) configureAVC(sps []byte) {
	var p h264.SPS
	if p.Unmarshal(sps) != nil || p.VUI == nil {
		return
	}
	v := p.VUI
	r.picStruct = v.PicStructPresentFlag
	if v.TimingInfo != nil {
		r.timeScale, r.tick = uint64(v.TimingInfo.TimeScale), uint64(v.TimingInfo.NumUnitsInTick)
	}
	hrd := v.NalHRD
	if hrd == nil {
		hrd = v.VclHRD
	}
	if hrd != nil {
		r.hasDelays = true
		r.removal, r.output = int(hrd.CpbRemovalDelayLengthMinus1)+1, int(hrd.DpbOutputDelayLengthMinus1)+1
		r.offsetBits = int(hrd.TimeOffsetLength)
	}
}

// ParseVideo is [ParseVideo] with all time marks.
func (r *MarkReader) ParseVideo(codec Codec, data []byte, lengthSize int) (AccessUnit, error) {
	return parseVideo(codec, data, lengthSize, r)
}

// timeOfDay makes a mark of a time code's fields; frames and offset count units of timeScale.
func (r *MarkReader) timeOfDay(frames, perFrame uint64, offset int64) Mark {
	if r.timeScale == 0 || r.tick == 0 || r.hours > 23 || r.minutes > 59 || r.seconds > 59 {
		return Mark{}
	}
	us := int64((r.hours*60+r.minutes)*60+r.seconds) * 1_000_000
	us += int64(frames * r.tick * perFrame % (r.timeScale * 600) * 1_000_000 / r.timeScale)
	us += offset * 1_000_000 / int64(r.timeScale)
	frame := int64(r.tick * perFrame * 1_000_000 / r.timeScale)
	return Mark{UnixUs: us, TimeOfDay: true, rank: rankTimecode, Capture: Capture{Source: schemas.ClockTimecode, BoundUs: frame}}
}
