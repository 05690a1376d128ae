package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

const (
	// remoteHeartbeat of an idle consumer in another region; two missed ones end its reading.
	remoteHeartbeat = time.Second
	// remoteTimeout bounds a request to another region.
	remoteTimeout = 2 * time.Second
	// remoteIdle is how long a consumer outlives its reader there.
	remoteIdle = 5 * time.Second
	// again is the pause before a consumer is opened again.
	again = 250 * time.Millisecond
)

// remote is one consumer in another region's JetStream.
type remote struct {
	js      jetstream.JetStream // of the region's domain
	stream  string
	name    string
	it      jetstream.MessagesContext
	next    uint64 // expected sequence of the consumer
	pending uint64 // at the start
}

// errGap: messages of the consumer were lost on the way.
var errGap = errors.New("messages were lost on the link")

// openRemote makes a consumer in the stream of another region; cfg says what it reads and from where.
func openRemote(ctx context.Context, js jetstream.JetStream, self, stream string, cfg jetstream.ConsumerConfig) (*remote, error) {
	cfg.Name = schemas.RegionConsumer(self) + rand.Text()
	cfg.AckPolicy, cfg.MemoryStorage, cfg.Replicas, cfg.InactiveThreshold = jetstream.AckNonePolicy, true, 1, remoteIdle
	octx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	c, err := js.CreateConsumer(octx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("open a consumer in %s: %w", stream, err)
	}
	r := &remote{js: js, stream: stream, name: cfg.Name, next: 1, pending: c.CachedInfo().NumPending}
	if r.it, err = c.Messages(jetstream.PullMaxMessages(128), jetstream.PullHeartbeat(remoteHeartbeat)); err != nil {
		r.close()
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	return r, nil
}

// read gives the next message. Any error ends the reader.
func (r *remote) read(ctx context.Context) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	m, err := r.it.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	md, err := m.Metadata()
	if err != nil {
		return nil, nil, err
	}
	if md.Sequence.Consumer != r.next {
		return nil, nil, fmt.Errorf("%w: %d instead of %d of %s", errGap, md.Sequence.Consumer, r.next, r.stream)
	}
	r.next++
	return m, md, nil
}

// close ends the consumer, in the background: its region may be out of reach, and forgets it by itself then.
func (r *remote) close() {
	if r.it != nil {
		r.it.Stop()
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), remoteTimeout)
		defer cancel()
		_ = r.js.DeleteConsumer(ctx, r.stream, r.name)
	}()
}

// followBucket gives the entries of another region's bucket, first all there
// are, then each change, until ctx ends. begin is called whenever it begins anew,
// complete once all there are have been given. An error of either begins anew.
func followBucket(ctx context.Context, js jetstream.JetStream, self, bucket string, begin func(), complete func() error, entry func(key string, value []byte, put bool) error) {
	for ctx.Err() == nil {
		_ = followOnce(ctx, js, self, bucket, begin, complete, entry)
		_ = nap.For(ctx, again)
	}
}

func followOnce(ctx context.Context, js jetstream.JetStream, self, bucket string, begin func(), complete func() error, entry func(key string, value []byte, put bool) error) error {
	prefix := "$KV." + bucket + "."
	r, err := openRemote(ctx, js, self, "KV_"+bucket, jetstream.ConsumerConfig{
		FilterSubject: prefix + ">", DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return err
	}
	defer r.close()
	begin()
	told := r.pending == 0
	if told {
		if err := complete(); err != nil {
			return err
		}
	}
	for {
		m, md, err := r.read(ctx)
		if err != nil {
			return err
		}
		h := m.Headers()
		put := h.Get("KV-Operation") == "" && h.Get("Nats-Marker-Reason") == ""
		if len(m.Subject()) > len(prefix) {
			if err := entry(m.Subject()[len(prefix):], m.Data(), put); err != nil {
				return err
			}
		}
		if !told && md.NumPending == 0 {
			told = true
			if err := complete(); err != nil {
				return err
			}
		}
	}
}
