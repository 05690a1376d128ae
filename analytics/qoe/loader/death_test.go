package loader_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
)

// A loader whose connection is closed, as a kill does, is followed long before its leases run out.
func TestDeadLoaderIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nc, err := r.bus.Server.Connect("first", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	run := func(id string, js jetstream.JetStream) process {
		s := r.settings()
		s.ID, s.JetStream, s.LeaseTTL = id, js, 5*time.Minute // beyond the patience of any wait here
		ctx, cancel := context.WithCancel(t.Context())
		p := process{cancel, make(chan error, 1)}
		go func() { p.done <- loader.Run(ctx, s) }()
		return p
	}
	conn := r.conn()
	one, s := run("first", js), r.sessionise()
	r.feed(20, time.Now().UnixMilli()-8_000, 0)
	r.settle(conn)

	two := run("second", r.js)
	asked, err := r.bus.Conn.SubscribeSync("leasealive.loader.first")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the second knows that the first answers
		if _, err := asked.NextMsg(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(asked.Unsubscribe(), r.bus.Conn.Flush()); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	r.feed(20, time.Now().UnixMilli()-7_000, 0)
	r.settle(conn)
	for _, p := range []process{one, two, s} {
		p.end(t)
	}
	r.balance(conn)
}
