package busclock_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/busclock"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// stored is when the bus stores a message that is published now.
func stored(t *testing.T, js jetstream.JetStream) time.Time {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "decisions.dispatch.live.x", Data: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), ack.Stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	return m.Time
}

// TestClock: whatever our own clock says and is set to, the time is that of the
// bus's stamps; it runs on while the bus is away.
func TestClock(t *testing.T) {
	b := bustest.Start(t)
	var skew atomic.Int64
	own := func() time.Time { return time.Now().Round(0).Add(time.Duration(skew.Load())) } // no monotonic reading: it is set as it says
	log := running.NewLog(t)
	c := busclock.New(busclock.Settings{JS: b.JS, Stream: schemas.StreamDecisions, Own: own, Logger: log.Logger()})
	if d := c.Now().Sub(own()); d.Abs() > time.Minute || c.Ahead() != 0 {
		t.Errorf("before it was set it is %v from our own, and says %v", d, c.Ahead())
	}
	right := func(what string, ahead time.Duration) {
		t.Helper()
		// Bounds hold however slow the machine is, but for what half a round trip is off.
		before := c.Now()
		at := stored(t, b.JS)
		after := c.Now()
		if at.Before(before.Add(-5*time.Second)) || at.After(after.Add(5*time.Second)) {
			t.Errorf("%s: the bus stored at %v, between %v and %v", what, at, before, after)
		}
		if got := c.Ahead(); (got - ahead).Abs() > 5*time.Second {
			t.Errorf("%s: the bus is %v ahead, want %v", what, got, ahead)
		}
	}
	sync := func() {
		t.Helper()
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	right("our own clock is right", 0)
	skew.Store(int64(-20 * time.Minute))
	sync()
	right("ours was put back", 20*time.Minute)
	if !strings.Contains(log.String(), "clocks differ") {
		t.Error("the log does not say that clocks differ")
	}
	skew.Store(int64(20 * time.Minute))
	sync()
	right("ours was put forward", -20*time.Minute)
	skew.Store(0)
	sync()
	right("ours was put right", 0)
	if !strings.Contains(log.String(), "clocks agree") {
		t.Error("the log does not say that clocks agree again")
	}
	b.Server.Stop()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Sync(short); err == nil {
		t.Error("a bus that is away has told its time")
	}
	before := c.Now()
	await.True(t, "the time goes on", func() bool { return c.Now().After(before) })
	if d := c.Now().Sub(own()); d.Abs() > time.Minute {
		t.Errorf("while the bus is away the time is %v off", d)
	}
}
