package router

import (
	"context"
	"encoding/json"
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
}

func newFollower(js jetstream.JetStream, window time.Duration, logger *slog.Logger, signer *token.Signer) *follower {
	return &follower{load.New(window, logger), js, window, logger, signer}
}

// run follows both streams; loaded is called once what was there has been read.
func (l *follower) run(ctx context.Context, loaded func()) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{}, 2)
	follow := func(stream, filter string, handle func(jetstream.Msg)) {
		g.Go(func() error {
			for ctx.Err() == nil {
				if err := l.follow(ctx, stream, filter, handle, ready); err != nil && ctx.Err() == nil {
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
	follow(schemas.StreamDecisions, "decisions.>", l.onDecision)
	follow(schemas.StreamSlices, "slices.*", l.onSlices)
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

// follow reads a stream from one window ago on, until ctx ends or the consumer fails.
func (l *follower) follow(ctx context.Context, stream, filter string, handle func(jetstream.Msg), ready chan<- struct{}) error {
	since := time.Now().Add(-l.window)
	c, err := l.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
		InactiveThreshold: time.Minute,
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
	// Only what is needed: candidates make up most of a decision.
	var d struct {
		TimeUs    int64                `json:"time_us"`
		Kind      schemas.DecisionKind `json:"kind"`
		SessionID string               `json:"session_id"`
		Region    string               `json:"region"`
		Group     uint8                `json:"group"`
		Chosen    string               `json:"chosen"`
	}
	md, err := m.Metadata()
	if err != nil || json.Unmarshal(m.Data(), &d) != nil {
		return // the loader tells about it
	}
	switch d.Kind {
	case schemas.DecisionDispatch, schemas.DecisionMultivariant, schemas.DecisionSteering:
		l.Decided(&load.Fact{ID: d.SessionID, CDN: d.Chosen, Region: d.Region, Group: d.Group, At: time.UnixMicro(d.TimeUs)}, md.Timestamp.Add(-waited(m)))
	}
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
	slices, err := schemas.DecodeSlices(m.Data())
	if err != nil {
		return // likewise
	}
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
