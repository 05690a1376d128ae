package hls

import (
	"github.com/spillway-live/spillway/schemas"
)

// Plain is a playlist without low latency: of MPEG-TS segments (version 3), or
// of key frames alone (version 6, RFC 8216bis 4.4.3.6).
type Plain struct {
	// Segments are complete and have consecutive MSNs; at least one is required.
	// Only durations, names, times and discontinuities of them are used.
	Segments []Segment
	// IFrames: it lists the key frames that segments begin with.
	IFrames bool
}

// TSFileName is the name of an MPEG-TS segment, IFrameFileName that of a segment's key frame.
func TSFileName(epoch uint32, msn uint64) string { return schemas.SegmentBase(epoch, msn) + ".ts" }

// IFrameFileName is the name of a segment's key frame as a fragment of its own.
func IFrameFileName(epoch uint32, msn uint64) string {
	return schemas.SegmentBase(epoch, msn) + ".key.m4s"
}

// Append writes the playlist.
func (p *Plain) Append(b []byte) []byte {
	first := &p.Segments[0]
	if p.IFrames {
		b = appendHead(b, 6, "#EXT-X-I-FRAMES-ONLY\n")
	} else {
		b = appendHead(b, 3, "")
	}
	b = appendSequence(b, first.MSN, first.DiscontinuitySeq, first.Discontinuity)
	var st segmentState
	for i := range p.Segments {
		s := &p.Segments[i]
		initID := "" // transport streams have none
		if p.IFrames {
			initID = s.InitID
		}
		b = st.append(b, s.Discontinuity, "", initID)
		b = appendDate(b, s.WallUnixUs)
		b = appendDuration(b, s.gap() || p.IFrames && (len(s.Parts) == 0 || !s.Parts[0].Independent), s.DurationUs())
		if p.IFrames {
			b = append(b, IFrameFileName(s.Epoch, s.MSN)...)
		} else {
			b = append(b, TSFileName(s.Epoch, s.MSN)...)
		}
		b = append(b, '\n')
	}
	return b
}
