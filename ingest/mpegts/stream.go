package mpegts

import (
	"encoding/binary"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/substructs"

	"github.com/spillway-live/spillway/ingest/cut"
)

// Kind says what a stream holds.
type Kind string

// Kinds of streams.
const (
	Video Kind = "video"
	Audio Kind = "audio"
	Other Kind = "other" // subtitles, cues, metadata
)

// Stream is an elementary stream of the program.
type Stream struct {
	PID  uint16
	Kind Kind
	// Name is the coding's usual name, for messages.
	Name string
	// Codec is empty where the coding is not taken.
	Codec cut.Codec
	// OpusChannels is 0 where they are not told.
	OpusChannels int
}

// types are those of ISO/IEC 13818-1 table 2-34, and of ATSC A/53 from 0x80 on.
var types = map[byte]Stream{
	0x01: {Kind: Video, Name: "MPEG-1 video"},
	0x02: {Kind: Video, Name: "MPEG-2 video"},
	0x03: {Kind: Audio, Name: "MPEG-1 audio (MP2 or MP3)"},
	0x04: {Kind: Audio, Name: "MPEG-2 audio"},
	0x0f: {Kind: Audio, Name: "AAC", Codec: cut.AAC},
	0x10: {Kind: Video, Name: "MPEG-4 part 2 video"},
	0x11: {Kind: Audio, Name: "AAC in LATM"},
	0x1b: {Kind: Video, Name: "H.264", Codec: cut.H264},
	0x21: {Kind: Video, Name: "JPEG 2000"},
	0x24: {Kind: Video, Name: "H.265", Codec: cut.H265},
	0x33: {Kind: Video, Name: "H.266"},
	0x42: {Kind: Video, Name: "AVS video"},
	0x81: {Kind: Audio, Name: "AC-3"},
	0x82: {Kind: Audio, Name: "DTS"},
	0x87: {Kind: Audio, Name: "E-AC-3"},
	0xd1: {Kind: Video, Name: "Dirac"},
	0xea: {Kind: Video, Name: "VC-1"},
}

// Descriptors (ISO/IEC 13818-1 2.6; ETSI EN 300 468).
const (
	privateData      = 0x06
	tagRegistration  = 0x05
	tagAC3, tagEAC3  = 0x6a, 0x7a
	tagDTS           = 0x7b
	tagExtension     = 0x7f
	opusExtension    = 0x80
	registrationOpus = "Opus"
)

// newStream reads an entry of the PMT.
func newStream(pid uint16, typ byte, descriptors []byte) *Stream {
	s, ok := types[typ]
	s.PID = pid
	if ok {
		return &s
	}
	s.Kind, s.Name = Other, fmt.Sprintf("stream type 0x%02x", typ)
	if typ != privateData {
		return &s
	}
	for d := descriptors; len(d) >= 2 && int(d[1]) <= len(d)-2; d = d[2+int(d[1]):] {
		s.describe(d[0], d[2:2+int(d[1])])
	}
	if s.Codec == cut.Opus && s.OpusChannels == 0 {
		s.OpusChannels = 2
	}
	return &s
}

// describe reads a descriptor of private data.
func (s *Stream) describe(tag byte, body []byte) {
	switch tag {
	case tagRegistration:
		if len(body) < 4 {
			return
		}
		switch id := string(body[:4]); id {
		case registrationOpus:
			s.Kind, s.Name, s.Codec = Audio, "Opus", cut.Opus
		case "AC-3", "EAC3":
			s.Kind, s.Name = Audio, id
		case "HEVC":
			s.Kind, s.Name, s.Codec = Video, "H.265", cut.H265
		case "AV01":
			s.Kind, s.Name = Video, "AV1"
		case "VP09":
			s.Kind, s.Name = Video, "VP9"
		case "BSSD":
			s.Kind, s.Name = Audio, "SMPTE 302M"
		}
	case tagAC3:
		s.Kind, s.Name = Audio, "AC-3"
	case tagEAC3:
		s.Kind, s.Name = Audio, "E-AC-3"
	case tagDTS:
		s.Kind, s.Name = Audio, "DTS"
	case tagExtension:
		if len(body) > 1 && body[0] == opusExtension {
			var o substructs.OpusAudioDescriptor
			if o.Unmarshal(body[1:]) == nil {
				s.OpusChannels = o.ChannelCount()
			}
		}
	}
}

// OpusPackets takes the packets out of a unit's data (ETSI TS 103 491 table 6-6),
// as far as they can be read.
func OpusPackets(b []byte) (packets [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 2 || binary.BigEndian.Uint16(b)>>5 != 0x3ff {
			return packets, fmt.Errorf("opus control header is missing, %d bytes before the end", len(b))
		}
		var au substructs.OpusAccessUnit
		n, err := au.Unmarshal(b)
		if err != nil {
			return packets, fmt.Errorf("opus access unit: %w", err)
		}
		if n <= 0 || n > len(b) {
			return packets, fmt.Errorf("opus access unit of %d bytes where %d are left", n, len(b))
		}
		packets, b = append(packets, au.Packet), b[n:]
	}
	return packets, nil
}
