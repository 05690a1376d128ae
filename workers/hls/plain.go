package hls

import (
	"strconv"
	"time"

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
	b = append(b, "#EXTM3U\n#EXT-X-VERSION:"...)
	if p.IFrames {
		b = append(b, "6\n#EXT-X-I-FRAMES-ONLY\n"...)
	} else {
		b = append(b, "3\n"...)
	}
	b = append(b, "#EXT-X-TARGETDURATION:"...)
	b = strconv.AppendInt(b, schemas.TargetDurationSec, 10)
	b = append(b, "\n#EXT-X-MEDIA-SEQUENCE:"...)
	b = strconv.AppendUint(b, first.MSN, 10)
	dseq := first.DiscontinuitySeq
	if first.Discontinuity && dseq > 0 {
		dseq--
	}
	b = append(b, "\n#EXT-X-DISCONTINUITY-SEQUENCE:"...)
	b = strconv.AppendUint(b, uint64(dseq), 10)
	b = append(b, '\n')
	initID := ""
	for i := range p.Segments {
		s := &p.Segments[i]
		if s.Discontinuity {
			b = append(b, "#EXT-X-DISCONTINUITY\n"...)
		}
		if p.IFrames && (s.InitID != initID || s.Discontinuity) {
			initID = s.InitID
			b = append(b, "#EXT-X-MAP:URI=\""...)
			b = append(b, InitName(s.InitID)...)
			b = append(b, "\"\n"...)
		}
		b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
		b = time.UnixMicro(s.WallUnixUs).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		// A segment that cannot be had keeps its number.
		if s.gap() || p.IFrames && (len(s.Parts) == 0 || !s.Parts[0].Independent) {
			b = append(b, "\n#EXT-X-GAP"...)
		}
		b = append(b, "\n#EXTINF:"...)
		b = appendSeconds(b, s.DurationUs())
		b = append(b, ",\n"...)
		if p.IFrames {
			b = append(b, IFrameFileName(s.Epoch, s.MSN)...)
		} else {
			b = append(b, TSFileName(s.Epoch, s.MSN)...)
		}
		b = append(b, '\n')
	}
	return b
}
