package hls

import (
	"strconv"

	"github.com/spillway-live/spillway/schemas"
)

// Rules that follow from the fixed target duration, in microseconds.
const (
	targetUs = schemas.TargetDurationSec * 1_000_000
	// HoldBackUs is HOLD-BACK: where players without low latency start.
	HoldBackUs = 3 * targetUs
	// SkipBoundaryUs is CAN-SKIP-UNTIL, 6 target durations, the least allowed.
	SkipBoundaryUs = 6 * targetUs
	// PartWindowUs: parts of segments that end further than this from the
	// playlist's end are not listed any more.
	PartWindowUs = 3 * targetUs
	// minPartHoldBackUs: with 200 ms parts, hls.js 1.7 stalled at a PART-HOLD-BACK
	// of 0.5 s and played 1.43 s behind live without a stall at 1.0 s (measured).
	minPartHoldBackUs = 1_000_000
)

// Media is a live media playlist of one track.
type Media struct {
	// PartTargetUs is PART-TARGET, microseconds. It never changes within a stream's life.
	PartTargetUs int64
	// PartHoldBackUs is PART-HOLD-BACK; default the larger of 1 s and 3 x PartTargetUs.
	PartHoldBackUs int64
	// Segments have consecutive MSNs; only the last may be incomplete, and then
	// it has at least one part. At least one is required.
	//
	// A last segment that is complete is listed like one that is not, by its parts
	// alone: its EXTINF and URI come together with the first part of the next
	// segment. hls.js 1.7 takes a complete segment for loaded when no more than
	// 0.2 s of it are missing, so one that learned of the last part and of the end
	// at once could pass over that part, and stalled for ten seconds
	// (docs/decisions/0016-a-segment-ends-with-the-next-part.md).
	Segments []Segment
	// Ended: no segment is about to follow, because the publisher left. A complete
	// last segment is then listed as such.
	Ended bool
	// Reports tell of the stream's other playlists.
	Reports []Report
}

// Segment is one media segment, or the parts so far of the last one.
type Segment struct {
	Epoch  uint32
	MSN    uint64
	InitID string
	// KID names the key the samples are encrypted with, 32 hexadecimal digits; empty: they are clear.
	KID string
	// DiscontinuitySeq is the segment's discontinuity sequence number;
	// Discontinuity that EXT-X-DISCONTINUITY stands before it.
	DiscontinuitySeq uint32
	Discontinuity    bool
	// WallUnixUs is EXT-X-PROGRAM-DATE-TIME, Unix microseconds.
	WallUnixUs int64
	Parts      []Part
	// Complete: no part follows.
	Complete bool
}

// Part is one partial segment; its index is its place in Segment.Parts.
type Part struct {
	DurationUs  int64
	Independent bool
	// Gap: the part is known to be lost and cannot be fetched.
	Gap bool
}

// DurationUs is the sum of the parts' durations.
func (s *Segment) DurationUs() int64 {
	var d int64
	for i := range s.Parts {
		d += s.Parts[i].DurationUs
	}
	return d
}

func (s *Segment) gap() bool {
	for i := range s.Parts {
		if s.Parts[i].Gap {
			return true
		}
	}
	return false
}

// Report is EXT-X-RENDITION-REPORT: where another playlist of the stream stands.
type Report struct {
	// URI is relative to the reporting playlist.
	URI      string
	LastMSN  uint64
	LastPart int
}

// ReportURI gives the address of one track's playlist relative to that of another.
func ReportURI(fromRendition, rendition string, t schemas.Track) string {
	if fromRendition == rendition {
		return "../" + string(t) + "/" + PlaylistName
	}
	return "../../" + rendition + "/" + string(t) + "/" + PlaylistName
}

// InitName is an init segment's name in URLs.
func InitName(id string) string { return "init-" + id + ".mp4" }

// Append writes the whole playlist.
func (m *Media) Append(dst []byte) []byte { return m.append(dst, 0) }

// AppendDelta writes a playlist delta update, or the whole playlist when there
// is nothing to skip.
func (m *Media) AppendDelta(dst []byte) []byte { return m.append(dst, m.Skippable()) }

// Skippable is the number of segments a delta update leaves out: those further
// from the end than the skip boundary.
func (m *Media) Skippable() int {
	var after int64
	for i := len(m.Segments) - 1; i >= 0; i-- {
		if after >= SkipBoundaryUs {
			return i + 1
		}
		after += m.Segments[i].DurationUs()
	}
	return 0
}

// Next is the part that is published next: what EXT-X-PRELOAD-HINT names.
func (m *Media) Next() (epoch uint32, msn uint64, part int) {
	s := &m.Segments[len(m.Segments)-1]
	if s.Complete {
		return s.Epoch, s.MSN + 1, 0
	}
	return s.Epoch, s.MSN, len(s.Parts)
}

func (m *Media) append(b []byte, skip int) []byte {
	hold := m.PartHoldBackUs
	if hold == 0 {
		hold = max(minPartHoldBackUs, 3*m.PartTargetUs)
	}
	first := &m.Segments[0]
	b = appendHead(b, lowLatencyVersion, "")
	b = append(b, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK="...)
	b = appendSeconds(b, hold)
	b = append(b, ",HOLD-BACK="...)
	b = appendSeconds(b, HoldBackUs)
	b = append(b, ",CAN-SKIP-UNTIL="...)
	b = appendSeconds(b, SkipBoundaryUs)
	b = append(b, "\n#EXT-X-PART-INF:PART-TARGET="...)
	b = appendSeconds(b, m.PartTargetUs)
	b = append(b, '\n')
	b = appendSequence(b, first.MSN, first.DiscontinuitySeq, first.Discontinuity)
	b = appendSkip(b, skip)
	b = m.appendSegments(b, skip)

	epoch, msn, part := m.Next()
	b = append(b, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""...)
	b = appendPartName(b, epoch, msn, part)
	b = append(b, "\"\n"...)
	for i := range m.Reports {
		r := &m.Reports[i]
		b = append(b, "#EXT-X-RENDITION-REPORT:URI=\""...)
		b = append(b, r.URI...)
		b = append(b, "\",LAST-MSN="...)
		b = strconv.AppendUint(b, r.LastMSN, 10)
		b = append(b, ",LAST-PART="...)
		b = strconv.AppendInt(b, int64(r.LastPart), 10)
		b = append(b, '\n')
	}
	return b
}

func (m *Media) appendSegments(b []byte, skip int) []byte {
	// Distance of each segment's end from the playlist's end.
	var after int64
	for i := range m.Segments {
		after += m.Segments[i].DurationUs()
	}
	var st segmentState
	if skip > 0 && skip < len(m.Segments) {
		st.keys = skipped(m.Segments[skip-1].KID, m.Segments[skip].KID)
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		after -= s.DurationUs()
		if i < skip {
			continue
		}
		// Tag order: what applies to the whole segment stands before its first part.
		b = st.append(b, s.Discontinuity, s.KID, s.InitID)
		b = appendDate(b, s.WallUnixUs)
		if after <= PartWindowUs || !s.Complete {
			b = appendParts(b, s)
		}
		if s.Complete && (m.Ended || i < len(m.Segments)-1) {
			b = appendFile(b, s.gap(), s.DurationUs(), s.Epoch, s.MSN)
		}
	}
	return b
}

func appendParts(b []byte, s *Segment) []byte {
	for j := range s.Parts {
		p := &s.Parts[j]
		b = append(b, "#EXT-X-PART:DURATION="...)
		b = appendSeconds(b, p.DurationUs)
		b = append(b, ",URI=\""...)
		b = appendPartName(b, s.Epoch, s.MSN, j)
		b = append(b, '"')
		if p.Independent {
			b = append(b, ",INDEPENDENT=YES"...)
		}
		if p.Gap {
			b = append(b, ",GAP=YES"...)
		}
		b = append(b, '\n')
	}
	return b
}
