package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// numbering is where the next epoch of a rendition starts.
type numbering struct {
	epoch     uint32
	dseq      uint32
	continues bool // an earlier epoch had content
	nextMSN   map[schemas.Track]uint64
	targetUs  map[schemas.Track]int64
	lastSeq   uint64 // of the subject, for the fence
}

// firstMSN is the number of a track's next segment. A track that is new takes
// part in the others' count, so that numbers of tracks stay near each other.
func (n *numbering) firstMSN(t schemas.Track) uint64 {
	if v, ok := n.nextMSN[t]; ok {
		return v
	}
	most := uint64(firstMSN)
	for _, v := range n.nextMSN {
		most = max(most, v)
	}
	return most
}

// firstMSN is the number of a stream's very first segment. It is not 0: hls.js 1.7
// takes that number for "none" (fragment-tracker.ts, appendedPartSn), forgets after each
// part what it has loaded of that segment, and asks for the same parts dozens of times.
const firstMSN = 1

// tail is how far back MEDIA is read for the numbering of both tracks, whose
// segments are at most a few seconds apart.
const tail = 20 * time.Second

// restAfter is how long a stream must have been silent before its part target may
// be another: routers begin no session on it, and origins have ended its playlists,
// in which it may not change (RFC 8216bis 6.2.1).
const restAfter = 2 * time.Minute

// load reads the numbering from the last messages on the subject and, for what is
// beyond retention, from the position bucket.
func (b *busHandles) load(ctx context.Context, k schemas.StreamKey) (*numbering, error) {
	n := &numbering{nextMSN: map[schemas.Track]uint64{}, targetUs: map[schemas.Track]int64{}}
	var pos schemas.Position
	e, err := b.positions.Get(ctx, positionKey(k))
	switch {
	case err == nil:
		if err := json.Unmarshal(e.Value(), &pos); err != nil {
			return nil, fmt.Errorf("decode position of %s: %w", k, err)
		}
		maps.Copy(n.nextMSN, pos.NextMSN)
		maps.Copy(n.targetUs, pos.PartTargetUs)
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, fmt.Errorf("read position of %s: %w", k, err)
	}
	epoch, dseq, content := pos.Epoch, pos.DiscontinuitySeq, pos.HadContent

	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	last, err := b.media.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		last = nil
	} else if err != nil {
		return nil, fmt.Errorf("read the last message on %s: %w", subject, err)
	}
	if last == nil || time.Since(last.Time) > restAfter {
		clear(n.targetUs) // nobody holds a playlist of it any more
	}
	if last != nil {
		n.lastSeq = last.Sequence
		ended := schemas.KindEnd == last.Header.Get(schemas.HeaderKind) && endOf(last.Data) == pos.Epoch && pos.Epoch > 0
		if !ended {
			s, err := b.scan(ctx, subject, last)
			if err != nil {
				return nil, err
			}
			if s.epoch > epoch {
				epoch, dseq, content = s.epoch, s.dseq, false
			}
			if s.epoch == epoch {
				content = content || s.content
			}
			for t, v := range s.next {
				n.nextMSN[t] = max(n.nextMSN[t], v)
			}
			if time.Since(last.Time) <= restAfter {
				for t, v := range s.targets {
					if _, ok := n.targetUs[t]; !ok {
						n.targetUs[t] = v
					}
				}
			}
		}
	}
	n.epoch, n.dseq, n.continues = epoch+1, dseq, dseq > 0 || content
	if content {
		n.dseq++
	}
	return n, nil
}

// endMark is the body of an end message.
type endMark struct {
	Epoch  uint32 `json:"epoch"`
	Reason string `json:"reason"`
	// Seized: the next publisher wrote it, not the one whose epoch ends, so the
	// position bucket may be behind.
	Seized bool `json:"seized,omitempty"`
}

// endOf gives the epoch whose publisher said its end after saving its position; 0 otherwise.
func endOf(data []byte) uint32 {
	var end endMark
	if json.Unmarshal(data, &end) != nil || end.Seized {
		return 0
	}
	return end.Epoch
}

// seize ends the epoch of whoever publishes the stream in another process. Behind
// the end message the fence refuses that publisher's next chunk, so that the
// numbering read next stays true until the new epoch is open; without it, a chunk
// in between would refuse the newer publisher.
func (b *busHandles) seize(ctx context.Context, k schemas.StreamKey) error {
	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	for {
		last, err := b.media.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the last message on %s: %w", subject, err)
		}
		end := endMark{Reason: ErrTakenOver.Error(), Seized: true}
		switch last.Header.Get(schemas.HeaderKind) {
		case schemas.KindEpoch:
			var e schemas.EpochOpen
			if json.Unmarshal(last.Data, &e) == nil {
				end.Epoch = e.Epoch
			}
		case schemas.KindChunk:
			if c, err := schemas.DecodeChunk([]byte(last.Header.Get(schemas.HeaderChunk)), last.Data); err == nil {
				end.Epoch = c.Epoch
			}
		}
		if end.Epoch == 0 {
			return nil // it has ended, or is nothing that a publisher of ours wrote
		}
		data, err := json.Marshal(&end)
		if err != nil {
			return err
		}
		m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{schemas.HeaderKind: {schemas.KindEnd}}}
		_, err = b.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(last.Sequence))
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			continue // the other was faster; ctx ends this
		}
		if err != nil {
			return fmt.Errorf("end the epoch before on %s: %w", subject, err)
		}
		return nil
	}
}

type scanned struct {
	epoch, dseq uint32
	content     bool
	next        map[schemas.Track]uint64
	targets     map[schemas.Track]int64
}

// scan reads the messages of the last seconds before last; the last publisher died without an end.
func (b *busHandles) scan(ctx context.Context, subject string, last *jetstream.RawStreamMsg) (*scanned, error) {
	s := &scanned{next: map[schemas.Track]uint64{}, targets: map[schemas.Track]int64{}}
	from := last.Time.Add(-tail)
	c, err := b.js.OrderedConsumer(ctx, schemas.StreamMedia, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
	if err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", subject, err)
	}
	it, err := c.Messages()
	if err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", subject, err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read the end of %s: %w", subject, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read the end of %s: %w", subject, err)
		}
		s.take(m)
		if meta.Sequence.Stream >= last.Sequence || meta.NumPending == 0 {
			return s, nil
		}
	}
}

func (s *scanned) take(m jetstream.Msg) {
	switch m.Headers().Get(schemas.HeaderKind) {
	case schemas.KindEpoch:
		var e schemas.EpochOpen
		if json.Unmarshal(m.Data(), &e) != nil || e.Epoch <= s.epoch {
			return
		}
		s.epoch, s.dseq, s.content = e.Epoch, e.DiscontinuitySeq, false
		for _, t := range e.Tracks {
			s.next[t.Track] = max(s.next[t.Track], t.FirstMSN)
			s.targets[t.Track] = t.PartTargetUs
		}
	case schemas.KindChunk:
		c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
		if err != nil || c.Epoch < s.epoch {
			return
		}
		if c.Epoch > s.epoch {
			s.epoch, s.dseq = c.Epoch, c.DiscontinuitySeq
		}
		s.content = true
		for i := range c.Fragments {
			f := &c.Fragments[i]
			s.next[f.Track] = max(s.next[f.Track], f.MSN+1)
		}
	}
}

func positionKey(k schemas.StreamKey) string { return k.KVKey() + "." + schemas.SourceRendition }

// busHandles are the streams and buckets that ingest uses.
type busHandles struct {
	js        jetstream.JetStream
	media     jetstream.Stream
	inits     jetstream.KeyValue
	streams   jetstream.KeyValue
	positions jetstream.KeyValue
}

func openBus(ctx context.Context, js jetstream.JetStream) (*busHandles, error) {
	b := &busHandles{js: js}
	var err error
	if b.media, err = js.Stream(ctx, schemas.StreamMedia); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamMedia, err)
	}
	for name, kv := range map[string]*jetstream.KeyValue{
		schemas.BucketInits: &b.inits, schemas.BucketStreams: &b.streams, schemas.BucketPositions: &b.positions,
	} {
		if *kv, err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", strings.ToLower(name), err)
		}
	}
	return b, nil
}
