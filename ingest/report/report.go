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
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/outbox"
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
	s    Settings
	rows *outbox.Rows
	wake chan struct{}

	mu     sync.Mutex
	events []*schemas.Event
	lost   int
}

// New makes a Reporter; [Reporter.Run] sends.
func New(s Settings) (*Reporter, error) {
	if s.JetStream == nil {
		return nil, errors.New("report: JetStream is nil")
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.MaxQueued == 0 {
		s.MaxQueued = 4096
	}
	rows := outbox.New(outbox.Settings{JetStream: s.JetStream, Role: "ingest", Logger: s.Logger, FlushEvery: s.FlushEvery, MaxQueued: s.MaxQueued})
	return &Reporter{s: s, rows: rows, wake: make(chan struct{}, 1)}, nil
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
func (r *Reporter) Telemetry(row schemas.Telemetry) { r.rows.Add(row) }

// Run sends until ctx ends, then what is queued, for at most a second more.
func (r *Reporter) Run(ctx context.Context) error {
	var rows sync.WaitGroup
	rows.Go(func() { r.rows.Run(ctx) })
	defer rows.Wait()
	for r.wait(ctx) {
		r.sendEvents(ctx)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	r.sendEvents(last)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.events); n > 0 {
		r.s.Logger.Warn("reports not sent before shutdown", "count", n)
	}
	return nil
}

func (r *Reporter) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
		return true
	}
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
		if !outbox.Publish(ctx, r.s.JetStream, r.s.Logger, m, "e/"+e.ID) {
			r.mu.Lock()
			r.events = append([]*schemas.Event{e}, r.events...)
			r.mu.Unlock()
			return
		}
	}
}
