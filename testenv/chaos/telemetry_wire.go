package chaos

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// wire is what the bus holds of telemetry, message by message: the truth between what was accepted and what
// ClickHouse has. It also publishes some messages a second time, as a collector's spool does that died between the
// bus's acknowledgement and its own note of it, only that the bus itself cannot recognise these.
type wire struct {
	js  jetstream.JetStream
	log *slog.Logger
	rnd *rand.Rand

	mu       sync.Mutex
	seen     map[string]bool // producer/partition/counter
	last     uint64          // stream sequence
	rows     int64           // of messages seen first
	again    int64           // of the others: what readers must leave out
	messages int64
	replayed int64 // messages published a second time here
	wrong    []string
}

func newWire(js jetstream.JetStream, seed uint64, log *slog.Logger) *wire {
	return &wire{js: js, log: log, rnd: rand.New(rand.NewPCG(seed, 0x77697265)), seen: map[string]bool{}}
}

// follow reads TELEMETRY from its beginning until ctx ends, over restarts of the bus.
func (w *wire) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.read(ctx); err != nil && ctx.Err() == nil {
			w.log.Debug("the bus cannot be read: trying again", "err", err)
			_ = nap.For(ctx, 200*time.Millisecond)
		}
	}
}

func (w *wire) read(ctx context.Context) error {
	w.mu.Lock()
	from := w.last + 1
	w.mu.Unlock()
	c, err := w.js.OrderedConsumer(ctx, schemas.StreamTelemetry, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, HeadersOnly: false,
	})
	if err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, it.Stop)()
	defer it.Stop()
	for {
		m, err := it.Next()
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if w.take(meta.Sequence.Stream, m) {
			if err := w.replay(ctx, m); err != nil {
				return err
			}
		}
	}
}

// take notes a message and says whether to publish it a second time.
func (w *wire) take(seq uint64, m jetstream.Msg) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq <= w.last {
		if len(w.wrong) < 10 {
			w.wrong = append(w.wrong, "the bus gave sequence "+strconv.FormatUint(seq, 10)+" after "+strconv.FormatUint(w.last, 10))
		}
		return false
	}
	w.last = seq
	h := m.Headers()
	rows, err := strconv.ParseInt(h.Get(schemas.HeaderRows), 10, 64)
	if err != nil || rows == 0 {
		return false // a tick
	}
	w.messages++
	key := m.Subject() + "/" + h.Get(schemas.HeaderProducer) + "/" + h.Get(schemas.HeaderProducerSeq)
	if w.seen[key] {
		w.again += rows
		return false
	}
	w.seen[key] = true
	w.rows += rows
	return w.rnd.IntN(50) == 0
}

func (w *wire) replay(ctx context.Context, m jetstream.Msg) error {
	h := nats.Header{}
	for k, v := range m.Headers() {
		if k != jetstream.MsgIDHeader {
			h[k] = v
		}
	}
	pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := w.js.PublishMsg(pctx, &nats.Msg{Subject: m.Subject(), Header: h, Data: m.Data()}); err != nil {
		return nil // nothing is owed: it is read again if it was stored
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replayed++
	return nil
}

// state is what the bus held so far.
func (w *wire) state() (rows, again int64, last uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows, w.again, w.last
}
