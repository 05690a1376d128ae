package origin

import (
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// partID places a part in its track.
type partID struct {
	epoch uint32
	msn   uint64
	part  int
}

// after orders the parts of one track.
func (a partID) after(b partID) bool {
	switch {
	case a.epoch != b.epoch:
		return a.epoch > b.epoch
	case a.msn != b.msn:
		return a.msn > b.msn
	default:
		return a.part > b.part
	}
}

// piece is a part with its bytes.
type piece struct {
	id   partID
	h    schemas.Part
	data []byte
	gap  bool
}

// segment is a media segment in memory.
type segment struct {
	hls.Segment
	cut int64 // microseconds, sum of the parts
	// settled: its date has been checked against a later part.
	settled bool
	data    []byte
	raw     [][]byte
	sum     checksum
	sums    []*checksum   // of the parts
	line    *schemas.Line // where its run stands in time; nil: not known

	chunks   []uint64 // sequences on MEDIA of what its parts are cut from
	released bool     // its bytes are no longer in memory; chunks says where they are
	readers  int      // who sends it while it is made
}

// Ingest takes its estimate of the wall-clock as it comes during an epoch's first
// second, and changes it slowly from then on.
const (
	clockSettledUs = 1_100_000
	clockSlackUs   = 100_000 // reordered frames make the date of a later part uncertain by this
)

// opens reports whether it is the first segment of its epoch.
func (s *segment) opens() bool {
	return s.line != nil && s.line.ID == 0 && s.line.FirstMSN == s.MSN
}

// settle gives an epoch's first segment the date that follows from a part after
// ingest's first second. With that of its first part it would be off by the third of
// a second that a publisher's first frames are late, by another amount for each
// track, and players, which place the tracks by their dates, would look for audio
// where it is not.
func (s *segment) settle(p *piece) {
	if s.cut < clockSettledUs || s.settled || p.gap || !s.opens() {
		return
	}
	s.settled = true
	us := p.h.WallUnixUs - s.cut
	if d := us - s.WallUnixUs; d > clockSlackUs || d < -clockSlackUs {
		s.WallUnixUs = us
	}
}

// size is the sum of the parts' bytes.
func (s *segment) size() int { return bytesOf(s.raw) }

func bytesOf(parts [][]byte) int {
	n := 0
	for _, b := range parts {
		n += len(b)
	}
	return n
}

// whole gives a complete segment's bytes. They are put together when they are
// first asked for, which low-latency players seldom do, and kept once: the parts
// alias them from then on, which lets go of the bus's messages. A segment that has
// left memory has none.
func (s *segment) whole() []byte {
	if s.data == nil && !s.released {
		s.data = make([]byte, 0, s.size())
		raw := make([][]byte, len(s.raw)) // the old one may be in use by a reader of the parts
		for i, b := range s.raw {
			at := len(s.data)
			s.data = append(s.data, b...)
			raw[i] = s.data[at:len(s.data):len(s.data)]
		}
		s.raw = raw
	}
	return s.data
}

func hasGap(s *segment) bool {
	for i := range s.Parts {
		if s.Parts[i].Gap {
			return true
		}
	}
	return false
}
