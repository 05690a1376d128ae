package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
)

// Live gives a Handler the messages that the bus announces at the moment it has
// stored them (schemas.ChunksFilter), each to one of the processes with the same
// Role: for work that is worth nothing once it is late, and that others make
// good. It costs the bus no consumer, no acknowledgement and nothing for
// subjects that nobody listens to.
//
// It promises less than [Runner]: what a process that dies had been given, and
// what a handling fails at, is not given to another. What no retry can help is
// put in the stream DEAD, as there. Fill in the fields and call Run.
type Live struct {
	JetStream  jetstream.JetStream
	Handler    Handler
	Role       string
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	r    Runner // what both have in common: metrics, dead letters
	subs map[string]*nats.Subscription
	done sync.WaitGroup
	work context.Context
}

// liveDrain is how long what was received before the stop may take.
const liveDrain = 5 * time.Second

// Run listens until ctx ends, finishes what it has received and returns nil; an
// error means that the settings are wrong or that work was still running 5 s
// after the stop. want is called at once and with every tick for the subjects to
// listen to; it must not block.
func (l *Live) Run(ctx context.Context, tick <-chan struct{}, want func() []string) error {
	l.r = Runner{JetStream: l.JetStream, Handler: l.Handler, Role: l.Role, Stream: schemas.StreamMedia, Logger: l.Logger, Registerer: l.Registerer}
	if err := l.r.defaults(); err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l.work, l.subs = work, map[string]*nats.Subscription{}
	for ctx.Err() == nil {
		if err := l.listen(want()); err != nil {
			l.r.Logger.Warn("cannot listen; trying on", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick:
		}
	}
	if err := l.listen(nil); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		l.r.Logger.Debug("stop listening", "err", err)
	}
	drained := make(chan struct{})
	go func() { l.done.Wait(); close(drained) }()
	select {
	case <-drained:
		return nil
	case <-time.After(liveDrain):
		return fmt.Errorf("%s: work was still running %v after the stop", l.Role, liveDrain)
	}
}

// listen makes the subscriptions those that are wanted.
func (l *Live) listen(subjects []string) error {
	wanted := make(map[string]bool, len(subjects))
	var errs []error
	for _, s := range subjects {
		wanted[s] = true
		if l.subs[s] != nil {
			continue
		}
		sub, err := l.JetStream.Conn().QueueSubscribe(s, l.Role, l.take)
		if err != nil {
			errs = append(errs, fmt.Errorf("listen to %s: %w", s, err))
			continue
		}
		l.done.Add(1)
		sub.SetClosedHandler(func(string) { l.done.Done() })
		l.subs[s] = sub
	}
	for s, sub := range l.subs {
		if wanted[s] {
			continue
		}
		delete(l.subs, s)
		if err := sub.Drain(); err != nil {
			errs = append(errs, err) // the connection is closed, which ended it
		}
	}
	return errors.Join(errs...)
}

// take handles one announced message.
func (l *Live) take(m *nats.Msg) {
	seq, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64) // only names it in dead letters
	it := item{msg: Message{Subject: m.Header.Get("Nats-Subject"), Header: m.Header, Data: m.Data, Seq: seq, Attempt: 1}}
	out, err := l.r.m.call(l.work, l.Handler, []Message{it.msg})
	if err == nil {
		err = l.r.publish(l.work, out)
	}
	switch {
	case err == nil:
		l.r.m.success(1)
	case Rejected(err):
		if err := l.r.deadLetter(l.work, it, err); err != nil {
			l.r.Logger.Warn("a rejected message could not be kept", "subject", it.msg.Subject, "seq", seq, "err", err)
			return
		}
		l.r.m.success(1)
	default:
		l.r.Logger.Warn("handling failed", "subject", it.msg.Subject, "seq", seq, "err", err)
	}
}
