package schemas

// Line places a run of segments on the wall-clock: what a DASH Period stands on
// (ISO/IEC 23009-1, 5.3.2). Players compute from it when a segment can be had,
// so it never changes within a run; ingest begins a new run, between segments,
// when the publisher's clock has drifted or its key frames come otherwise. It is
// in the first part of each segment, so any origin that has the segment has it.
type Line struct {
	// ID numbers the runs of an epoch, from 0; the same for all tracks.
	ID uint64 `json:"id"`
	// FirstMSN is the track's first segment of the run; it begins StartUs of media
	// time (tfdt) into the epoch, microseconds.
	FirstMSN uint64 `json:"msn"`
	StartUs  int64  `json:"start_us"`
	// ZeroUnixUs is the wall-clock of media time 0, Unix microseconds.
	ZeroUnixUs int64 `json:"zero_us"`
	// SegmentUs is the duration that each of the run's segments has, within
	// [LineSlackUs] in all; 0: they have none in common.
	SegmentUs int64 `json:"seg_us,omitempty"`
}

// How far a run may leave its line, microseconds: segments begin at most
// LineSlackUs before or after; the publisher's clock is at most LineLateUs
// behind and LineEarlyUs ahead of it.
const (
	LineSlackUs = 250_000
	LineLateUs  = 100_000
	LineEarlyUs = 400_000
)
