// Package ordered reads a stream from a sequence on, every message once and in order, for as long as it takes.
//
// It promises that a reader whose consumer is gone (the server was started again, or forgot it) goes on with another
// within about five seconds. The client's own iterator does that by missing heartbeats, but looks for them only
// within one call of Next: with [jetstream.NextMaxWait] below twice the heartbeat, which defaults to 15 s, it never
// finds out and waits for ever. Here Next of the iterator is never cut short.
package ordered

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// heartbeat of the server to an idle reader; two missed ones mean that the consumer is gone.
const heartbeat = 2 * time.Second

// ErrNothing says that no message came within the wait.
var ErrNothing = errors.New("no message within the wait")

// Reader reads. Not safe for concurrent use.
type Reader struct {
	it    jetstream.MessagesContext
	got   chan item
	stop  chan struct{}
	done  chan struct{}
	timer *time.Timer
}

type item struct {
	msg jetstream.Msg
	err error
}

// Open starts reading the subjects of a stream at sequence seq. Options size what is asked for in advance.
func Open(ctx context.Context, js jetstream.JetStream, stream string, subjects []string, seq uint64, o ...jetstream.PullMessagesOpt) (*Reader, error) {
	cons, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	it, err := cons.Messages(append(o, jetstream.PullHeartbeat(heartbeat))...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	r := &Reader{it: it, got: make(chan item), stop: make(chan struct{}), done: make(chan struct{}), timer: time.NewTimer(time.Hour)}
	go r.run()
	return r, nil
}

func (r *Reader) run() {
	defer close(r.done)
	for {
		m, err := r.it.Next()
		select {
		case r.got <- item{m, err}:
		case <-r.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// Next gives the next message, ErrNothing when none comes within wait, or the error for which reading has ended.
func (r *Reader) Next(ctx context.Context, wait time.Duration) (jetstream.Msg, error) {
	select { // no timer while messages are there
	case i := <-r.got:
		return i.msg, i.err
	default:
	}
	r.timer.Reset(wait)
	select {
	case i := <-r.got:
		return i.msg, i.err
	case <-r.timer.C:
		return nil, ErrNothing
	case <-r.done:
		return nil, jetstream.ErrMsgIteratorClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends reading.
func (r *Reader) Close() {
	close(r.stop)
	r.it.Stop()
	<-r.done
	r.timer.Stop()
}
