package origin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// open learns what is known of the stream and starts both consumers where the
// window starts.
func (f *feed) open(ctx context.Context) (parts, media jetstream.ConsumeContext, err error) {
	octx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state, err := f.o.state(octx, f.key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil, err
	}
	lastPart, errP := lastOf(octx, f.o.parts, schemas.PartsFilter(f.key))
	lastChunk, errM := lastOf(octx, f.o.media, schemas.MediaFilter(f.key))
	if err := errors.Join(errP, errM); err != nil {
		return nil, nil, err
	}
	if lastPart == nil && lastChunk == nil && !alive(state, time.Now()) {
		return nil, nil, errUnknown
	}
	f.readTargets(octx, state)
	from := time.Now()
	history := &history{known: make(chan struct{})}
	if lastPart != nil {
		from, history.parts = lastPart.Time, lastPart.Sequence
	}
	if lastChunk != nil {
		history.media = lastChunk.Sequence
		if lastPart == nil {
			from = lastChunk.Time
		}
	}
	from = from.Add(-f.o.history)
	if lastChunk != nil && lastChunk.Time.Before(from) {
		history.media = 0
	}
	history.f = f
	cfg := func(filter string, headersOnly bool) jetstream.OrderedConsumerConfig {
		return jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
			HeadersOnly: headersOnly, InactiveThreshold: 30 * time.Second,
		}
	}
	history.check() // nothing to read at all
	// What MEDIA holds is known before the first part is taken, so that what is
	// shown depends on the bus and not on which consumer is faster.
	media, err = consume(octx, f.o.media, cfg(schemas.MediaFilter(f.key), true), 256, func(m jetstream.Msg) {
		f.chunk(m)
		history.saw(m, &history.media)
	}, f.o.Logger)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-history.known:
	case <-time.After(time.Second): // it has aged out meanwhile
	case <-octx.Done():
	}
	parts, err = consume(octx, f.o.parts, cfg(schemas.PartsFilter(f.key), false), 128, func(m jetstream.Msg) {
		f.part(m)
		history.saw(m, &history.parts)
	}, f.o.Logger)
	if err != nil {
		media.Stop()
		return nil, nil, err
	}
	return parts, media, nil
}

func consume(ctx context.Context, s jetstream.Stream, cfg jetstream.OrderedConsumerConfig, n int, f func(jetstream.Msg), log interface {
	Debug(string, ...any)
}) (jetstream.ConsumeContext, error) {
	c, err := s.OrderedConsumer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.FilterSubjects[0], err)
	}
	cc, err := c.Consume(f, jetstream.PullMaxMessages(n), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			// The ordered consumer makes itself again and goes on where it was.
			log.Debug("read stream", "subject", cfg.FilterSubjects[0], "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.FilterSubjects[0], err)
	}
	return cc, nil
}

// lastOf gives the last message of a filter, without its data; nil if there is none.
func lastOf(ctx context.Context, s jetstream.Stream, filter string) (*jetstream.RawStreamMsg, error) {
	m, err := s.GetLastMsgForSubject(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the last message of %s: %w", filter, err)
	}
	return m, nil
}

// history tells when both consumers have read what was there at the start.
type history struct {
	f            *feed
	mu           sync.Mutex
	parts, media uint64        // last sequences to read; 0 when read
	known        chan struct{} // closed when MEDIA has been read
	told, done   bool
}

func (h *history) saw(m jetstream.Msg, until *uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return
	}
	if md, err := m.Metadata(); err == nil && (md.Sequence.Stream >= *until || md.NumPending == 0) {
		*until = 0
	}
	h.end()
}

func (h *history) check() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end()
}

func (h *history) end() {
	if h.media == 0 && !h.told {
		h.told = true
		close(h.known)
	}
	if h.done || h.parts != 0 || h.media != 0 {
		return
	}
	h.done = true
	h.f.mu.Lock()
	h.f.live = true
	h.f.mu.Unlock()
}
