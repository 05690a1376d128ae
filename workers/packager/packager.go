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
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/cenc"
)

// Role is the packager's role, durable consumer and dead-letter name.
const Role = "packager"

// Sealer gives what encrypts a chunk's fragments; see keys.Sealer.
type Sealer interface {
	Track(c *schemas.Chunk, fragment int) (*cenc.Track, error)
}

// New gives the handler. It has no state of its own. Chunks that are to be
// encrypted fail where s is nil or has no key: they are never sent clear.
func New(s Sealer) workers.Handler {
	return workers.Each(func(_ context.Context, m workers.Message) ([]workers.Output, error) { return handle(s, m) })
}

func handle(s Sealer, m workers.Message) ([]workers.Output, error) {
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
	out, err := Package(c, m.Data, s)
	if errors.Is(err, errNoKey) && s != nil {
		return nil, nil // the sealer says why; MEDIA holds the chunk, and origins package it once there is a key
	}
	if errors.Is(err, errNoKey) {
		return nil, err
	}
	if err != nil {
		return nil, workers.Reject(err)
	}
	return out, nil
}

var errNoKey = errors.New("the chunk is to be encrypted")

// Package gives one message for each fragment of a decoded chunk, in
// order. The outputs' data are slices of payload where it is not encrypted. s may
// be nil for chunks without Encryption.
func Package(c *schemas.Chunk, payload []byte, s Sealer) ([]workers.Output, error) {
	out := make([]workers.Output, len(c.Fragments))
	for i := range c.Fragments {
		p, data, err := sealed(c, payload, i, s)
		if err != nil {
			return nil, fmt.Errorf("chunk %s, fragment %d: %w", c.ContentID(), i, err)
		}
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

func sealed(c *schemas.Chunk, payload []byte, i int, s Sealer) (schemas.Part, []byte, error) {
	if c.Encryption == nil {
		p, data := Part(c, payload, i)
		return p, data, nil
	}
	if s == nil {
		return schemas.Part{}, nil, fmt.Errorf("%w and there are no keys here", errNoKey)
	}
	t, err := s.Track(c, i)
	if err != nil {
		return schemas.Part{}, nil, fmt.Errorf("%w: %w", errNoKey, err)
	}
	return Sealed(c, payload, i, t)
}

// Sealed gives fragment i of a chunk whose Encryption is set as an encrypted
// part, without checksum, and its bytes. It is as pure as [Part]: of chunk and
// track, which is made of init segment and key.
func Sealed(c *schemas.Chunk, payload []byte, i int, t *cenc.Track) (schemas.Part, []byte, error) {
	p, data := Part(c, payload, i)
	secret, err := t.Fragment(data)
	if err != nil {
		return p, nil, err
	}
	p.InitID, p.KID = t.InitID, t.KID.String()
	return p, secret, nil
}

// Part gives fragment i of a decoded chunk as a clear part, without checksum,
// and its bytes, a slice of payload. Chunks whose Encryption is set go to [Sealed].
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
