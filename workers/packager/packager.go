// Package packager turns chunks into LL-HLS parts. It is a pure function: the
// same chunk gives the same parts with the same ids on every packager, so
// packagers are interchangeable, and an origin that misses a part makes it
// itself ([Package]).
//
// A part is a byte range of the chunk's payload: nothing is decoded, remuxed or
// copied. What is corrupt is rejected and never reaches a player. Segments and
// playlists are the origin's.
package packager

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
)

// Role is the packager's role, durable consumer and dead-letter name.
const Role = "packager"

// New gives the handler. It has no state.
func New() workers.Handler { return workers.Each(handle) }

func handle(_ context.Context, m workers.Message) ([]workers.Output, error) {
	switch kind := m.Header.Get(schemas.HeaderKind); kind {
	case schemas.KindChunk:
	case schemas.KindEpoch, schemas.KindEnd:
		return nil, nil // what they say is in the parts too
	default:
		return nil, workers.Reject(fmt.Errorf("%s is %.40q: chunk, epoch and end are known", schemas.HeaderKind, kind))
	}
	c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
	if err != nil {
		return nil, workers.Reject(err)
	}
	if want := schemas.MediaSubject(c.Key(), c.Rendition); want != m.Subject {
		return nil, workers.Reject(fmt.Errorf("chunk %s came on subject %s: its subject is %s", c.ContentID(), m.Subject, want))
	}
	out, err := Package(c, m.Data)
	if err != nil {
		return nil, workers.Reject(err)
	}
	return out, nil
}

// Package gives one message for each fragment of a decoded chunk, in
// order. The outputs' data are slices of payload.
func Package(c *schemas.Chunk, payload []byte) ([]workers.Output, error) {
	out := make([]workers.Output, len(c.Fragments))
	for i := range c.Fragments {
		p, data := Part(c, payload, i)
		header, err := p.EncodeHeader(data)
		if err != nil {
			return nil, fmt.Errorf("chunk %s, fragment %d: %w", c.ContentID(), i, err)
		}
		out[i] = workers.Output{
			Subject: p.Subject(),
			Header:  nats.Header{schemas.HeaderPart: []string{string(header)}},
			Data:    data,
			MsgID:   p.MsgID(), Unstored: true,
		}
	}
	return out, nil
}

// Part gives fragment i of a decoded chunk as a part, without checksum, and its
// bytes, a slice of payload.
func Part(c *schemas.Chunk, payload []byte, i int) (schemas.Part, []byte) {
	f := &c.Fragments[i]
	return schemas.Part{
		App: c.App, Stream: c.Stream, Rendition: c.Rendition, Track: f.Track,
		Epoch: c.Epoch, MSN: f.MSN, Part: f.Part, DiscontinuitySeq: c.DiscontinuitySeq,
		CDN: c.CDN, InitID: f.InitID, DurationUs: f.DurationUs(), WallUnixUs: f.WallUnixUs,
		ReceivedUnixUs: c.ReceivedUnixUs, DoneUnixUs: f.DoneUnixUs, Independent: f.Independent,
		SegmentStart: f.SegmentStart, SegmentEnd: f.SegmentEnd, Discontinuity: f.Discontinuity,
		Line: f.Line, ContentID: c.ContentID(),
	}, payload[f.Offset : f.Offset+f.Size : f.Offset+f.Size]
}
