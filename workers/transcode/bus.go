package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// busHandles are the streams and buckets that transcoders use.
type busHandles struct {
	js         jetstream.JetStream
	media      jetstream.Stream
	inits      jetstream.KeyValue
	streams    jetstream.KeyValue
	renditions jetstream.KeyValue
	leases     jetstream.KeyValue
	held       atomic.Int64 // Unix ns when the bus last refused a message
}

func openBus(ctx context.Context, js jetstream.JetStream) (*busHandles, error) {
	b := &busHandles{js: js}
	var err error
	if b.media, err = js.Stream(ctx, schemas.StreamMedia); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamMedia, err)
	}
	for name, kv := range map[string]*jetstream.KeyValue{
		schemas.BucketInits: &b.inits, schemas.BucketStreams: &b.streams,
		schemas.BucketRenditions: &b.renditions, schemas.BucketLedger: &b.leases,
	} {
		if *kv, err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", name, err)
		}
	}
	return b, nil
}

// errIdle: nobody publishes the stream, or there is nothing to make of it.
var errIdle = errors.New("nothing to encode")

// source gives the state of a stream that is published now, and its video track.
func (b *busHandles) source(ctx context.Context, k schemas.StreamKey) (*schemas.StreamState, *schemas.TrackInfo, error) {
	e, err := b.streams.Get(ctx, k.KVKey())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil, errIdle
	} else if err != nil {
		return nil, nil, fmt.Errorf("read the state of %s: %w", k, err)
	}
	var s schemas.StreamState
	if err := json.Unmarshal(e.Value(), &s); err != nil {
		return nil, nil, fmt.Errorf("read the state of %s: %w", k, err)
	}
	if !s.Live || time.Since(time.UnixMicro(s.UpdatedUnixUs)) > 15*time.Second {
		return &s, nil, errIdle
	}
	if s.Region != "" { // renditions are made where the stream is published, and come with it
		return &s, nil, errIdle
	}
	for i := range s.Epoch.Tracks {
		if t := &s.Epoch.Tracks[i]; t.Track == schemas.Video {
			return &s, t, nil
		}
	}
	return &s, nil, errIdle
}

// init gives an init segment.
func (b *busHandles) init(ctx context.Context, id string) ([]byte, error) {
	e, err := b.inits.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read init segment %s: %w", id, err)
	}
	if schemas.InitID(e.Value()) != id {
		return nil, fmt.Errorf("init segment %s is damaged", id)
	}
	return e.Value(), nil
}

// event tells what happened; it is not worth holding anything up for.
func (b *busHandles) event(ctx context.Context, e *schemas.Event) {
	data, err := schemas.EncodeRecord(e)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = b.js.Publish(ctx, schemas.EventSubject(e), data, jetstream.WithMsgID("e/"+e.ID)) // the log has it too
}

// item is a source chunk, or the end of its epoch.
type item struct {
	plan  *planned
	ended string // why the epoch ended
	err   error  // reading cannot go on
}

// reader reads a stream's source rendition from the bus: first what it holds of
// the last seconds, then what comes.
type reader struct {
	items chan item
	// newest is when the last chunk was read, Unix ns.
	newest atomic.Int64
	// past is closed when what was on the bus at the start has been read.
	past chan struct{}
}

// historyUs is how far back a start looks for key frames and for what a worker
// that died has not made: two of the longest segments and the time it takes to
// notice its death.
const history = 12 * time.Second

// maxUnread bounds the chunks that wait for the encoder, about 200 ms each.
const maxUnread = 256

// errEpoch: the source has another epoch now.
var errEpoch = errors.New("the source's epoch has changed")

// errDamaged: the source's messages cannot be read.
var errDamaged = errors.New("a source chunk cannot be read")

// read follows the source of an epoch until ctx ends.
func (b *busHandles) read(ctx context.Context, k schemas.StreamKey, epoch uint32, initID string) (*reader, error) {
	r := &reader{items: make(chan item, maxUnread), past: make(chan struct{})}
	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	from := time.Now().Add(-history)
	octx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := b.media.OrderedConsumer(octx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	info, err := c.Info(octx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	told := false
	past := func() {
		if !told {
			told = true
			close(r.past)
		}
	}
	if info.NumPending == 0 {
		past()
	}
	give := func(it item) {
		select {
		case r.items <- it:
		case <-ctx.Done():
		}
	}
	cc, err := c.Consume(func(m jetstream.Msg) {
		if it, ok := r.take(k, m, epoch, initID); ok {
			give(it)
		}
		if md, err := m.Metadata(); err == nil && md.NumPending == 0 {
			past()
		}
	}, jetstream.PullMaxMessages(64), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second),
		// The ordered consumer makes itself again and goes on where it was.
		jetstream.ConsumeErrHandler(func(jetstream.ConsumeContext, error) {}))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	context.AfterFunc(ctx, cc.Stop)
	return r, nil
}

func (r *reader) take(k schemas.StreamKey, m jetstream.Msg, epoch uint32, initID string) (item, bool) {
	now := time.Now()
	switch m.Headers().Get(schemas.HeaderKind) {
	case schemas.KindChunk:
	case schemas.KindEpoch:
		var e schemas.EpochOpen
		if json.Unmarshal(m.Data(), &e) == nil && e.Epoch > epoch {
			return item{err: errEpoch}, true
		}
		return item{}, false
	case schemas.KindEnd:
		var e endMark
		if json.Unmarshal(m.Data(), &e) == nil && e.Epoch >= epoch {
			return item{ended: "source: " + e.Reason}, true
		}
		return item{}, false
	default:
		return item{}, false
	}
	c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
	if err == nil && (c.Key() != k || c.Rendition != schemas.SourceRendition) {
		err = fmt.Errorf("it is for %s/%s", c.Key(), c.Rendition)
	}
	if err != nil {
		return item{err: fmt.Errorf("%w: %w", errDamaged, err)}, true
	}
	switch {
	case c.Epoch < epoch:
		return item{}, false
	case c.Epoch > epoch:
		return item{err: errEpoch}, true
	}
	p, err := plan(c, m.Data(), now)
	switch {
	case err != nil:
		return item{err: fmt.Errorf("%w: %w", errDamaged, err)}, true
	case p == nil:
		return item{}, false
	}
	for i := range p.parts {
		if p.parts[i].frag.InitID != initID {
			return item{err: errEpoch}, true
		}
	}
	r.newest.Store(now.UnixNano())
	return item{plan: p}, true
}
