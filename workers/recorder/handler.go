package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/packager"
)

// handle records what the messages close. They come without their payloads: most
// close nothing, and what does is read once, with its segment.
func (r *Recorder) handle(ctx context.Context, batch []workers.Message) ([]workers.Output, error) {
	for i := range batch {
		m := &batch[i]
		key, rendition, err := schemas.ParseMediaSubject(m.Subject)
		if err != nil || r.settings(key).DVRSec == 0 {
			continue
		}
		for _, t := range closes(m) {
			if err := r.record(ctx, m, archive.Track{Class: archive.ClassDVR, Key: key, Rendition: rendition, Track: t}); err != nil {
				return nil, err
			}
		}
		r.m.position.Set(float64(m.StoredAt.UnixMilli()) / 1000)
	}
	return nil, nil
}

// closes gives the tracks of which a message closes a segment.
func closes(m *workers.Message) []schemas.Track {
	switch m.Header.Get(schemas.HeaderKind) {
	case schemas.KindEpoch, schemas.KindEnd:
		return []schemas.Track{schemas.Video, schemas.Audio}
	case schemas.KindChunk:
	default:
		return nil
	}
	// The checksum covers the payload, which is not here: it is verified when the
	// chunk is read with its segment.
	var c schemas.Chunk
	if json.Unmarshal([]byte(m.Header.Get(schemas.HeaderChunk)), &c) != nil || len(c.Fragments) > schemas.MaxFragments {
		return nil
	}
	var out []schemas.Track
	for i := range c.Fragments {
		if f := &c.Fragments[i]; f.SegmentStart && f.Track.Check() == nil && (len(out) == 0 || out[0] != f.Track) {
			out = append(out, f.Track)
		}
	}
	return out
}

// lookBack says how far before the message that closes a segment its beginning
// is looked for. A publisher may send slower than real time.
var lookBack = []time.Duration{10 * time.Second, time.Hour}

// record writes the segment of a track that m closes, if it closes one.
func (r *Recorder) record(ctx context.Context, m *workers.Message, t archive.Track) error {
	a := &assembler{track: t.Track, seal: r.seal(ctx)}
	begins, known := r.begins.get(t)
	if known && begins < m.Seq {
		if err := r.assemble(ctx, m, a, getRequest{Seq: begins}); err != nil {
			return err
		}
	}
	for _, back := range lookBack {
		if a.closed != nil && (a.closed.whole || a.by != m.Seq) {
			break
		}
		from := m.StoredAt.Add(-back)
		*a = assembler{track: t.Track, seal: a.seal}
		if err := r.assemble(ctx, m, a, getRequest{StartTime: &from}); err != nil {
			return err
		}
		if a.closed == nil && a.open != nil {
			break // the first segment begins here
		}
	}
	if a.open != nil {
		r.begins.put(t, a.startAt)
	}
	switch {
	case a.closed == nil || a.by != m.Seq:
		return nil // nothing came before, or an earlier message has closed it
	case !a.closed.whole:
		r.m.lost.Inc()
		r.Logger.Warn("segment not recorded: a part of it is no longer on the bus, or damaged", "track", t.Prefix(), "epoch", a.closed.Epoch, "msn", a.closed.MSN)
		return nil
	}
	if err := a.closed.Check(); err != nil {
		return workers.Reject(fmt.Errorf("segment %d-%d of %s cannot be named: %w", a.closed.Epoch, a.closed.MSN, t.Prefix(), err))
	}
	return r.write(ctx, t, a.closed)
}

func (r *Recorder) assemble(ctx context.Context, m *workers.Message, a *assembler, from getRequest) error {
	err := read(ctx, r.JetStream.Conn(), m.Subject, from, m.Seq, a.take)
	if a.err != nil {
		return a.err // tried again later: the bus keeps what is to be recorded
	}
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// keyPatience is how long a segment waits for its key before the recorder goes
// back and tries again later.
const keyPatience = time.Second

// seal packages what is to be encrypted as packagers and origins do.
func (r *Recorder) seal(ctx context.Context) func(*schemas.Chunk, []byte, int) (schemas.Part, []byte, error) {
	return func(c *schemas.Chunk, data []byte, i int) (schemas.Part, []byte, error) {
		ctx, cancel := context.WithTimeout(ctx, keyPatience)
		defer cancel()
		t, err := r.sealer.Wait(ctx, c, i)
		if err != nil {
			return schemas.Part{}, nil, fmt.Errorf("segment not recorded yet: %w", err)
		}
		return packager.Sealed(c, data, i, t)
	}
}

// write puts the segment, after its init segment: whoever sees a segment can play it.
func (r *Recorder) write(ctx context.Context, t archive.Track, p *piece) error {
	initKey := t.Init(&p.Segment)
	if !r.written.has(initKey) {
		b, err := r.initSegment(ctx, p.InitID)
		if err != nil {
			return err
		}
		if err := r.put(ctx, initKey, b); err != nil {
			return err
		}
		r.written.put(initKey)
	}
	if err := r.put(ctx, t.Object(&p.Segment), p.data); err != nil {
		return err
	}
	r.m.recorded.Inc()
	r.m.bytes.Add(float64(p.Bytes))
	return nil
}

func (r *Recorder) initSegment(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kv, err := r.JetStream.KeyValue(ctx, schemas.BucketInits)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", schemas.BucketInits, err)
	}
	e, err := kv.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, workers.Reject(fmt.Errorf("init segment %s is not in bucket %s", id, schemas.BucketInits))
	}
	if err != nil {
		return nil, fmt.Errorf("read init segment %s: %w", id, err)
	}
	if schemas.InitID(e.Value()) != id {
		return nil, workers.Reject(fmt.Errorf("init segment %s is damaged", id))
	}
	return e.Value(), nil
}

// put tries until the store takes the object, or the recorder stops. It says
// once that the store is away, and once that it is back.
func (r *Recorder) put(ctx context.Context, key string, data []byte) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		pctx, cancel := context.WithTimeout(ctx, r.PutTimeout)
		err := r.Store.Put(pctx, key, data)
		cancel()
		if err == nil {
			if r.away.Swap(false) {
				r.m.away.Set(0)
				r.Logger.Info("the object store takes objects again")
			}
			return nil
		}
		r.m.failed.Inc()
		if !r.away.Swap(true) {
			r.m.away.Set(1)
			r.Logger.Error("the object store does not take objects: live goes on, seeking back stops here; trying again for as long as the bus keeps media", "err", err)
		}
		select {
		case <-r.stopping:
			return fmt.Errorf("recorder stops: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("recorder stops: %w", err)
		case <-time.After(delay):
		}
	}
}
