package router

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// maxSessions bounds the sessions a router remembers; about 300 bytes each.
const maxSessions = 2_000_000

// load knows which session is on which CDN. It is a fold over two bus streams,
// DECISIONS (what routers answered) and SLICES (what was served), from
// AliveWindow ago on, so routers that read the same come to the same. A
// router's own answers are applied at once and again when they come back, which
// changes nothing.
type load struct {
	js     jetstream.JetStream
	window time.Duration
	logger *slog.Logger

	mu       sync.Mutex
	sessions map[string]*session
	counts   map[string]int // by CDN
	newest   time.Time      // of the inputs
	swept    time.Time
	full     bool // maxSessions was reached, and said
}

// session is one playback session as far as load is concerned.
type session struct {
	cdn  string
	seen time.Time // last sign of life
	// stored is when the last decision about it was stored; zero if it is known from slices only.
	stored time.Time
}

func newLoad(js jetstream.JetStream, window time.Duration, logger *slog.Logger) *load {
	return &load{js: js, window: window, logger: logger, sessions: map[string]*session{}, counts: map[string]int{}}
}

// decided notes a decision.
func (l *load) decided(id, cdn string, at time.Time) {
	if id == "" || cdn == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.touch(id, at); s != nil {
		if !at.Before(s.stored) {
			s.stored = at
			l.move(s, cdn)
		}
	}
}

// served notes that a session was served by cdn (empty: unknown).
func (l *load) served(id, cdn string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions[id]; s == nil && cdn == "" {
		return
	}
	if s := l.touch(id, at); s != nil && cdn != "" && !at.Before(s.stored) {
		l.move(s, cdn)
	}
}

// ended forgets a session, unless it was decided about after the end.
func (l *load) ended(id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions[id]; s != nil && s.stored.Before(at) {
		l.forget(id, s)
	}
}

// touch finds or makes a session; nil when it is past the window or there are too many. l.mu is held.
func (l *load) touch(id string, at time.Time) *session {
	if at.After(l.newest) {
		l.newest = at
	}
	s := l.sessions[id]
	if s == nil {
		if time.Since(at) > l.window {
			return nil
		}
		if len(l.sessions) >= maxSessions {
			if !l.full {
				l.logger.Error("router knows too many sessions: further ones are not counted", "sessions", len(l.sessions))
			}
			l.full = true
			return nil
		}
		s = &session{}
		l.sessions[id] = s
	}
	if at.After(s.seen) {
		s.seen = at
	}
	return s
}

func (l *load) move(s *session, cdn string) {
	if s.cdn == cdn {
		return
	}
	l.uncount(s.cdn)
	s.cdn = cdn
	l.counts[cdn]++
}

func (l *load) uncount(cdn string) {
	if cdn == "" {
		return
	}
	if l.counts[cdn]--; l.counts[cdn] <= 0 {
		delete(l.counts, cdn)
	}
}

func (l *load) forget(id string, s *session) {
	l.uncount(s.cdn)
	delete(l.sessions, id)
}

// sweep forgets sessions without a sign of life, once a second. l.mu is held.
func (l *load) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for id, s := range l.sessions {
		if now.Sub(s.seen) > l.window {
			l.forget(id, s)
		}
	}
	l.full = l.full && len(l.sessions) >= maxSessions
}

// viewers counts sessions by CDN. The map is the caller's.
func (l *load) viewers(now time.Time) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	out := make(map[string]int, len(l.counts))
	for c, n := range l.counts {
		out[c] = n
	}
	return out
}

// where tells which CDN a session is on and when a decision about it was last stored.
func (l *load) where(id string) (cdn string, stored time.Time, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[id]
	if s == nil {
		return "", time.Time{}, false
	}
	return s.cdn, s.stored, true
}

// ageMs is how old the newest input is, milliseconds; -1 without any.
func (l *load) ageMs(now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest.IsZero() {
		return -1
	}
	return max(now.Sub(l.newest).Milliseconds(), 0)
}

// run follows both streams; loaded is called once what was there has been read.
func (l *load) run(ctx context.Context, loaded func()) error {
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
	return g.Wait()
}

// follow reads a stream from one window ago on, until ctx ends or the consumer fails.
func (l *load) follow(ctx context.Context, stream, filter string, handle func(jetstream.Msg), ready chan<- struct{}) error {
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

func (l *load) onDecision(m jetstream.Msg) {
	// Only what is needed: candidates make up most of a decision.
	var d struct {
		TimeUs    int64                `json:"time_us"`
		Kind      schemas.DecisionKind `json:"kind"`
		SessionID string               `json:"session_id"`
		Chosen    string               `json:"chosen"`
	}
	if json.Unmarshal(m.Data(), &d) != nil {
		return // the loader tells about it
	}
	switch d.Kind {
	case schemas.DecisionDispatch, schemas.DecisionMultivariant, schemas.DecisionSteering:
		l.decided(d.SessionID, d.Chosen, time.UnixMicro(d.TimeUs))
	}
}

func (l *load) onSlices(m jetstream.Msg) {
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
		case !ourSession(s.SessionID):
		case s.Kind == schemas.SliceFinal:
			l.ended(s.SessionID, md.Timestamp)
		default:
			l.served(s.SessionID, s.CDN, md.Timestamp)
		}
	}
}

// ourSession tells ids made by newSessionID from those of foreign players: the
// latter's sessions are counted under the id in their token, not a second time.
func ourSession(id string) bool {
	return len(id) == 27 && id[0] == 's' && strings.IndexFunc(id[1:], func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '2' || r > '7')
	}) < 0
}
