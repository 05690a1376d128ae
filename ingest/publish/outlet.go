package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// outlet publishes one publication's messages, strictly one after the other:
// each names the subject's last sequence, so nothing can be reordered by a retry,
// and a publisher whose stream was taken over is found out at its next message
// (and cannot get between the new one's). A chunk is due every 200 ms and acknowledged within milliseconds, so a wider
// window would gain nothing.
type outlet struct {
	bus     *busHandles
	subject string
	log     *slog.Logger
	limit   time.Duration // longest time without acknowledgement
	pool    *sync.Pool
	onOpen  func(e *schemas.EpochOpen)
	onFail  func(err error)                   // the outlet has given up
	onTrap  func(cause error)                 // an incident begins
	onSent  func(c *schemas.Chunk, bytes int) // a chunk is on the bus
	onLost  func(c *schemas.Chunk)            // the bus did not take a chunk in time

	mu     sync.Mutex
	cond   sync.Cond
	queue  []item
	bytes  int
	closed bool // nothing more will be pushed
	failed bool

	done chan struct{}

	last  uint64 // sequence of the subject's last message
	posMu sync.Mutex
	pos   schemas.Position  // what is on the bus
	init  map[string][]byte // of the epoch on the bus

	lastOpen atomic.Pointer[schemas.EpochOpen] // the epoch on the bus
}

type item struct {
	kind  string
	chunk *schemas.Chunk
	data  []byte
	open  *schemas.EpochOpen
	inits map[string][]byte
}

const (
	maxQueued      = 24
	maxQueuedBytes = 16 << 20
)

func newOutlet(bus *busHandles, subject string, n *numbering) *outlet {
	o := &outlet{bus: bus, subject: subject, last: n.lastSeq, done: make(chan struct{})}
	o.cond.L = &o.mu
	o.pos.NextMSN, o.pos.PartTargetUs = maps.Clone(n.nextMSN), maps.Clone(n.targetUs)
	return o
}

// push queues an item and waits while the queue is full. False: the outlet has failed.
func (o *outlet) push(it item) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.failed && len(o.queue) > 0 && (len(o.queue) >= maxQueued || o.bytes+len(it.data) > maxQueuedBytes) {
		o.cond.Wait()
	}
	if o.failed || o.closed {
		return false
	}
	o.queue = append(o.queue, it)
	o.bytes += len(it.data)
	o.cond.Broadcast()
	return true
}

// close lets run end once the queue is empty.
func (o *outlet) close() {
	o.mu.Lock()
	o.closed = true
	o.cond.Broadcast()
	o.mu.Unlock()
}

func (o *outlet) fail(err error) {
	o.mu.Lock()
	lost := o.queue
	o.failed, o.queue = true, nil
	o.cond.Broadcast()
	o.mu.Unlock()
	o.log.Error("publication given up", "reason", err.Error(), "chunks_lost", len(lost))
	for i := range lost {
		// A publication that is taken over or ends is no fault of the bus.
		if c := lost[i].chunk; c != nil && err != ErrTakenOver && err != ErrShutdown {
			o.onLost(c)
		}
	}
	o.onFail(err)
}

// run publishes until closed and empty, failed, or ctx ends.
func (o *outlet) run(ctx context.Context) {
	defer close(o.done)
	stop := context.AfterFunc(ctx, func() {
		o.mu.Lock()
		o.failed = true
		o.cond.Broadcast()
		o.mu.Unlock()
	})
	defer stop()
	for {
		o.mu.Lock()
		for !o.failed && !o.closed && len(o.queue) == 0 {
			o.cond.Wait()
		}
		if o.failed || len(o.queue) == 0 {
			o.mu.Unlock()
			return
		}
		it := o.queue[0]
		o.mu.Unlock()

		if err := o.send(ctx, it); err != nil {
			o.fail(err)
			return
		}

		o.mu.Lock()
		if len(o.queue) > 0 {
			o.queue[0] = item{}
			o.queue = o.queue[1:]
		}
		o.bytes -= len(it.data)
		o.cond.Broadcast()
		o.mu.Unlock()
		if it.chunk != nil && o.pool != nil {
			o.pool.Put(&it.data)
		}
	}
}

// send publishes one item, repeating it as long as the limit allows. Its error says why it gave up.
func (o *outlet) send(ctx context.Context, it item) error {
	switch it.kind {
	case schemas.KindEpoch:
		return o.sendEpoch(ctx, it)
	case schemas.KindEnd:
		return o.retry(ctx, "end of epoch", func(ctx context.Context) error {
			if err := o.savePosition(ctx); err != nil {
				return err
			}
			return o.publish(ctx, &nats.Msg{Subject: o.subject, Data: it.data, Header: nats.Header{schemas.HeaderKind: {schemas.KindEnd}}},
				fmt.Sprintf("x/%s/%d", o.subject, o.pos.Epoch))
		})
	}
	head, err := it.chunk.EncodeHeader(it.data)
	if err != nil {
		return fmt.Errorf("chunk could not be encoded: %w", err)
	}
	m := &nats.Msg{Subject: o.subject, Data: it.data, Header: nats.Header{
		schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(head)},
	}}
	id := it.chunk.MsgID()
	if err := o.retry(ctx, "chunk", func(ctx context.Context) error { return o.publish(ctx, m, id) }); err != nil {
		return err
	}
	o.posMu.Lock()
	o.pos.HadContent = true
	for i := range it.chunk.Fragments {
		f := &it.chunk.Fragments[i]
		o.pos.NextMSN[f.Track] = f.MSN + 1
	}
	o.posMu.Unlock()
	o.onSent(it.chunk, len(it.data))
	return nil
}

func (o *outlet) sendEpoch(ctx context.Context, it item) error {
	data, err := json.Marshal(it.open)
	if err != nil {
		return fmt.Errorf("epoch could not be encoded: %w", err)
	}
	for id, b := range it.inits {
		if err := o.retry(ctx, "init segment", func(ctx context.Context) error {
			_, err := o.bus.inits.Put(ctx, id, b)
			return err
		}); err != nil {
			return err
		}
	}
	m := &nats.Msg{Subject: o.subject, Data: data, Header: nats.Header{schemas.HeaderKind: {schemas.KindEpoch}}}
	// The id holds the opening time: of two processes that open the same epoch, one must be refused, not deduplicated.
	id := fmt.Sprintf("o/%s/%d/%d", o.subject, it.open.Epoch, it.open.OpenedUnixUs)
	if err := o.retry(ctx, "epoch", func(ctx context.Context) error { return o.publish(ctx, m, id) }); err != nil {
		return err
	}
	o.posMu.Lock()
	o.pos.Epoch, o.pos.DiscontinuitySeq, o.pos.HadContent = it.open.Epoch, it.open.DiscontinuitySeq, false
	for _, t := range it.open.Tracks {
		o.pos.NextMSN[t.Track], o.pos.PartTargetUs[t.Track] = t.FirstMSN, t.PartTargetUs
	}
	o.init = it.inits
	o.posMu.Unlock()
	o.lastOpen.Store(it.open)
	if err := o.retry(ctx, "position", o.savePosition); err != nil {
		return err
	}
	o.onOpen(it.open)
	return nil
}

// mark changes when the position does.
func (o *outlet) mark() string {
	o.posMu.Lock()
	defer o.posMu.Unlock()
	return fmt.Sprint(o.pos.Epoch, o.pos.HadContent, o.pos.NextMSN[schemas.Video], o.pos.NextMSN[schemas.Audio])
}

func (o *outlet) inits() map[string][]byte {
	o.posMu.Lock()
	defer o.posMu.Unlock()
	return o.init
}

// savePosition writes what is on the bus to the position bucket.
func (o *outlet) savePosition(ctx context.Context) error {
	o.posMu.Lock()
	data, err := json.Marshal(&o.pos)
	o.posMu.Unlock()
	if err != nil {
		return fmt.Errorf("encode position: %w", err)
	}
	_, err = o.bus.positions.Put(ctx, positionOfSubject(o.subject), data)
	return err
}

func positionOfSubject(subject string) string {
	k, _, err := schemas.ParseMediaSubject(subject)
	if err != nil {
		return ""
	}
	return positionKey(k)
}

func (o *outlet) publish(ctx context.Context, m *nats.Msg, id string) error {
	ack, err := o.bus.js.PublishMsg(ctx, m, jetstream.WithMsgID(id),
		jetstream.WithExpectLastSequencePerSubject(o.last), jetstream.WithRetryAttempts(0))
	if err == nil {
		o.last = ack.Sequence
		return nil
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		return err
	}
	// Either the stream was taken over, or an acknowledgement was lost longer ago than
	// the stream remembers ids, or the last message has expired.
	last, lerr := o.bus.media.GetLastMsgForSubject(ctx, o.subject)
	switch {
	case errors.Is(lerr, jetstream.ErrMsgNotFound):
		o.last = 0
		return err
	case lerr != nil:
		return lerr
	case last.Header.Get(nats.MsgIdHdr) == id:
		o.last = last.Sequence
		return nil
	case last.Sequence == o.last:
		return err
	}
	return ErrTakenOver
}

// retry repeats f with growing pauses. Its error says why it gave up.
func (o *outlet) retry(ctx context.Context, what string, f func(context.Context) error) error {
	wait := 20 * time.Millisecond
	var since time.Time
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		began := time.Now()
		err := f(try)
		cancel()
		switch {
		case err == nil:
			if !since.IsZero() {
				o.log.Info("bus takes media again", "held_back_ms", time.Since(since).Milliseconds())
			}
			return nil
		case errors.Is(err, ErrTakenOver):
			return ErrTakenOver
		case ctx.Err() != nil:
			return ErrShutdown
		}
		if since.IsZero() {
			since = began
			o.onTrap(fmt.Errorf("publish %s: %w", what, err))
		}
		if time.Since(since) > o.limit {
			return fmt.Errorf("the bus has not taken media for %s: %w", o.limit, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}
