// Package outbox sends telemetry rows that our own processes make (publishers'
// figures, hops, probes), in the batch format of docs/contracts.md.
//
// It promises that a caller never waits, that batches have counters without
// gaps, and that one is repeated until the bus has acknowledged it; what does not
// fit the bounded queue while the bus is away is dropped, oldest first, and
// logged. It is not for players' telemetry, which needs a spool.
package outbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Settings of Rows.
type Settings struct {
	JetStream jetstream.JetStream // required
	// Role begins the producer's name.
	Role   string
	Logger *slog.Logger // default: discard
	// FlushEvery is how long rows are collected; default 1 s.
	FlushEvery time.Duration
	// MaxQueued bounds the rows waiting; default 4096.
	MaxQueued int
}

// Rows queues rows. Safe for concurrent use.
type Rows struct {
	s        Settings
	producer string

	mu      sync.Mutex
	rows    []schemas.Telemetry
	lost    int
	counter [schemas.TelemetryPartitions]uint64 // of Run alone
}

// New makes Rows; [Rows.Run] sends.
func New(s Settings) *Rows {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.FlushEvery = cmp.Or(s.FlushEvery, time.Second)
	s.MaxQueued = cmp.Or(s.MaxQueued, 4096)
	return &Rows{s: s, producer: s.Role + "-" + rand.Text()}
}

// Add queues a row; it is sent with the next flush.
func (r *Rows) Add(row schemas.Telemetry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) >= r.s.MaxQueued {
		r.rows, r.lost = append(r.rows[:0], r.rows[1:]...), r.lost+1
	}
	r.rows = append(r.rows, row)
}

// Run sends until ctx ends, then what is queued, for at most a second more.
func (r *Rows) Run(ctx context.Context) {
	t := time.NewTicker(r.s.FlushEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.send(ctx)
			continue
		case <-ctx.Done():
		}
		break
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	r.send(last)
}

func (r *Rows) send(ctx context.Context) {
	r.mu.Lock()
	rows, lost := r.rows, r.lost
	r.rows, r.lost = nil, 0
	r.mu.Unlock()
	if lost > 0 {
		r.s.Logger.Warn("telemetry rows dropped while the bus was away", "count", lost)
	}
	var parts [schemas.TelemetryPartitions][]schemas.Telemetry
	for i := range rows {
		// Rows without a session may be in any partition; a stream's stay together.
		p := schemas.TelemetryPartition(cmp.Or(rows[i].SessionID, rows[i].App+"/"+rows[i].Stream))
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
		if !Publish(ctx, r.s.JetStream, r.s.Logger, m, fmt.Sprintf("%s/%d/%s", r.producer, p, seq)) {
			r.s.Logger.Warn("telemetry rows not sent before shutdown", "rows", len(rows))
		}
	}
}

// Publish repeats until the message is acknowledged; false when ctx ended first.
func Publish(ctx context.Context, js jetstream.JetStream, logger *slog.Logger, m *nats.Msg, id string) bool {
	wait := 50 * time.Millisecond
	told := false
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := js.PublishMsg(try, m, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !told {
			told = true
			logger.Warn("report not taken by the bus; repeating", "subject", m.Subject, "err", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}
