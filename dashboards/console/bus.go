package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// watchBus keeps streams, CDNs and picture references up to date until ctx
// ends. After every loss of the connection everything is read anew.
func (c *Console) watchBus(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.watchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		c.busHealth(err)
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *Console) busHealth(err error) {
	c.st.mu.Lock()
	changed := c.st.bus.set(err, time.Now())
	c.st.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		c.s.Logger.Warn("console has no news from the bus", "err", err)
	} else {
		c.s.Logger.Info("console hears the bus")
	}
}

// busAway is why nothing can be asked of the bus now; nil: it can.
func (c *Console) busAway() error {
	c.st.mu.Lock()
	defer c.st.mu.Unlock()
	if b := c.st.bus; !b.OK && b.SinceMs != 0 {
		return fmt.Errorf("the bus does not answer since %s UTC", time.UnixMilli(b.SinceMs).UTC().Format(time.TimeOnly))
	}
	return nil
}

var errBusAway = errors.New("connection to the bus is lost")

// watchOnce returns when the connection is lost or renewed, or something cannot be opened.
func (c *Console) watchOnce(ctx context.Context) error {
	nc := c.s.JetStream.Conn()
	if !nc.IsConnected() {
		return errBusAway
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	status := nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED, nats.CONNECTED)
	defer nc.RemoveStatusListener(status)
	pictures, failed, err := c.watchPictures(ctx)
	if err != nil {
		return err
	}
	defer pictures.Stop()

	// Until a table's values are complete, the old ones stand.
	complete := make(chan struct{})
	var reading sync.WaitGroup
	var read atomic.Int32
	tables := c.st.tables()
	for _, t := range tables {
		changed := t.Changed()
		following.Go(func() { _ = t.Run(ctx, c.s.JetStream) })
		reading.Go(func() {
			select {
			case <-changed:
				read.Add(1)
			case <-ctx.Done():
			}
		})
	}
	following.Go(func() { reading.Wait(); close(complete) })
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	tidy := time.NewTicker(time.Minute)
	defer tidy.Stop()
	late := time.NewTimer(c.lateAfter)
	defer late.Stop()
	for whole := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s != nats.CONNECTED {
				return errBusAway
			}
			return errors.New("connection to the bus was renewed")
		case err := <-failed:
			return fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
		case <-complete:
			complete, whole = nil, true
			c.busHealth(nil)
		case <-tidy.C:
			if whole {
				c.apply(func() { c.st.forget(time.Now()) })
			}
		case <-late.C: // going on, since a bucket that is large would be as late when read from its beginning
			if !whole {
				c.busHealth(fmt.Errorf("%d of %d buckets are read after %v: still reading", read.Load(), len(tables), c.lateAfter))
			}
		case <-beat.C:
			if !nc.IsConnected() {
				return errBusAway
			}
			if whole {
				c.busHealth(nil)
			}
		}
	}
}

const (
	// openLimit is how long the bus may take to open a stream.
	openLimit = 10 * time.Second
	// readLate is after how long buckets that are still being read are said to be.
	readLate = 10 * time.Second
)

// watchPictures follows where the latest pictures are. What makes it useless later comes over the channel.
func (c *Console) watchPictures(ctx context.Context) (jetstream.ConsumeContext, <-chan error, error) {
	open, stop := context.WithTimeout(ctx, openLimit)
	defer stop()
	cons, err := c.s.JetStream.OrderedConsumer(open, schemas.StreamPictures, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"pictures.>"}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, HeadersOnly: true,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	failed := make(chan error, 1)
	cc, err := cons.Consume(c.onPicture, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			select {
			case failed <- err:
			default:
			}
		}
	}))
	if err != nil {
		return nil, nil, fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	return cc, failed, nil
}

func (c *Console) apply(f func()) {
	c.st.mu.Lock()
	f()
	c.st.mu.Unlock()
}

// parseStream reads the state of the stream that its key names; anything else is not shown.
func parseStream(key string, value []byte) (*schemas.StreamState, error) {
	var s schemas.StreamState
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	if err := s.Key().Check(); err != nil {
		return nil, err
	}
	if s.Key().KVKey() != key {
		return nil, fmt.Errorf("the state under key %s is of stream %s", key, s.Key().KVKey())
	}
	return &s, nil
}

func (c *Console) onPicture(m jetstream.Msg) {
	k, err := schemas.ParsePictureSubject(m.Subject())
	if err != nil {
		return
	}
	md, err := m.Metadata()
	if err != nil {
		return
	}
	p, ok := refOf(m.Headers(), md.Sequence.Stream)
	if !ok {
		return
	}
	c.apply(func() {
		if p.Seq > c.st.pictures[k].Seq {
			c.st.pictures[k] = p
		}
	})
}

// refOf reads the header of a picture message.
func refOf(h nats.Header, seq uint64) (pictureRef, bool) {
	var p schemas.Picture
	if json.Unmarshal([]byte(h.Get(schemas.HeaderPicture)), &p) != nil {
		return pictureRef{}, false
	}
	return pictureRef{Seq: seq, TimeMs: p.WallUnixUs / 1000, Width: p.Width, Height: p.Height}, true
}
