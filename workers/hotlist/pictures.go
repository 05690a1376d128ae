package hotlist

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// pictures holds what is said of each stream's last picture. The zero value is usable.
type pictures struct {
	mu   sync.Mutex
	last map[schemas.StreamKey]*schemas.Picture
}

// maxPictures bounds what is remembered: streams come and go under new names.
const maxPictures = 100_000

func (p *pictures) get(k schemas.StreamKey) *schemas.Picture {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[k]
}

func (p *pictures) put(pic *schemas.Picture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || len(p.last) >= maxPictures {
		p.last = map[schemas.StreamKey]*schemas.Picture{}
	}
	if old := p.last[pic.Key()]; old == nil || pic.WallUnixUs > old.WallUnixUs {
		p.last[pic.Key()] = pic
	}
}

// follow reads the headers of PICTURES until ctx ends, beginning with each stream's last.
func (p *pictures) follow(ctx context.Context, js jetstream.JetStream, logger *slog.Logger) {
	for told := false; ctx.Err() == nil; {
		err := p.read(ctx, js)
		if ctx.Err() != nil {
			return
		}
		if !told {
			logger.Warn("pictures cannot be followed: trying again", "err", err)
		}
		told = true
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (p *pictures) read(ctx context.Context, js jetstream.JetStream) error {
	cons, err := js.OrderedConsumer(ctx, schemas.StreamPictures, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"pictures.>"}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, HeadersOnly: true,
	})
	if err != nil {
		return err
	}
	it, err := cons.Messages(jetstream.PullHeartbeat(2 * time.Second))
	if err != nil {
		return err
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	for {
		m, err := it.Next()
		if err != nil {
			return err
		}
		if pic, err := schemas.ParsePicture(m.Subject(), m.Headers().Get(schemas.HeaderPicture)); err == nil {
			p.put(pic)
		}
	}
}
