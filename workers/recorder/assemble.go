package recorder

import (
	"encoding/json"
	"errors"
	"hash/crc32"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/cenc"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/packager"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// assembler reads the messages of one subject in order and puts together the
// segments of one track, by the rules that origins follow.
type assembler struct {
	track schemas.Track
	epoch uint32 // the highest one opened

	open    *piece // the segment that the last part went to
	closed  *piece // the last one that something has closed
	by      uint64 // sequence of the message that closed it
	startAt uint64 // sequence of the message in which open begins

	// seal packages a fragment that is to be encrypted; err is why one could not be.
	seal func(c *schemas.Chunk, data []byte, i int) (schemas.Part, []byte, error)
	err  error
}

// piece is a segment or what is there of it.
type piece struct {
	archive.Segment
	data  []byte
	next  uint32 // index of the part that must follow
	whole bool   // from its first part on without a hole
}

// take reads one message.
func (a *assembler) take(m stored) {
	switch m.kind {
	case schemas.KindEpoch, schemas.KindEnd:
		var e struct {
			Epoch uint32 `json:"epoch"`
		}
		if json.Unmarshal(m.data, &e) != nil || e.Epoch < a.epoch {
			return
		}
		a.epoch = e.Epoch
		a.close(m.seq)
	case schemas.KindChunk:
		c, err := schemas.DecodeChunk([]byte(m.head), m.data)
		if err != nil {
			// Origins list such a chunk's parts as lost, too: the segment has a hole.
			if a.open != nil {
				a.open.whole = false
			}
			return
		}
		if c.Epoch < a.epoch {
			return // a publisher that lost the stream and does not know it
		}
		a.epoch = c.Epoch
		for i := range c.Fragments {
			if c.Fragments[i].Track != a.track {
				continue
			}
			if c.Encryption == nil {
				part, data := packager.Part(c, m.data, i)
				a.part(&part, data, m.seq)
				continue
			}
			if a.err != nil {
				return
			}
			part, data, err := a.seal(c, m.data, i)
			switch {
			case err == nil:
				a.part(&part, data, m.seq)
			case errors.Is(err, cenc.ErrUnsupported) || errors.Is(err, cmaf.ErrDamaged):
				if a.open != nil {
					a.open.whole = false // origins list the part as a gap, too
				}
			default:
				a.err = err
			}
		}
	}
}

func (a *assembler) part(p *schemas.Part, data []byte, seq uint64) {
	if a.open == nil || p.SegmentStart || p.Epoch != a.open.Epoch || p.MSN != a.open.MSN {
		a.close(seq)
		a.open, a.startAt = &piece{whole: p.SegmentStart, Segment: archive.Segment{
			Epoch: p.Epoch, MSN: p.MSN, ReceivedUnixUs: p.ReceivedUnixUs, WallUnixUs: p.WallUnixUs,
			DiscontinuitySeq: p.DiscontinuitySeq, Discontinuity: p.Discontinuity, InitID: p.InitID, KID: p.KID,
		}}, seq
	}
	o := a.open
	if p.Part != o.next || p.InitID != o.InitID {
		o.whole = false
	}
	o.next = p.Part + 1
	o.DurationUs += p.DurationUs
	o.data = append(o.data, data...)
}

func (a *assembler) close(by uint64) {
	if a.open == nil {
		return
	}
	a.closed, a.open, a.by = a.open, nil, by
	a.closed.Bytes, a.closed.CRC = int64(len(a.closed.data)), crc32.Checksum(a.closed.data, castagnoli)
}
