package sink

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// Settings of a Sink.
type Settings struct {
	JS jetstream.JetStream
	// SpoolDir is this sink's own directory; required.
	SpoolDir string
	// MaxSpoolBytes bounds the spool; default 1 GiB.
	MaxSpoolBytes int64
	// BatchRows is the most rows of a batch; default 4,000.
	BatchRows int
	// FlushAfter is the longest that a row waits for others; default 200 ms: at 80,000 rows a second a batch then
	// has 1,000, and encoding and decoding it cost a third of what they do at 300.
	FlushAfter time.Duration
	// SpoolAfter is how long the bus may keep a batch waiting before it goes to the spool; default 1 s.
	SpoolAfter time.Duration
	// MaxQueuedRows bounds the rows in memory, for each partition; default four batches.
	MaxQueuedRows int
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// Errors of Put.
var (
	// ErrFull: neither bus nor spool takes rows now. The rows are not kept.
	ErrFull = errors.New("neither bus nor spool can take telemetry")
	// ErrClosed: Run has ended or is ending.
	ErrClosed = errors.New("telemetry sink is closed")
)

// Sink takes rows. Safe for concurrent use.
type Sink struct {
	s        Settings
	m        *metrics
	producer string
	spool    *spool
	spooled  atomic.Int64 // bytes
	parts    [schemas.TelemetryPartitions]*partition
	// complain keeps a long overload from filling the log.
	complain rate.Sometimes
}

// partition gathers rows. Its goroutine alone gives out counters and publishes.
type partition struct {
	num  int
	seq  uint64 // of the last batch; goroutine only
	wake chan struct{}

	mu     sync.Mutex
	usual  int        // rows of the last batch: room for the next
	queue  []*pending // the last one takes rows
	rows   int        // in queue
	closed bool
	free   [][]schemas.Telemetry
}

// pending is a batch that is being gathered.
type pending struct {
	rows  []schemas.Telemetry
	since time.Time
	done  chan struct{}
	err   error // set before done is closed
}

// New opens the spool. Rows are taken once Run runs; those put before wait.
func New(s Settings) (*Sink, error) {
	if s.JS == nil || s.SpoolDir == "" {
		return nil, errors.New("new telemetry sink: JS and SpoolDir are needed")
	}
	s.MaxSpoolBytes = cmp.Or(s.MaxSpoolBytes, 1<<30)
	s.BatchRows = cmp.Or(s.BatchRows, 4000)
	s.FlushAfter = cmp.Or(s.FlushAfter, 200*time.Millisecond)
	s.SpoolAfter = cmp.Or(s.SpoolAfter, time.Second)
	s.MaxQueuedRows = cmp.Or(s.MaxQueuedRows, 4*s.BatchRows)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, fmt.Errorf("new telemetry sink: %w", err)
	}
	k := &Sink{s: s, m: m, producer: rand.Text(), complain: rate.Sometimes{First: 1, Interval: 5 * time.Second}}
	if k.spool, err = openSpool(s.SpoolDir, s.MaxSpoolBytes, k.producer, func(n int64) { m.spoolBytes.Set(float64(n)); k.spooled.Store(n) }); err != nil {
		return nil, err
	}
	if n := k.spool.bytes; n > 0 {
		s.Logger.Info("telemetry spool of an earlier run is replayed", "bytes", n)
	}
	for i := range k.parts {
		k.parts[i] = &partition{num: i, wake: make(chan struct{}, 1)}
	}
	return k, nil
}

// Producer is the random id under which this sink's batches are published.
func (k *Sink) Producer() string { return k.producer }

// Pressed reports whether the spool is three quarters full, so that who has rows
// that matter less should keep them back.
func (k *Sink) Pressed() bool { return k.spooled.Load() > k.s.MaxSpoolBytes/4*3 }

// Put takes rows and waits until all are on the bus or in the spool. The rows
// are copied. On an error some of them may be kept: who repeats them may repeat
// rows, which readers must recognise by their content. When ctx ends first, the
// rows are kept all the same.
func (k *Sink) Put(ctx context.Context, rows []schemas.Telemetry) error {
	var waits [schemas.TelemetryPartitions]*pending
	var more []*pending // further batches of the same partitions
	var err error
	for i := 0; i < len(rows); {
		sid := rows[i].SessionID
		j := i + 1
		for j < len(rows) && rows[j].SessionID == sid {
			j++
		}
		p := k.parts[schemas.TelemetryPartition(sid)]
		for i < j {
			b, n, e := p.add(rows[i:j], &k.s)
			if e != nil {
				err = e
				k.m.refused.Add(float64(j - i))
				i = j
				break
			}
			switch waits[p.num] {
			case nil, b:
			default:
				more = append(more, waits[p.num])
			}
			waits[p.num] = b
			i += n
		}
	}
	for _, b := range waits {
		if b != nil {
			more = append(more, b)
		}
	}
	for _, b := range more {
		select {
		case <-b.done:
			err = errors.Join(err, b.err)
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	return err
}

// add copies rows into the batch being gathered, as many as fit, and gives that batch and their number.
func (p *partition) add(rows []schemas.Telemetry, s *Settings) (*pending, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0, ErrClosed
	}
	if p.rows >= s.MaxQueuedRows {
		return nil, 0, ErrFull
	}
	var b *pending
	if n := len(p.queue); n > 0 && len(p.queue[n-1].rows) < s.BatchRows {
		b = p.queue[n-1]
	} else {
		b = &pending{since: time.Now(), done: make(chan struct{})}
		if n := len(p.free); n > 0 {
			b.rows, p.free = p.free[n-1], p.free[:n-1]
		}
		b.rows = slices.Grow(b.rows, min(p.usual+p.usual/8, s.BatchRows)) // growing bit by bit copies large rows again and again
		p.queue = append(p.queue, b)
	}
	first := len(b.rows) == 0
	n := min(len(rows), s.BatchRows-len(b.rows))
	b.rows = append(b.rows, rows[:n]...)
	p.rows += n
	if first || len(b.rows) == s.BatchRows {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return b, n, nil
}

// Run publishes until ctx ends; then it takes no more rows, makes those it has
// durable, and returns nil.
func (k *Sink) Run(ctx context.Context) error {
	drainCtx, stopDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrain()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		k.drain(drainCtx)
	}()
	var wg sync.WaitGroup
	for _, p := range k.parts {
		wg.Go(func() { k.work(ctx, p) })
	}
	wg.Wait()
	stopDrain()
	<-drained
	k.spool.close()
	return nil
}

// work makes batches durable, one after the other, until ctx has ended and none is left.
func (k *Sink) work(ctx context.Context, p *partition) {
	// The timer is the clock of the batch in front; a full batch does not wait for it.
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b, wait := p.front(&k.s, ctx.Err() != nil)
		switch {
		case b != nil:
			b.err = k.store(p, b.rows)
			close(b.done)
			p.release(b, k.s.BatchRows)
			continue
		case ctx.Err() != nil:
			return // front has closed the partition
		case wait > 0:
			timer.Reset(wait)
		}
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// front takes the oldest batch out of the queue if it is due, or says how long
// it is until then. When last is set every batch is due, and an empty queue is closed.
func (p *partition) front(s *Settings, last bool) (*pending, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.closed = p.closed || last
		return nil, 0
	}
	b := p.queue[0]
	if wait := s.FlushAfter - time.Since(b.since); wait > 0 && !last && len(b.rows) < s.BatchRows {
		return nil, wait
	}
	p.queue = append(p.queue[:0], p.queue[1:]...)
	p.rows -= len(b.rows)
	p.usual = len(b.rows)
	return b, 0
}

// release keeps the row slice of a stored batch for the next one.
func (p *partition) release(b *pending, limit int) {
	clear(b.rows)
	rows := b.rows[:0]
	b.rows = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 2 && cap(rows) <= 2*limit {
		p.free = append(p.free, rows)
	}
}

// store makes rows durable, in as many messages as their size asks for.
func (k *Sink) store(p *partition, rows []schemas.Telemetry) error {
	data, err := schemas.EncodeTelemetry(rows)
	if err != nil {
		k.m.refused.Add(float64(len(rows)))
		return fmt.Errorf("make telemetry durable: %w", err)
	}
	if len(data) > schemas.MaxPayloadBytes && len(rows) > 1 {
		h := len(rows) / 2
		return errors.Join(k.store(p, rows[:h]), k.store(p, rows[h:]))
	}
	p.seq++
	b := &batch{partition: p.num, producer: k.producer, seq: p.seq, rows: len(rows), data: data}
	k.m.batchRows.Observe(float64(b.rows))
	// Order matters within a partition: what is behind a batch in the spool goes there too.
	if !k.spool.waiting(p.num) && k.tryBus(b) {
		k.count(wayBus, b)
		return nil
	}
	if err := k.spool.append(b); err != nil {
		// The batch may be on the bus without our knowing, so its counter is
		// spent and readers see a gap.
		k.m.refused.Add(float64(b.rows))
		k.complain.Do(func() { k.s.Logger.Error("telemetry rows are refused", "rows", b.rows, "err", err) })
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	k.count(waySpool, b)
	return nil
}

func (k *Sink) count(way string, b *batch) {
	k.m.batches.WithLabelValues(way).Inc()
	k.m.rows.WithLabelValues(way).Add(float64(b.rows))
}

// tryBus publishes for at most SpoolAfter. Its own deadline holds even while
// the sink is being stopped.
func (k *Sink) tryBus(b *batch) bool {
	ctx, cancel := context.WithTimeout(context.Background(), k.s.SpoolAfter)
	defer cancel()
	for ctx.Err() == nil {
		if k.s.JS.Conn().Status() != nats.CONNECTED {
			return false
		}
		err := k.publish(ctx, b)
		if err == nil {
			return true
		}
		k.m.failures.Inc()
		if refused(err) {
			return false
		}
		_ = nap.For(ctx, 20*time.Millisecond)
	}
	return false
}

func (k *Sink) publish(ctx context.Context, b *batch) error {
	seq := strconv.FormatUint(b.seq, 10)
	msg := &nats.Msg{Subject: schemas.TelemetrySubject(b.partition), Data: b.data, Header: nats.Header{
		schemas.HeaderProducer:    {b.producer},
		schemas.HeaderProducerSeq: {seq},
		schemas.HeaderRows:        {strconv.Itoa(b.rows)},
		jetstream.MsgIDHeader:     {b.producer + "/" + strconv.Itoa(b.partition) + "/" + seq},
	}}
	start := time.Now()
	if _, err := k.s.JS.PublishMsg(ctx, msg, jetstream.WithExpectStream(schemas.StreamTelemetry)); err != nil {
		return fmt.Errorf("publish telemetry batch: %w", err)
	}
	k.m.publish.Observe(time.Since(start).Seconds())
	return nil
}

// refused reports whether the bus answered with a refusal, so that repeating at once is no use.
func refused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) || errors.Is(err, nats.ErrMaxPayload)
}
