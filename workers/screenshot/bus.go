package screenshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
)

// bus is the Source that reads JetStream.
type bus struct {
	media, pictures jetstream.Stream
	inits           jetstream.KeyValue

	mu    sync.Mutex
	cache map[string][]byte
}

func openBus(ctx context.Context, js jetstream.JetStream) (*bus, error) {
	b := &bus{cache: map[string][]byte{}}
	var err error
	if b.media, err = js.Stream(ctx, schemas.StreamMedia); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamMedia, err)
	}
	if b.pictures, err = js.Stream(ctx, schemas.StreamPictures); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamPictures, err)
	}
	if b.inits, err = schemas.OpenBucket(ctx, js, schemas.BucketInits); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bus) Chunk(ctx context.Context, seq uint64) (workers.Message, error) {
	m, err := b.media.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return workers.Message{}, ErrGone
	}
	if err != nil {
		return workers.Message{}, err
	}
	return workers.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: m.Sequence, StoredAt: m.Time}, nil
}

// maxInits bounds the cache of init segments, about a kilobyte each.
const maxInits = 1024

func (b *bus) Init(ctx context.Context, id string) ([]byte, error) {
	b.mu.Lock()
	init, ok := b.cache[id]
	b.mu.Unlock()
	if ok {
		return init, nil
	}
	e, err := b.inits.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	if schemas.InitID(e.Value()) != id {
		return nil, fmt.Errorf("init segment %s is damaged", id)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.cache) >= maxInits {
		clear(b.cache)
	}
	b.cache[id] = e.Value()
	return e.Value(), nil
}

func (b *bus) Last(ctx context.Context, key schemas.StreamKey) (*schemas.Picture, error) {
	m, err := b.pictures.GetLastMsgForSubject(ctx, schemas.PictureSubject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := schemas.ParsePicture(m.Subject, m.Header.Get(schemas.HeaderPicture))
	if err != nil {
		return nil, nil // another program's; the next one follows ours
	}
	return p, nil
}
