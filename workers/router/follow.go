package router

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/load"
)

// follower is the load as the bus tells it.
type follower struct {
	*load.Table
	js     jetstream.JetStream
	window time.Duration
	logger *slog.Logger
	signer *token.Signer
	rows   []schemas.Slice // memory of the last message's
}

// sliceColumns are those that load and health look at.
var sliceColumns = schemas.SliceTable().Want("time_ms", "kind", "session_id", "cdn", "region", "isp",
	"attempts", "starts", "startup_ms", "start_failures", "played_ms", "stalled_ms", "bitrate_kbps_ms_sum", "bitrate_weight_ms", "throughput_kbps_sum", "throughput_reports",
	"requests", "request_errors", "request_bytes")

func newFollower(js jetstream.JetStream, window time.Duration, logger *slog.Logger, signer *token.Signer) *follower {
	return &follower{Table: load.New(window, logger), js: js, window: window, logger: logger, signer: signer}
}

// run follows both streams; loaded is called once what was there has been read.
func (l *follower) run(ctx context.Context, loaded func()) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{}, 2)
	follow := func(stream, filter string, headers bool, handle func(jetstream.Msg)) {
		g.Go(func() error {
			for ctx.Err() == nil {
				if err := l.follow(ctx, stream, filter, headers, handle, ready); err != nil && ctx.Err() == nil {
					l.logger.Warn("follow stream: trying again", "stream", stream, "err", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
			return nil
		})
	}
	follow(schemas.StreamDecisions, "decisions.>", true, l.onDecision)
	follow(schemas.StreamSlices, "slices.*", false, l.onSlices)
	g.Go(func() error {
		for range 2 {
			select {
			case <-ready:
			case <-ctx.Done():
				return nil
			}
		}
		loaded()
		return nil
	})
	g.Go(func() error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-tick.C:
				l.Tick(now)
			}
		}
	})
	return g.Wait()
}

// follow reads a stream, or the messages' headers alone, from one window ago on,
// until ctx ends or the consumer fails.
func (l *follower) follow(ctx context.Context, stream, filter string, headers bool, handle func(jetstream.Msg), ready chan<- struct{}) error {
	since := time.Now().Add(-l.window)
	c, err := l.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
		InactiveThreshold: time.Minute, HeadersOnly: headers,
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	info, err := c.Info(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	var once sync.Once
	told := func() {
		once.Do(func() {
			select {
			case ready <- struct{}{}:
			default:
			}
		})
	}
	if info.NumPending == 0 {
		told()
	}
	stopped := make(chan error, 1)
	cc, err := c.Consume(func(m jetstream.Msg) {
		handle(m)
		if md, err := m.Metadata(); err == nil && md.NumPending == 0 {
			told()
		}
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		l.logger.Debug("follow stream", "stream", stream, "err", err)
	}))
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	go func() { <-cc.Closed(); stopped <- fmt.Errorf("reading %s ended", stream) }()
	select {
	case <-ctx.Done():
		cc.Stop()
		<-stopped
		return nil
	case err := <-stopped:
		return err
	}
}

func (l *follower) onDecision(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		return
	}
	w, err := schemas.ParseWhere(m.Headers().Get(schemas.HeaderWhere))
	if err != nil {
		return // a publisher's
	}
	l.Decided(factOf(&w), md.Timestamp.Add(-waited(m)))
}

func factOf(w *schemas.Where) *load.Fact {
	return &load.Fact{ID: w.SessionID, CDN: w.CDN, Region: w.Region, Group: w.Group, At: time.UnixMicro(w.TimeUs)}
}

// waited is how long a decision waited for the bus, by its router's clock: one
// that was published again does not come after what was decided meanwhile.
func waited(m jetstream.Msg) time.Duration {
	ms, err := strconv.ParseInt(m.Headers().Get(schemas.HeaderWaitedMs), 10, 64)
	if err != nil || ms < 0 || ms > time.Hour.Milliseconds() {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func (l *follower) onSlices(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		return
	}
	if l.rows, err = schemas.SliceTable().DecodeColumns(m.Data(), sliceColumns, l.rows[:0]); err != nil {
		return // the loader tells about it
	}
	slices := l.rows
	for i := range slices {
		s := &slices[i]
		switch {
		case !l.Knows(s.SessionID) && !l.signer.IsSessionID(s.SessionID):
			// A foreign player's own, whose session counts under the id in its token, or one that is made up.
		case s.Kind == schemas.SliceFinal:
			l.Ended(s, md.Timestamp)
		default:
			l.Served(s, md.Timestamp)
		}
	}
}
