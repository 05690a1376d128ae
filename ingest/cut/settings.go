package cut

import (
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
)

// MaxFrameBytes is the largest frame that fits a chunk, MaxPartBytes where a part
// is closed early so that parts of both tracks fit one.
const (
	MaxFrameBytes = schemas.MaxPayloadBytes - 64<<10
	MaxPartBytes  = MaxFrameBytes / 2
)

// Settings of a Cutter. Names are checked when chunks are encoded.
type Settings struct {
	App, Stream, Rendition, CDN string
	Epoch                       uint32
	DiscontinuitySeq            uint32
	// Discontinuity: the epoch continues an earlier one that had content.
	Discontinuity bool
	// Video and Audio are the tracks; one may be nil. Info.FirstMSN and
	// Info.PartTargetUs are obeyed.
	Video, Audio *Track
	// GrainUs is the resolution of the timestamps, microseconds; default 1000 (RTMP).
	// It widens what counts as on time.
	GrainUs int64
	// PartUs is the part target T, microseconds; default 200,000.
	PartUs int64
	// MaxWaitUs is how long a finished part waits for the other track's; default 100,000.
	MaxWaitUs int64
	// Emit takes each chunk and its payload, in order. The payload is Emit's to keep.
	Emit func(*schemas.Chunk, []byte)
	// Buffer gives an empty slice with room for n bytes; default make.
	Buffer func(n int) []byte
}

// Frame is one access unit.
type Frame struct {
	// DTSUs is the decode time on the publisher's media clock, microseconds, extended by
	// [Unwrap]; CTSUs the presentation time minus it.
	DTSUs, CTSUs int64
	// Key: decoding can start here (video).
	Key bool
	// Data is the sample as it goes into mdat: see [AccessUnit]; one raw AAC frame or one Opus packet.
	Data []byte
	// ArrivedUs is when its last byte arrived, Unix microseconds.
	ArrivedUs int64
	// CaptureUs is when the picture was taken on the publisher's wall-clock, Unix
	// microseconds; 0: not known. Capture says how good that is.
	CaptureUs int64
	Capture   Capture
}

// Capture says how good a capture time is.
type Capture struct {
	// Source is where it comes from; empty: [schemas.ClockCapture].
	Source schemas.ClockSource
	// Synchronised: the publisher's clock is ours (it asked /v1/clock), at most
	// BoundUs off; it is taken as it is.
	Synchronised bool
	BoundUs      int64
	// DelayUs is the time from the capture to the sending of the frame, on the same clock; 0: not known.
	DelayUs int64
}

// JumpError says that timestamps went where no repair is honest; open a new epoch.
type JumpError struct {
	Track schemas.Track
	ByMs  int64
}

func (e *JumpError) Error() string {
	return fmt.Sprintf("%s timestamps jumped by %d ms", e.Track, e.ByMs)
}

// ErrTooLarge is wrapped when a frame cannot fit a chunk.
var ErrTooLarge = errors.New("frame is too large")

// Counters tell what a cutter had to do.
type Counters struct {
	Repaired uint64 // frames whose timestamps were repaired
	Dropped  uint64 // frames that could not be used: before the first key frame, or overlapping
	// Clock counts capture times that were not believed: implausible, off their line, or drifting.
	Clock uint64
}
