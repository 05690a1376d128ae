package router

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

const (
	maxQueued    = 50_000 // records waiting for the bus; about 1 KB each
	publishBatch = 1000
	// Bounds of decisions in one message: their number, what routers read of them (headers
	// may have 64 KiB in all), and their bytes, so that one never fails for its size.
	maxTogether       = 100
	maxTogetherWheres = 48 << 10
	maxTogetherBytes  = 1 << 20
	// From manyRecords in a batch on the next one is gathered for as long: fewer and larger messages.
	manyRecords = 8
	gather      = 5 * time.Millisecond
	ackTimeout  = 5 * time.Second
	// lastPublish bounds the publishing of what is left when the router stops.
	lastPublish = 2 * time.Second
)

// publisher puts decisions and exposures on the bus behind the answers: they
// wait while the bus is away, and are dropped and counted only when too many wait,
// or when the bus will never take one.
type publisher struct {
	js     jetstream.JetStream
	logger *slog.Logger
	m      *metrics
	queue  chan *record
}

// record is a decision or exposure on its way to the bus. Its memory is used again
// when the bus has it.
type record struct {
	subject, id string
	where       string // schemas.HeaderWhere; empty: an exposure
	data        []byte
	made        time.Time
}

var records = sync.Pool{New: func() any { return new(record) }}

// free gives memory back of which nobody has anything any more.
func (r *record) free() {
	*r = record{data: r.data[:0]}
	records.Put(r)
}

// bodies is memory for the bodies of messages of many.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// message is what is published at once: one record, or decisions of one subject. It
// stays as it is until the bus has it or refuses it for good, so that a repeat is known by its id.
type message []*record

// together groups decisions by subject, in their order.
func together(records []*record) (out []message) {
	type filling struct{ at, wheres, bytes int } // at in out
	begun := map[string]filling{}                // while the message takes more
	for _, r := range records {
		const name = len(schemas.HeaderWhere + ": \r\n")
		f, ok := begun[r.subject]
		f.wheres, f.bytes = f.wheres+len(r.where)+name, f.bytes+len(r.data)
		if ok && len(out[f.at]) < maxTogether && f.wheres <= maxTogetherWheres && f.bytes <= maxTogetherBytes {
			out[f.at], begun[r.subject] = append(out[f.at], r), f
			continue
		}
		if r.where != "" { // exposures are known by their own ids
			begun[r.subject] = filling{len(out), len(r.where) + name, len(r.data)}
		}
		out = append(out, message{r})
	}
	return out
}

// msg is the message of one try. A router that hears of decisions late orders them by how long they waited.
func (m message) msg(now time.Time) *nats.Msg {
	first, last := m[0], m[len(m)-1]
	v := []string{first.id, strconv.FormatInt(max(now.Sub(last.made).Milliseconds(), 0), 10)}
	h := nats.Header{jetstream.MsgIDHeader: v[:1:1], schemas.HeaderWaitedMs: v[1:]}
	if first.where != "" {
		wheres := make([]string, len(m))
		for i, r := range m {
			wheres[i] = r.where
		}
		h[schemas.HeaderWhere] = wheres
	}
	data := first.data
	if len(m) > 1 {
		data = (*bodies.Get().(*[]byte))[:0]
		for i, r := range m {
			data = append(append(data, "[,"[min(i, 1)]), r.data...)
		}
		data = append(data, ']')
	}
	return &nats.Msg{Subject: first.subject, Data: data, Header: h}
}

func count(all []message) (n int) {
	for _, m := range all {
		n += len(m)
	}
	return n
}

func newPublisher(js jetstream.JetStream, logger *slog.Logger, m *metrics) *publisher {
	return &publisher{js: js, logger: logger, m: m, queue: make(chan *record, maxQueued)}
}

// add queues a record; id makes a repeat harmless. where is what routers tell each other by it, if anything.
func (p *publisher) add(subject, id, where string, x checked) error {
	r := records.Get().(*record)
	var err error
	if r.data, err = schemas.AppendRecord(r.data[:0], x); err != nil {
		r.free()
		return err
	}
	r.subject, r.id, r.where, r.made = subject, id, where, time.Now()
	select {
	case p.queue <- r:
	default:
		r.free()
		p.m.dropped.Inc()
	}
	return nil
}

// checked is a record of package schemas.
type checked interface{ Check() error }

// taken says that the bus has a message.
func (p *publisher) taken(m message, body []byte) {
	p.m.published.Add(float64(len(m)))
	if len(m) > 1 {
		bodies.Put(&body)
	}
	for _, r := range m {
		r.free()
	}
}

func (p *publisher) run(ctx context.Context) {
	busy := false
	for {
		var batch []*record
		select {
		case <-ctx.Done():
			p.drain(nil)
			return
		case m := <-p.queue:
			batch = p.fill(append(batch, m))
		}
		if busy && len(batch) < publishBatch {
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
			batch = p.fill(batch)
		}
		busy = len(batch) >= manyRecords
		if left := p.send(ctx, together(batch)); left != nil {
			p.drain(left)
			return
		}
	}
}

// send publishes until the bus has all, or ctx ends with what is left.
func (p *publisher) send(ctx context.Context, batch []message) (left []message) {
	failing := false
	for len(batch) > 0 {
		left, err := p.publish(ctx, batch)
		if err != nil {
			if !failing {
				p.logger.Warn("decisions are not published: they are kept", "waiting", count(left)+len(p.queue), "err", err)
			}
			failing = true
			select {
			case <-ctx.Done():
				return left
			case <-time.After(250 * time.Millisecond):
			}
		} else if failing && len(left) == 0 {
			p.logger.Info("decisions are published again")
		}
		batch = left
	}
	return nil
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
func (p *publisher) drain(left []message) {
	ctx, cancel := context.WithTimeout(context.Background(), lastPublish)
	defer cancel()
	for {
		left = append(left, together(p.fill(nil))...)
		if len(left) == 0 {
			return
		}
		var err error
		if left, err = p.publish(ctx, left); err != nil {
			n := count(left) + len(p.queue)
			p.m.dropped.Add(float64(n))
			p.logger.Error("router stops with decisions that the bus has not taken", "decisions", n, "err", err)
			return
		}
	}
}

// publish sends a batch at once and gives back what was not acknowledged, with the
// error if it should wait before it is sent again.
func (p *publisher) publish(ctx context.Context, batch []message) (left []message, err error) {
	type sent struct {
		message
		jetstream.PubAckFuture
		body []byte
	}
	under := make([]sent, 0, len(batch))
	now := time.Now()
	failed := func(m message, e error) {
		if schemas.RefusedForGood(e) {
			left = append(left, p.refused(m, e)...)
			return
		}
		err, left = e, append(left, m)
	}
	for _, m := range batch {
		msg := m.msg(now)
		if f, e := p.js.PublishMsgAsync(msg); e != nil {
			failed(m, e)
		} else {
			under = append(under, sent{m, f, msg.Data})
		}
	}
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	late := false
	for _, u := range under {
		if late { // only what is there already
			select {
			case <-u.Ok():
				p.taken(u.message, u.body)
			default:
				left = append(left, u.message)
			}
			continue
		}
		select {
		case <-u.Ok():
			p.taken(u.message, u.body)
		case e := <-u.Err():
			failed(u.message, e)
		case <-ctx.Done():
			late = true
			failed(u.message, ctx.Err())
		case <-timeout.C:
			late = true
			failed(u.message, errors.New("no acknowledgement"))
		}
	}
	return left, err
}

// refused drops a record that the bus will never take, so that it does not stop those behind
// it. Of several in one message each is to be published alone, and only the bad one is lost.
func (p *publisher) refused(m message, why error) (alone []message) {
	if len(m) > 1 {
		for _, r := range m {
			alone = append(alone, message{r})
		}
		return alone
	}
	p.m.dropped.Inc()
	p.logger.Error("the bus will never take this record: it is lost", "subject", m[0].subject, "id", m[0].id, "bytes", len(m[0].data), "err", why)
	return nil
}
