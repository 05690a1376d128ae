package hls

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
	b = appendHead(b, lowLatencyVersion, "")
	b = append(b, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK="...)
	b = appendSeconds(b, HoldBackUs)
	b = append(b, ",CAN-SKIP-UNTIL="...)
	b = appendSeconds(b, SkipBoundaryUs)
	b = append(b, '\n')
	b = appendSequence(b, first.MSN, first.DiscontinuitySeq, first.Discontinuity)
	b = appendSkip(b, skip)
	var st segmentState
	if skip > 0 && skip < len(d.Segments) {
		st.keys = skipped(d.Segments[skip-1].KID, d.Segments[skip].KID)
	}
	for i := skip; i < len(d.Segments); i++ {
		s := &d.Segments[i]
		b = st.append(b, s.Discontinuity, s.KID, s.InitID)
		b = appendDate(b, s.WallUnixUs)
		b = appendFile(b, s.Gap, s.DurationUs, s.Epoch, s.MSN)
	}
	return b
}
