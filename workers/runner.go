package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
)

// Runner pulls messages from one durable consumer, gives them to a Handler,
// publishes what it returns and acknowledges. Fill in the fields and call Run.
type Runner struct {
	JetStream jetstream.JetStream
	Handler   Handler
	// Role names the worker in metrics, logs and dead.<role>.
	Role string
	// Stream is the JetStream stream to read; Consumer the durable consumer, default Role.
	Stream   string
	Consumer string
	// FilterSubjects limit what is read; empty means all of the stream.
	FilterSubjects []string
	// DeliverNew starts a consumer that does not exist yet at new messages
	// instead of the oldest kept one.
	DeliverNew bool
	// HeadersOnly delivers messages without their data, for handlers that need
	// the data of few: one pass of 32 KiB messages costs about 4 CPU seconds a GB.
	// It is fixed when the consumer is first made.
	HeadersOnly bool
	// AckWait is how long the work of a process that died waits for another:
	// default 300 ms. Work that takes longer is kept by progress reports.
	AckWait time.Duration
	// BatchSize is the most messages one Handle call gets; default 1. No more
	// than that is ever requested ahead by a goroutine, so processes share evenly.
	BatchSize int
	// BatchWait is how long a batch waits for more after its first message; default 1 ms.
	BatchWait time.Duration
	// Concurrency is the number of Handle calls at once; default 1.
	Concurrency int
	// MaxAckPending bounds unacknowledged messages over all processes; default 1024.
	MaxAckPending int
	// RetryDelay is the wait before the second attempt, doubled for each further
	// one up to MaxRetryDelay; defaults 100 ms and 30 s.
	RetryDelay, MaxRetryDelay time.Duration
	// MaxAttempts dead-letters a message that failed this often; 0 means never.
	MaxAttempts int
	// PublishTimeout bounds the wait for the bus's acknowledgement of outputs; default 5 s.
	PublishTimeout time.Duration
	// DrainDeadline is how long running work may go on after the end of Run's
	// context; default 5 s.
	DrainDeadline time.Duration
	Logger        *slog.Logger
	Registerer    prometheus.Registerer

	m *metrics
}

// splitAfter is the attempt from which a message is handled alone, so that one
// that always fails does not hold its batch-mates.
const splitAfter = 2

func (r *Runner) defaults() error {
	if r.JetStream == nil || r.Handler == nil {
		return errors.New("runner: JetStream and Handler are required")
	}
	if err := schemas.CheckName("role", r.Role); err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	if r.Stream == "" {
		return errors.New("runner: Stream is required")
	}
	def(&r.Consumer, r.Role)
	def(&r.AckWait, 300*time.Millisecond)
	def(&r.BatchSize, 1)
	def(&r.BatchWait, time.Millisecond)
	def(&r.Concurrency, 1)
	def(&r.MaxAckPending, 1024)
	def(&r.RetryDelay, 100*time.Millisecond)
	def(&r.MaxRetryDelay, 30*time.Second)
	def(&r.PublishTimeout, 5*time.Second)
	def(&r.DrainDeadline, 5*time.Second)
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	r.Logger = r.Logger.With("role", r.Role)
	m, err := newMetrics(r.Registerer, r.Role)
	if err != nil {
		return fmt.Errorf("register metrics of %s: %w", r.Role, err)
	}
	r.m = m
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run works until ctx ends, then stops pulling, finishes what is in flight and
// returns nil; an error means the settings are wrong or the drain deadline
// passed. Loss of the bus or of the consumer is survived: the consumer is made
// again.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.defaults(); err != nil {
		return err
	}
	// Handlers outlive ctx by the drain deadline.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(r.DrainDeadline, cancel)
		context.AfterFunc(work, func() { t.Stop() })
	})
	defer stop()

	var wg sync.WaitGroup
	for range r.Concurrency {
		wg.Go(func() { r.loop(ctx, work) })
	}
	wg.Go(func() { r.watch(ctx) })
	wg.Wait()
	if work.Err() != nil {
		return fmt.Errorf("%s: work was still running %v after the stop; it will be delivered again", r.Role, r.DrainDeadline)
	}
	return nil
}

func (r *Runner) consumer(ctx context.Context) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Durable: r.Consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: r.AckWait,
		MaxAckPending: r.MaxAckPending, MaxDeliver: -1, FilterSubjects: r.FilterSubjects, HeadersOnly: r.HeadersOnly,
		Description: "worker " + r.Role,
	}
	if r.DeliverNew {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := r.JetStream.CreateOrUpdateConsumer(ctx, r.Stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", r.Consumer, r.Stream, err)
	}
	return c, nil
}

// loop keeps an iterator open until ctx ends, making it again after every
// error; it logs once when trouble starts and once when it is over.
func (r *Runner) loop(ctx, work context.Context) {
	trouble := false
	delay := 50 * time.Millisecond
	for ctx.Err() == nil {
		err := r.pull(ctx, work, func() {
			if trouble {
				r.Logger.Info("pulling again")
			}
			trouble, delay = false, 50*time.Millisecond
		})
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !trouble {
			r.Logger.Warn("cannot pull; trying on", "err", err)
			trouble = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 2*time.Second)
	}
}

// pull handles messages until ctx ends (nil) or the iterator breaks.
// It never requests more than one batch ahead and asks for the next only when
// it is done with the last: the server deals messages out in turn to the
// requests it holds, so idle processes get equal shares and a busy one none.
func (r *Runner) pull(ctx, work context.Context, opened func()) error {
	c, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	it, err := c.Messages(jetstream.PullMaxMessages(r.BatchSize), jetstream.PullThresholdMessages(1),
		jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		return fmt.Errorf("pull from %s: %w", r.Consumer, err)
	}
	defer r.giveBack(it)
	opened()
	batch := make([]jetstream.Msg, 0, r.BatchSize)
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("pull from %s: %w", r.Consumer, err)
		}
		batch = append(batch[:0], m)
		var broken error
		for len(batch) < r.BatchSize {
			m, err := it.Next(jetstream.NextMaxWait(r.BatchWait))
			if err != nil {
				if !errors.Is(err, nats.ErrTimeout) {
					broken = err
				}
				break
			}
			batch = append(batch, m)
		}
		r.process(work, batch)
		if broken != nil {
			return fmt.Errorf("pull from %s: %w", r.Consumer, broken)
		}
	}
}

// giveBack closes the iterator and returns what it had received ahead, so that
// another process need not wait for AckWait.
func (r *Runner) giveBack(it jetstream.MessagesContext) {
	it.Drain()
	for {
		m, err := it.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			it.Stop()
			return
		}
		if err := m.Nak(); err != nil {
			r.Logger.Debug("give back", "err", err)
		}
	}
}

// watch exports the lag and reports a stall: work waiting and none done.
func (r *Runner) watch(ctx context.Context) {
	const every, limit = 5 * time.Second, 30 * time.Second
	t := time.NewTicker(every)
	defer t.Stop()
	var acked uint64
	var since time.Time
	reported := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c, err := r.JetStream.Consumer(ctx, r.Stream, r.Consumer)
		if err != nil {
			continue // the loops report trouble with the bus
		}
		info := c.CachedInfo()
		r.m.lag.Set(float64(info.NumPending))
		r.m.unacked.Set(float64(info.NumAckPending))
		if since.IsZero() || info.AckFloor.Consumer != acked || info.NumPending+uint64(info.NumAckPending) == 0 {
			acked, since = info.AckFloor.Consumer, time.Now()
			if reported {
				r.Logger.Info("work goes on")
				reported = false
			}
			continue
		}
		if !reported && time.Since(since) > limit {
			r.Logger.Error("nothing was finished though work waits", "for", time.Since(since).Round(time.Second),
				"waiting", info.NumPending, "unacknowledged", info.NumAckPending)
			reported = true
		}
	}
}
