// Package report sends what an ingest role has to tell besides media: events and
// publisher telemetry rows, in the batch format of docs/contracts.md.
//
// It promises that a caller never waits, that order is kept and that a report is
// repeated until the bus has acknowledged it; what does not fit the bounded
// queues while the bus is away is counted and logged, oldest first. It is not for
// players' telemetry, which needs a spool.
package report

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// Settings of a Reporter.
type Settings struct {
	JetStream jetstream.JetStream // required
	Logger    *slog.Logger        // default: discard
	// FlushEvery is how long telemetry rows are collected; default 1 s.
	FlushEvery time.Duration
	// MaxQueued bounds events and rows waiting, each; default 4096.
	MaxQueued int
}

// Reporter queues events and rows. Safe for concurrent use.
type Reporter struct {
	s        Settings
	producer string
	wake     chan struct{}

	mu      sync.Mutex
	events  []*schemas.Event
	rows    []schemas.Telemetry
	lost    int
	counter [schemas.TelemetryPartitions]uint64
}

// New makes a Reporter; [Reporter.Run] sends.
func New(s Settings) (*Reporter, error) {
	if s.JetStream == nil {
		return nil, errors.New("report: JetStream is nil")
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.FlushEvery == 0 {
		s.FlushEvery = time.Second
	}
	if s.MaxQueued == 0 {
		s.MaxQueued = 4096
	}
	return &Reporter{s: s, producer: "ingest-" + RandomID(), wake: make(chan struct{}, 1)}, nil
}

// RandomID gives 16 random hexadecimal digits.
func RandomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Event queues an event. An empty ID becomes a random one, a zero time now.
func (r *Reporter) Event(e schemas.Event) {
	if e.ID == "" {
		e.ID = RandomID()
	}
	if e.TimeUs == 0 {
		e.TimeUs = time.Now().UnixMicro()
	}
	r.mu.Lock()
	if len(r.events) >= r.s.MaxQueued {
		r.events, r.lost = append(r.events[:0], r.events[1:]...), r.lost+1
	}
	r.events = append(r.events, &e)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Telemetry queues a row; it is sent with the next flush.
func (r *Reporter) Telemetry(row schemas.Telemetry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) >= r.s.MaxQueued {
		r.rows, r.lost = append(r.rows[:0], r.rows[1:]...), r.lost+1
	}
	r.rows = append(r.rows, row)
}

// Run sends until ctx ends, then what is queued, for at most a second more.
func (r *Reporter) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		for r.wait(ctx, r.wake, 0) {
			r.sendEvents(ctx)
		}
		return nil
	})
	g.Go(func() error {
		for r.wait(ctx, nil, r.s.FlushEvery) {
			r.sendRows(ctx)
		}
		return nil
	})
	_ = g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	r.sendEvents(last)
	r.sendRows(last)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.events) + len(r.rows); n > 0 {
		r.s.Logger.Warn("reports not sent before shutdown", "count", n)
	}
	return nil
}

func (r *Reporter) wait(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	var tick <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		tick = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-tick:
	}
	return true
}

func (r *Reporter) sendEvents(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.events) == 0 {
			r.mu.Unlock()
			return
		}
		e := r.events[0]
		r.events = r.events[1:]
		lost := r.lost
		r.lost = 0
		r.mu.Unlock()
		if lost > 0 {
			r.s.Logger.Warn("reports dropped while the bus was away", "count", lost)
		}
		data, err := schemas.EncodeRecord(e)
		if err != nil {
			r.s.Logger.Error("event is invalid", "kind", e.Kind, "err", err)
			continue
		}
		m := &nats.Msg{Subject: schemas.EventSubject(e), Data: data, Header: nats.Header{}}
		if !r.publish(ctx, m, "e/"+e.ID) {
			r.mu.Lock()
			r.events = append([]*schemas.Event{e}, r.events...)
			r.mu.Unlock()
			return
		}
	}
}

func (r *Reporter) sendRows(ctx context.Context) {
	r.mu.Lock()
	rows := r.rows
	r.rows = nil
	r.mu.Unlock()
	var parts [schemas.TelemetryPartitions][]schemas.Telemetry
	for i := range rows {
		p := schemas.TelemetryPartition(rows[i].SessionID)
		parts[p] = append(parts[p], rows[i])
	}
	for p, rows := range parts {
		if len(rows) == 0 {
			continue
		}
		data, err := schemas.EncodeTelemetry(rows)
		if err != nil {
			r.s.Logger.Error("telemetry rows could not be encoded", "rows", len(rows), "err", err)
			continue
		}
		r.counter[p]++
		seq := strconv.FormatUint(r.counter[p], 10)
		m := &nats.Msg{Subject: schemas.TelemetrySubject(p), Data: data, Header: nats.Header{
			schemas.HeaderProducer:    {r.producer},
			schemas.HeaderProducerSeq: {seq},
			schemas.HeaderRows:        {strconv.Itoa(len(rows))},
		}}
		// Counters have no gaps, so a batch is repeated until it is in, or the program ends.
		if !r.publish(ctx, m, fmt.Sprintf("%s/%d/%s", r.producer, p, seq)) {
			r.s.Logger.Warn("publisher telemetry not sent before shutdown", "rows", len(rows))
		}
	}
}

// publish repeats until acknowledged; false when ctx ended first.
func (r *Reporter) publish(ctx context.Context, m *nats.Msg, id string) bool {
	wait := 50 * time.Millisecond
	told := false
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := r.s.JetStream.PublishMsg(try, m, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !told {
			told = true
			r.s.Logger.Warn("report not taken by the bus; repeating", "subject", m.Subject, "err", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}
