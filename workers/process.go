package workers

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// item is a delivered message and its acknowledger.
type item struct {
	msg Message
	js  jetstream.Msg
}

// process handles a batch to its end. Messages that failed before are handled
// alone, the others together.
func (r *Runner) process(ctx context.Context, batch []jetstream.Msg) {
	fresh := make([]item, 0, len(batch))
	var old []item
	for _, j := range batch {
		it := item{js: j, msg: Message{Subject: j.Subject(), Header: j.Headers(), Data: j.Data(), Attempt: 1}}
		if md, err := j.Metadata(); err == nil {
			it.msg.Seq, it.msg.StoredAt = md.Sequence.Stream, md.Timestamp
			it.msg.Attempt = int(md.NumDelivered)
			r.m.lag.Set(float64(md.NumPending))
		}
		if it.msg.Attempt > splitAfter {
			old = append(old, it)
		} else {
			fresh = append(fresh, it)
		}
	}
	stop := r.keepAlive(batch)
	defer stop()
	if len(fresh) > 0 {
		r.handle(ctx, fresh)
	}
	for i := range old {
		r.handle(ctx, old[i:i+1])
	}
}

// keepAlive tells the bus twice per AckWait that the batch is being worked on.
func (r *Runner) keepAlive(batch []jetstream.Msg) (stop func()) {
	done := make(chan struct{})
	held := append([]jetstream.Msg(nil), batch...)
	t := time.AfterFunc(r.AckWait/2, func() {
		tick := time.NewTicker(r.AckWait / 2)
		defer tick.Stop()
		for {
			for _, m := range held {
				select {
				case <-done:
					return
				default:
				}
				// An acknowledged message refuses; that is no news.
				_ = m.InProgress()
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() { t.Stop(); close(done) }
}

func (r *Runner) handle(ctx context.Context, items []item) {
	msgs := make([]Message, len(items))
	for i := range items {
		msgs[i] = items[i].msg
	}
	out, err := r.m.call(ctx, r.Handler, msgs)
	switch {
	case err == nil:
		if err := r.publish(ctx, out); err != nil {
			r.m.failed.Add(float64(len(items)))
			r.retry(items, err)
			return
		}
		r.ack(items)
	case Rejected(err) && len(items) > 1:
		for i := range items {
			r.handle(ctx, items[i:i+1])
		}
	case Rejected(err):
		r.bury(ctx, items[0], err)
	case r.MaxAttempts > 0 && len(items) == 1 && items[0].msg.Attempt >= r.MaxAttempts:
		r.bury(ctx, items[0], fmt.Errorf("failed %d times: %w", items[0].msg.Attempt, err))
	default:
		r.retry(items, err)
	}
}

func (r *Runner) ack(items []item) {
	for _, it := range items {
		if err := it.js.Ack(); err != nil {
			// The message comes again; its outputs have ids, so that is harmless.
			r.Logger.Warn("acknowledge", "subject", it.msg.Subject, "seq", it.msg.Seq, "err", err)
		}
	}
	r.m.success(len(items))
}

func (r *Runner) retry(items []item, cause error) {
	for _, it := range items {
		d := r.delay(it.msg.Attempt)
		if it.msg.Attempt == 1 || it.msg.Attempt%10 == 0 {
			r.Logger.Warn("handling failed; trying again", "subject", it.msg.Subject, "seq", it.msg.Seq,
				"attempt", it.msg.Attempt, "in", d, "err", cause)
		}
		if err := it.js.NakWithDelay(d); err != nil {
			r.Logger.Debug("give back", "err", err) // AckWait brings it back
		}
	}
}

// delay before the attempt after attempt.
func (r *Runner) delay(attempt int) time.Duration {
	d := r.RetryDelay
	for i := 1; i < attempt && d < r.MaxRetryDelay; i++ {
		d *= 2
	}
	return min(d, r.MaxRetryDelay)
}

// publish sends every output and waits until the bus has acknowledged all.
func (r *Runner) publish(ctx context.Context, out []Output) error {
	if len(out) == 0 {
		return nil
	}
	if err := Publish(ctx, r.JetStream, out, r.PublishTimeout); err != nil {
		return err
	}
	r.m.published.Add(float64(len(out)))
	return nil
}

// Publish sends outputs without waiting in between and returns when the bus has
// acknowledged all of them, with an error after timeout. What was stored before
// the error stays stored; publishing again is harmless since outputs have ids.
// Unstored outputs are sent first and not waited for.
func Publish(ctx context.Context, js jetstream.JetStream, out []Output, timeout time.Duration) error {
	out, err := sendUnstored(js.Conn(), out)
	if err != nil || len(out) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if len(out) == 1 {
		if _, err := js.PublishMsg(ctx, message(&out[0])); err != nil {
			return fmt.Errorf("publish %s: %w", out[0].Subject, err)
		}
		return nil
	}
	acks := make([]jetstream.PubAckFuture, len(out))
	for i := range out {
		f, err := js.PublishMsgAsync(message(&out[i]))
		if err != nil {
			return fmt.Errorf("publish %s: %w", out[i].Subject, err)
		}
		acks[i] = f
	}
	for i, f := range acks {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return fmt.Errorf("publish %s: %w", out[i].Subject, err)
		case <-ctx.Done():
			return fmt.Errorf("publish %s: no acknowledgement: %w", out[i].Subject, ctx.Err())
		}
	}
	return nil
}

// sendUnstored sends what no stream holds and gives the other outputs.
func sendUnstored(nc *nats.Conn, out []Output) (stored []Output, err error) {
	n := 0
	for i := range out {
		if !out[i].Unstored {
			n++
			continue
		}
		if err := nc.PublishMsg(&nats.Msg{Subject: out[i].Subject, Header: out[i].Header, Data: out[i].Data}); err != nil {
			return nil, fmt.Errorf("publish %s: %w", out[i].Subject, err)
		}
	}
	if n == 0 || n == len(out) {
		return out[:n], nil
	}
	for i := range out {
		if !out[i].Unstored {
			stored = append(stored, out[i])
		}
	}
	return stored, nil
}

func message(o *Output) *nats.Msg {
	h := make(nats.Header, len(o.Header)+1)
	for k, v := range o.Header {
		h[k] = v
	}
	if o.MsgID != "" {
		h[jetstream.MsgIDHeader] = []string{o.MsgID}
	}
	return &nats.Msg{Subject: o.Subject, Header: h, Data: o.Data}
}

// maxReason bounds the reason of a dead letter, bytes.
const maxReason = 2048

// bury puts a message in the stream DEAD and acknowledges it.
func (r *Runner) bury(ctx context.Context, it item, cause error) {
	if err := r.deadLetter(ctx, it, cause); err != nil {
		r.retry([]item{it}, fmt.Errorf("dead-letter (%w) of a message rejected because: %w", err, cause))
		return
	}
	r.ack([]item{it})
}

// deadLetter puts a message in the stream DEAD. The bus's own headers are left
// behind, or they would govern the dead letter too.
func (r *Runner) deadLetter(ctx context.Context, it item, cause error) error {
	h := make(nats.Header, len(it.msg.Header)+2)
	for k, v := range it.msg.Header {
		if !strings.HasPrefix(k, "Nats-") {
			h[k] = v
		}
	}
	reason := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, cause.Error())
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	h.Set(schemas.HeaderReason, reason)
	h.Set(schemas.HeaderOrigin, it.msg.Subject+" "+strconv.FormatUint(it.msg.Seq, 10))
	dead := Output{
		Subject: schemas.DeadSubject(r.Role), Header: h, Data: it.msg.Data,
		MsgID: "d/" + r.Role + "/" + r.Stream + "/" + strconv.FormatUint(it.msg.Seq, 10),
	}
	if err := Publish(ctx, r.JetStream, []Output{dead}, r.PublishTimeout); err != nil {
		return err
	}
	r.Logger.Warn("message rejected", "subject", it.msg.Subject, "seq", it.msg.Seq, "reason", reason)
	r.m.rejected.Inc()
	return nil
}
