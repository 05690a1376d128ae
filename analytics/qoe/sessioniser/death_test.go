package sessioniser_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// A process whose connection is closed, as a kill does, is followed long before its leases run out, and what it
// held goes on where it stood.
func TestDeadProcessIsFollowedAtOnce(t *testing.T) {
	b := bustest.Start(t)
	nc, err := b.Server.Connect("first", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	const ttl = 5 * time.Minute // beyond the patience of any wait here
	one, two := settings(js, "first"), settings(b.JS, "second")
	one.LeaseTTL, two.LeaseTTL = ttl, ttl
	p := start(t, one)
	f := &feed{js: b.JS, id: "collector", seq: map[int]uint64{}, t: t}
	f.views(40, time.Now().UnixMilli()-8_000, 0)
	await(t, b.JS, func(s sums) bool { return s.ended == 40 })

	q := start(t, two)
	asked, err := b.Conn.SubscribeSync("leasealive.sessioniser.first")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the second knows that the first answers
		if _, err := asked.NextMsg(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(asked.Unsubscribe(), b.Conn.Flush()); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	f.views(40, time.Now().UnixMilli()-7_000, 0)
	s := await(t, b.JS, func(s sums) bool { return s.ended == 80 })
	check(t, s, 80, f.rows)
	for _, x := range []process{p, q} {
		x.stop()
		if err := <-x.done; err != nil {
			t.Error(err)
		}
	}
}
