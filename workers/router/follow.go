package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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
	wheres []schemas.Where // likewise
	// bare is when the newest decision without HeaderWhere was stored, Unix nanoseconds: a router before that header
	// made it. As long as one is in the window the bodies are read, too; 0: there was none.
	bare atomic.Int64
	// foreign counts decisions of sessions that no router of this key began.
	foreign atomic.Int64
}

// bodies says whether decisions are to be read with their bodies.
func (l *follower) bodies(now time.Time) bool {
	at := l.bare.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) < l.window
}

// sliceColumns are those that load and health look at.
var sliceColumns = schemas.SliceTable().Want(loadColumns...)

// streamColumns are they while some CDN limits the viewers of a stream.
var streamColumns = schemas.SliceTable().Want(append([]string{"app", "stream"}, loadColumns...)...)

var loadColumns = []string{"time_ms", "kind", "session_id", "cdn", "region", "isp",
	"attempts", "starts", "startup_ms", "start_failures", "played_ms", "stalled_ms", "bitrate_kbps_ms_sum", "bitrate_weight_ms", "throughput_kbps_sum", "throughput_reports",
	"requests", "request_errors", "request_bytes"}

func newFollower(js jetstream.JetStream, window time.Duration, logger *slog.Logger, signer *token.Signer) *follower {
	return &follower{Table: load.New(window, logger), js: js, window: window, logger: logger, signer: signer}
}

// run follows the streams; loaded is called once what was there has been read.
func (l *follower) run(ctx context.Context, loaded func()) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{}, 3)
	follow := func(stream, filter string, headers func() bool, handle func(jetstream.Msg) error) {
		told := sync.OnceFunc(func() { ready <- struct{}{} })
		g.Go(func() error {
			for ctx.Err() == nil {
				err := l.follow(ctx, stream, filter, headers(), handle, told)
				if errors.Is(err, errOther) {
					continue
				}
				if err != nil && ctx.Err() == nil {
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
	follow(schemas.StreamDecisions, "decisions.>", func() bool { return !l.bodies(l.Now()) }, l.onDecision)
	follow(schemas.StreamSlices, "slices.*", func() bool { return false }, l.onSlices)
	read := make(chan struct{})
	follow(schemas.StreamElsewhere, "elsewhere.*", func() bool { return false }, l.onElsewhere)
	g.Go(func() error {
		for range 3 {
			select {
			case <-ready:
			case <-ctx.Done():
				return nil
			}
		}
		close(read)
		loaded()
		return nil
	})
	g.Go(func() error {
		// Not before all is known: audiences that are being read look like crowds that come.
		select {
		case <-read:
		case <-ctx.Done():
			return nil
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				l.Tick(l.Now())
			}
		}
	})
	return g.Wait()
}

// errOther ends a reading that is to begin again the other way: with bodies, or without.
var errOther = errors.New("to be read another way")

// follow reads a stream, or the messages' headers alone, from one window ago on,
// until ctx ends, the consumer fails, or a message is refused with errOther. told is called once what was there has been read.
func (l *follower) follow(ctx context.Context, stream, filter string, headers bool, handle func(jetstream.Msg) error, told func()) error {
	s, err := l.js.Stream(ctx, schemas.StreamSlices)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	since := l.Since(s.CachedInfo().State.LastTime)
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
	if info.NumPending == 0 {
		told()
	}
	stopped, other := make(chan error, 1), make(chan struct{})
	refused := false
	cc, err := c.Consume(func(m jetstream.Msg) {
		if refused {
			return
		}
		if handle(m) != nil {
			refused = true
			close(other)
			return
		}
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
	case <-other:
		cc.Stop()
		<-stopped
		return errOther
	case err := <-stopped:
		return err
	}
}

// onDecision notes where a session was sent. Routers before HeaderWhere say it in the body alone: in a rolling upgrade
// their decisions count like the others.
func (l *follower) onDecision(m jetstream.Msg) error {
	md, err := m.Metadata()
	if err != nil || strings.HasPrefix(m.Subject(), publishers) {
		return nil
	}
	h := m.Headers()
	values, told := h[schemas.HeaderWhere]
	if !told {
		return l.onBare(m, md.Timestamp)
	}
	var k schemas.StreamKey
	if l.CountsStreams() {
		k = schemas.ParseDecisionSubject(m.Subject())
	}
	l.onWheres(values, k, md.Timestamp.Add(-schemas.Waited(h)), h.Get(schemas.HeaderPath) != "")
	if !l.bodies(l.Now()) && l.bare.Swap(0) != 0 {
		return errOther
	}
	return nil
}

// onWheres notes where sessions were sent by the decisions of one message, all of one stream. at is
// when the newest of them was made, by the bus's clock: the others are as much older
// as their router says. Of those that are from elsewhere, from a region below, what
// no router of this key began does not count.
func (l *follower) onWheres(values []string, k schemas.StreamKey, at time.Time, elsewhere bool) {
	var newestUs int64
	l.wheres, newestUs = schemas.ReadWheres(l.wheres[:0], values)
	for i := range l.wheres {
		w := &l.wheres[i]
		if elsewhere && !l.ours(w.SessionID) {
			l.passOver(w)
			continue
		}
		l.Decided(factOf(w, k), at.Add(-w.OlderThan(newestUs)))
	}
}

// publishers is what subjects of publishers' decisions begin with; those send no session.
const publishers = "decisions." + string(schemas.DecisionPublish) + "."

func (l *follower) onBare(m jetstream.Msg, stored time.Time) error {
	before := l.bodies(l.Now())
	if at := stored.UnixNano(); at > l.bare.Load() {
		l.bare.Store(at)
	}
	if len(m.Data()) == 0 {
		if !before && l.bodies(l.Now()) {
			l.logger.Info("decisions of a router of an older version: their bodies are read, too")
			return errOther
		}
		return nil
	}
	var d schemas.Decision
	if err := schemas.DecodeRecord(m.Data(), &d); err != nil {
		return nil // the loader tells about it
	}
	h := m.Headers()
	if w, ok := d.Where(); ok && h.Get(schemas.HeaderPath) != "" && !l.ours(w.SessionID) {
		l.passOver(&w)
	} else if ok {
		l.Decided(factOf(&w, schemas.StreamKey{App: d.App, Stream: d.Stream}), stored.Add(-schemas.Waited(h)))
	}
	return nil
}

func factOf(w *schemas.Where, k schemas.StreamKey) *load.Fact {
	return &load.Fact{ID: w.SessionID, CDN: w.CDN, Region: w.Region, Group: w.Group, Stream: k, At: time.UnixMicro(w.TimeUs)}
}

// yieldEvery is how many slices are folded in one go, about 0.1 ms.
const yieldEvery = 32

func (l *follower) onSlices(m jetstream.Msg) error {
	md, err := m.Metadata()
	if err != nil {
		return nil
	}
	columns := sliceColumns
	if l.CountsStreams() {
		columns = streamColumns
	}
	if l.rows, err = schemas.SliceTable().DecodeColumns(m.Data(), columns, l.rows[:0]); err != nil {
		return nil // the loader tells about it
	}
	slices, at := l.rows, md.Timestamp.Add(-schemas.Waited(m.Headers())) // from another region they are older than this bus has them
	for i := range slices {
		s := &slices[i]
		if i%yieldEvery == yieldEvery-1 {
			runtime.Gosched() // who asks need not wait until a whole message is folded
		}
		switch {
		case !l.ours(s.SessionID):
			// A foreign player's own, whose session counts under the id in its token, or one that is made up.
		case s.Kind == schemas.SliceFinal:
			l.Ended(s, at)
		default:
			l.Served(s, at)
		}
	}
	return nil
}
