package hls

import (
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// DVRName is the file name of a track's playlist that reaches back.
const DVRName = "dvr.m3u8"

// DVR is a media playlist of whole segments that reaches back as far as viewers
// may seek: a sliding window without parts, with delta updates, so that a reload
// of an hour's playlist has a few hundred bytes.
type DVR struct {
	// Segments have consecutive MSNs; at least one is required.
	Segments []DVRSegment
}

// DVRSegment is one complete segment; fields as in [Segment].
type DVRSegment struct {
	Epoch            uint32
	MSN              uint64
	InitID           string
	KID              string
	DiscontinuitySeq uint32
	Discontinuity    bool
	WallUnixUs       int64
	DurationUs       int64
	// Gap: it is known to be missing and cannot be fetched.
	Gap bool
}

// Skippable is the number of segments a delta update leaves out.
func (d *DVR) Skippable() int {
	var after int64
	for i := len(d.Segments) - 1; i >= 0; i-- {
		if after >= SkipBoundaryUs {
			return i + 1
		}
		after += d.Segments[i].DurationUs
	}
	return 0
}

// Append writes the whole playlist.
func (d *DVR) Append(b []byte) []byte { return d.append(b, 0) }

// AppendDelta writes a delta update, or the whole playlist when there is nothing to skip.
func (d *DVR) AppendDelta(b []byte) []byte { return d.append(b, d.Skippable()) }

func (d *DVR) append(b []byte, skip int) []byte {
	first := &d.Segments[0]
	b = append(b, "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:"...)
	b = strconv.AppendInt(b, schemas.TargetDurationSec, 10)
	b = append(b, "\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK="...)
	b = appendSeconds(b, HoldBackUs)
	b = append(b, ",CAN-SKIP-UNTIL="...)
	b = appendSeconds(b, SkipBoundaryUs)
	b = append(b, "\n#EXT-X-MEDIA-SEQUENCE:"...)
	b = strconv.AppendUint(b, first.MSN, 10)
	// The number counts the tags that have left; one that still stands first has not.
	dseq := first.DiscontinuitySeq
	if first.Discontinuity && dseq > 0 {
		dseq--
	}
	b = append(b, "\n#EXT-X-DISCONTINUITY-SEQUENCE:"...)
	b = strconv.AppendUint(b, uint64(dseq), 10)
	b = append(b, '\n')
	if skip > 0 {
		b = append(b, "#EXT-X-SKIP:SKIPPED-SEGMENTS="...)
		b = strconv.AppendInt(b, int64(skip), 10)
		b = append(b, '\n')
	}
	initID, keys := "", keyState{}
	if skip > 0 && skip < len(d.Segments) {
		keys = skipped(d.Segments[skip-1].KID, d.Segments[skip].KID)
	}
	for i := skip; i < len(d.Segments); i++ {
		s := &d.Segments[i]
		if s.Discontinuity {
			b = append(b, "#EXT-X-DISCONTINUITY\n"...)
		}
		b = keys.append(b, s.KID)
		if s.InitID != initID || s.Discontinuity {
			initID = s.InitID
			b = append(b, "#EXT-X-MAP:URI=\"init-"...)
			b = append(b, s.InitID...)
			b = append(b, ".mp4\"\n"...)
		}
		b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
		b = time.UnixMicro(s.WallUnixUs).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, '\n')
		if s.Gap {
			b = append(b, "#EXT-X-GAP\n"...)
		}
		b = append(b, "#EXTINF:"...)
		b = appendSeconds(b, s.DurationUs)
		b = append(b, ",\n"...)
		b = appendBase(b, s.Epoch, s.MSN)
		b = append(b, ".m4s\n"...)
	}
	return b
}
