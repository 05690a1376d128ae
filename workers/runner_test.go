package workers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers"
)

// The tests read EVENTS and publish to DECISIONS: plain streams without the media's limits.
func runner(js jetstream.JetStream, h workers.Handler) *workers.Runner {
	return &workers.Runner{
		JetStream: js, Handler: h, Role: "test", Stream: schemas.StreamEvents, FilterSubjects: []string{"events.>"},
		RetryDelay: 10 * time.Millisecond, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, r *workers.Runner) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

func publish(t *testing.T, js jetstream.JetStream, n int, data func(i int) string) {
	t.Helper()
	for i := range n {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("events.x.a.s%d", i%20), []byte(data(i))); err != nil {
			t.Fatal(err)
		}
	}
}

func stored(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func unfinished(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	c, err := js.Consumer(t.Context(), schemas.StreamEvents, "test")
	if err != nil {
		return -1
	}
	return int(c.CachedInfo().NumPending) + c.CachedInfo().NumAckPending
}

// copyOut gives one output for each message.
func copyOut(_ context.Context, m workers.Message) ([]workers.Output, error) {
	return []workers.Output{{Subject: "decisions.copy.a.s", Data: m.Data, MsgID: fmt.Sprintf("copy/%d", m.Seq)}}, nil
}

func TestRunPublishesThenAcknowledges(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	r := runner(b.JS, workers.Each(copyOut))
	r.BatchSize, r.Concurrency = 8, 2
	start(t, r)
	publish(t, b.JS, 200, func(i int) string { return fmt.Sprint(i) })
	await.True(t, "200 outputs", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 200 })
	await.True(t, "all acknowledged", func() bool { return unfinished(t, b.JS) == 0 })
}

func TestRejectedMessageIsBuriedAlone(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	publish(t, b.JS, 20, func(i int) string { return fmt.Sprint(i) })
	r := runner(b.JS, workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
		if string(m.Data) == "7" {
			return nil, fmt.Errorf("wrapped: %w", workers.Reject(errors.New("seven\nis bad")))
		}
		return copyOut(ctx, m)
	}))
	r.BatchSize, r.BatchWait = 10, 50*time.Millisecond
	start(t, r)
	await.True(t, "19 outputs", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 19 })
	await.True(t, "one dead letter", func() bool { return stored(t, b.JS, schemas.StreamDead) == 1 })
	await.True(t, "all acknowledged", func() bool { return unfinished(t, b.JS) == 0 })
	s, err := b.JS.Stream(t.Context(), schemas.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "dead.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get(schemas.HeaderReason); got != "wrapped: seven is bad" {
		t.Errorf("reason %q", got)
	}
	if got := m.Header.Get(schemas.HeaderOrigin); got != "events.x.a.s7 8" {
		t.Errorf("origin %q", got)
	}
	if string(m.Data) != "7" {
		t.Errorf("data %q", m.Data)
	}
}

func TestPoisonDoesNotHoldItsBatchMates(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	publish(t, b.JS, 10, func(i int) string { return fmt.Sprint(i) })
	var panics, attempts atomic.Int64
	r := runner(b.JS, workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
		if string(m.Data) == "3" {
			attempts.Store(int64(m.Attempt))
			if m.Attempt > 3 {
				panics.Add(1)
				panic("three again")
			}
			return nil, errors.New("not classified")
		}
		return copyOut(ctx, m)
	}))
	r.BatchSize, r.BatchWait = 10, 50*time.Millisecond
	stop := start(t, r)
	await.True(t, "the nine others", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 9 })
	await.True(t, "panics are retried too", func() bool { return panics.Load() >= 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, b.JS, schemas.StreamDead); n != 0 {
		t.Errorf("%d dead letters without MaxAttempts", n)
	}
	r2 := runner(b.JS, r.Handler)
	r2.MaxAttempts = int(attempts.Load()) + 2
	start(t, r2)
	await.True(t, "dead letter after MaxAttempts", func() bool { return stored(t, b.JS, schemas.StreamDead) == 1 })
}

func TestLongWorkIsNotGivenToAnother(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	publish(t, b.JS, 3, func(i int) string { return fmt.Sprint(i) })
	var calls atomic.Int64
	h := workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
		calls.Add(1)
		time.Sleep(700 * time.Millisecond) // the work itself: over twice AckWait
		return copyOut(ctx, m)
	})
	for range 2 {
		start(t, runner(b.JS, h))
	}
	await.True(t, "three outputs", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 3 })
	await.True(t, "all acknowledged", func() bool { return unfinished(t, b.JS) == 0 })
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls for 3 messages", n)
	}
}

func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	publish(t, b.JS, 5, func(i int) string { return fmt.Sprint(i) })
	begun, release := make(chan struct{}, 5), make(chan struct{})
	r := runner(b.JS, workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
		begun <- struct{}{}
		<-release
		return copyOut(ctx, m)
	}))
	stop := start(t, r)
	<-begun
	done := make(chan error, 1)
	go func() { done <- stop() }()
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n := stored(t, b.JS, schemas.StreamDecisions)
	if n == 0 {
		t.Error("work in flight was dropped at the stop")
	}
	start(t, runner(b.JS, workers.Each(copyOut)))
	await.True(t, "the next process does the rest", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 5 })
}

func TestDrainDeadlineEndsStuckWork(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	publish(t, b.JS, 1, func(int) string { return "x" })
	begun := make(chan struct{}, 1)
	r := runner(b.JS, workers.Each(func(ctx context.Context, _ workers.Message) ([]workers.Output, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	r.DrainDeadline = 100 * time.Millisecond
	stop := start(t, r)
	<-begun
	if err := stop(); err == nil || !strings.Contains(err.Error(), "delivered again") {
		t.Fatalf("error %v", err)
	}
}

func TestConsumerDeletionIsSurvived(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	start(t, runner(b.JS, workers.Each(copyOut)))
	publish(t, b.JS, 10, func(i int) string { return fmt.Sprint(i) })
	await.True(t, "10 outputs", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 10 })
	if err := b.JS.DeleteConsumer(t.Context(), schemas.StreamEvents, "test"); err != nil {
		t.Fatal(err)
	}
	publish(t, b.JS, 10, func(i int) string { return fmt.Sprint(i) })
	// Read again from the start: the ids keep the first ten from being stored twice.
	await.True(t, "20 outputs", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == 20 })
	await.True(t, "all acknowledged", func() bool { return unfinished(t, b.JS) == 0 })
	if n := stored(t, b.JS, schemas.StreamDecisions); n != 20 {
		t.Errorf("%d outputs", n)
	}
}

func TestBusRestartIsSurvived(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv, err := bus.Start(bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	port := srv.URL()[strings.LastIndex(srv.URL(), ":")+1:]
	nc, err := bus.Connect(srv.URL(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	start(t, runner(js, workers.Each(copyOut)))
	publish(t, js, 5, func(i int) string { return fmt.Sprint(i) })
	await.True(t, "5 outputs", func() bool { return stored(t, js, schemas.StreamDecisions) == 5 })
	srv.Stop()
	var p int
	fmt.Sscan(port, &p)
	srv, err = bus.Start(bus.Options{DataDir: dir, Port: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	await.True(t, "the connection is back", func() bool { return nc.Status() == nats.CONNECTED })
	publish(t, js, 5, func(i int) string { return fmt.Sprint(i) })
	await.True(t, "10 outputs", func() bool { return stored(t, js, schemas.StreamDecisions) == 10 })
}

// Three processes on one consumer, 20 streams with a message each 40 ms: five
// times the rate of live streams, each handled in about a millisecond.
func TestProcessesShareEvenly(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	const processes, messages = 3, 1200
	var counts [processes]atomic.Int64
	for i := range processes {
		nc, err := b.Server.Connect(fmt.Sprint("p", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		r := runner(js, workers.Each(func(ctx context.Context, m workers.Message) ([]workers.Output, error) {
			counts[i].Add(1)
			return copyOut(ctx, m)
		}))
		r.Concurrency = 2
		start(t, r)
	}
	await.True(t, "all processes wait for work", func() bool {
		c, err := b.JS.Consumer(t.Context(), schemas.StreamEvents, "test")
		return err == nil && c.CachedInfo().NumWaiting == 2*processes
	})
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < messages; i += 4 {
		<-tick.C
		for j := range 4 {
			if _, err := b.JS.PublishAsync(fmt.Sprintf("events.x.a.s%d", (i+j)%20), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	await.True(t, "all handled", func() bool { return stored(t, b.JS, schemas.StreamDecisions) == messages })
	got := []int64{counts[0].Load(), counts[1].Load(), counts[2].Load()}
	t.Log("messages by process:", got)
	if lo, hi := slices.Min(got), slices.Max(got); float64(hi-lo) > 0.15*float64(messages)/processes {
		t.Errorf("shares %v differ by more than 15 %% of the mean", got)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	if err := (&workers.Runner{}).Run(t.Context()); err == nil {
		t.Error("no error for empty settings")
	}
}
