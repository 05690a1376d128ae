package router

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

const (
	maxQueued    = 50_000 // records waiting for the bus; about 1 KB each
	publishBatch = 512
	ackTimeout   = 5 * time.Second
	// lastPublish bounds the publishing of what is left when the router stops.
	lastPublish = 2 * time.Second
)

// publisher puts decisions and exposures on the bus behind the answers: they
// wait while the bus is away, and are dropped and counted only when too many wait.
type publisher struct {
	js     jetstream.JetStream
	logger *slog.Logger
	m      *metrics
	queue  chan *record
}

// record is a message on its way to the bus.
type record struct {
	subject, id string
	where       string // schemas.HeaderWhere; empty: none
	data        []byte
	made        time.Time
}

// msg is the message of one try. A router that hears of a decision late orders it by how long it waited.
func (r *record) msg(now time.Time) *nats.Msg {
	v := []string{r.id, strconv.FormatInt(max(now.Sub(r.made).Milliseconds(), 0), 10), r.where}
	h := nats.Header{jetstream.MsgIDHeader: v[:1:1], schemas.HeaderWaitedMs: v[1:2:2]}
	if r.where != "" {
		h[schemas.HeaderWhere] = v[2:]
	}
	return &nats.Msg{Subject: r.subject, Data: r.data, Header: h}
}

func newPublisher(js jetstream.JetStream, logger *slog.Logger, m *metrics) *publisher {
	return &publisher{js: js, logger: logger, m: m, queue: make(chan *record, maxQueued)}
}

// add queues a record; id makes a repeat harmless. where is what routers tell each other by it, if anything.
func (p *publisher) add(subject, id, where string, data []byte) {
	select {
	case p.queue <- &record{subject, id, where, data, time.Now()}:
	default:
		p.m.dropped.Inc()
	}
}

func (p *publisher) run(ctx context.Context) {
	for {
		var batch []*record
		select {
		case <-ctx.Done():
			p.drain()
			return
		case m := <-p.queue:
			batch = p.fill(append(batch, m))
		}
		failing := false
		for len(batch) > 0 {
			left, err := p.publish(ctx, batch)
			if len(left) > 0 {
				if !failing {
					p.logger.Warn("decisions are not published: they are kept", "waiting", len(left)+len(p.queue), "err", err)
				}
				failing = true
				select {
				case <-ctx.Done():
					for _, m := range left {
						p.requeue(m)
					}
					p.drain()
					return
				case <-time.After(250 * time.Millisecond):
				}
			} else if failing {
				p.logger.Info("decisions are published again")
			}
			batch = left
		}
	}
}

func (p *publisher) requeue(m *record) {
	select {
	case p.queue <- m:
	default:
		p.m.dropped.Inc()
	}
}

func (p *publisher) fill(batch []*record) []*record {
	for len(batch) < publishBatch {
		select {
		case m := <-p.queue:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// drain publishes what is left once, within lastPublish.
func (p *publisher) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), lastPublish)
	defer cancel()
	for {
		batch := p.fill(nil)
		if len(batch) == 0 {
			return
		}
		left, err := p.publish(ctx, batch)
		if len(left) > 0 {
			n := len(left) + len(p.queue)
			p.m.dropped.Add(float64(n))
			p.logger.Error("router stops with decisions that the bus has not taken", "decisions", n, "err", err)
			return
		}
	}
}

// publish sends a batch at once and gives back what was not acknowledged.
func (p *publisher) publish(ctx context.Context, batch []*record) (left []*record, err error) {
	futures := make([]jetstream.PubAckFuture, len(batch))
	now := time.Now()
	for i, m := range batch {
		f, e := p.js.PublishMsgAsync(m.msg(now))
		if e != nil {
			err = e
		}
		futures[i] = f
	}
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	late := false
	for i, f := range futures {
		if f == nil {
			left = append(left, batch[i])
			continue
		}
		if late { // only what is there already
			select {
			case <-f.Ok():
				p.m.published.Inc()
			default:
				left = append(left, batch[i])
			}
			continue
		}
		select {
		case <-f.Ok():
			p.m.published.Inc()
		case e := <-f.Err():
			err = e
			left = append(left, batch[i])
		case <-ctx.Done():
			err, late = ctx.Err(), true
			left = append(left, batch[i])
		case <-timeout.C:
			err, late = errors.New("no acknowledgement"), true
			left = append(left, batch[i])
		}
	}
	return left, err
}
