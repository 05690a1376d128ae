package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// board notes who holds what.
type board struct {
	mu      sync.Mutex
	holders map[string]map[string]bool
}

func (b *board) work(id string) func(context.Context, string) error {
	return func(ctx context.Context, name string) error {
		b.set(name, id, true)
		defer b.set(name, id, false)
		<-ctx.Done()
		return nil
	}
}

func (b *board) set(name, id string, on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holders[name] == nil {
		b.holders[name] = map[string]bool{}
	}
	if on {
		b.holders[name][id] = true
	} else {
		delete(b.holders[name], id)
	}
}

// counts gives the number of partitions of each holder; ok is false unless each partition has exactly one.
func (b *board) counts(names []string) (n map[string]int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = map[string]int{}
	for _, name := range names {
		if len(b.holders[name]) != 1 {
			return n, false
		}
		for id := range b.holders[name] {
			n[id]++
		}
	}
	return n, true
}

func TestPartitionsAreSharedAndTakenOver(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprint(i))
	}
	bd := &board{holders: map[string]map[string]bool{}}
	type proc struct {
		stop context.CancelFunc
		done chan error
	}
	start := func(id string) proc {
		ctx, cancel := context.WithCancel(t.Context())
		p := proc{cancel, make(chan error, 1)}
		go func() {
			p.done <- lease.Pool{KV: kv, Role: "test", Names: names, Work: bd.work(id), TTL: 1200 * time.Millisecond, ID: id}.Run(ctx)
		}()
		return p
	}
	a := start("a")
	await.True(t, "one process holds all", func() bool { n, ok := bd.counts(names); return ok && n["a"] == 8 })
	c := start("c")
	d := start("d")
	await.True(t, "three processes share", func() bool {
		n, ok := bd.counts(names)
		return ok && n["a"] <= 3 && n["c"] <= 3 && n["d"] <= 3
	})
	c.stop()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
	await.True(t, "two processes share", func() bool { n, ok := bd.counts(names); return ok && n["a"] == 4 && n["d"] == 4 })

	// A holder that dies without a word: its keys stay as they are.
	d.stop()
	<-d.done
	for _, name := range names[4:] {
		if _, err := kv.PutString(t.Context(), "lease.test."+name, "ghost"); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "the dead one's partitions are taken", func() bool { n, ok := bd.counts(names); return ok && n["a"] == 8 })
	a.stop()
	if err := <-a.done; err != nil {
		t.Error(err)
	}
	if n, _ := bd.counts(names); len(n) != 0 {
		t.Errorf("work goes on after the stop: %v", n)
	}
}

// Streams that come and go: shared by capacity, bounded, and given up when they are no more.
func TestNamesChange(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var names []string
	set := func(n ...string) {
		mu.Lock()
		defer mu.Unlock()
		names = n
	}
	now := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return names
	}
	bd := &board{holders: map[string]map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	start := func(id string, capacity, most int) {
		go func() {
			done <- lease.Pool{
				KV: kv, Role: "streams", NamesNow: now, Work: bd.work(id), TTL: time.Second, ID: id, Capacity: capacity, Max: most,
				Fits: func(_ context.Context, name string, _ []string) bool { return name != "never" },
			}.Run(ctx)
		}()
	}
	start("big", 3, 0)
	start("small", 1, 1)
	set("live.a", "live.b", "live.c", "live.d")
	await.True(t, "three and one", func() bool { n, ok := bd.counts(now()); return ok && n["big"] == 3 && n["small"] == 1 })
	set("live.a", "live.e", "never")
	await.True(t, "what is no more is given up, what does not fit is left", func() bool {
		_, ok := bd.counts([]string{"live.a", "live.e"})
		rest, _ := bd.counts([]string{"live.b", "live.c", "live.d", "never"})
		return ok && len(rest) == 0
	})
	set()
	await.True(t, "nothing is held", func() bool {
		n, _ := bd.counts([]string{"live.a", "live.e"})
		return len(n) == 0
	})
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A holder whose connection is closed is followed at once, long before its lease runs out.
func TestClosedConnectionIsNoticed(t *testing.T) {
	b := bustest.Start(t)
	names := []string{"x", "y", "z"}
	bd := &board{holders: map[string]map[string]bool{}}
	const ttl = 5 * time.Minute // beyond the patience of any wait here
	start := func(id string) (closeConn func(), done chan error) {
		nc, err := b.Server.Connect(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.KeyValue(t.Context(), schemas.BucketLedger)
		if err != nil {
			t.Fatal(err)
		}
		done = make(chan error, 1)
		go func() {
			done <- lease.Pool{KV: kv, Conn: nc, Role: "test", Names: names, Work: bd.work(id), TTL: ttl, ID: id}.Run(t.Context())
		}()
		return nc.Close, done
	}
	die, _ := start("first")
	await.True(t, "the first holds all", func() bool { n, ok := bd.counts(names); return ok && n["first"] == 3 })
	start("second")
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := b.Conn.SubscribeSync("leasealive.test.first")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the second knows that the first answers
		if _, err := asked.NextMsg(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(asked.Unsubscribe(), b.Conn.Flush()); err != nil {
		t.Fatal(err)
	}
	die()
	await.True(t, "the second has all", func() bool {
		for _, n := range names {
			if e, err := kv.Get(t.Context(), "lease.test."+n); err != nil || string(e.Value()) != "second" {
				return false
			}
		}
		return true
	})
}

// A renewal whose answer came too late has moved the lease's revision on; that is no reason to give the work up.
func TestLateAnswerIsNoLoss(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	begun := 0
	started := func() int { mu.Lock(); defer mu.Unlock(); return begun }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- lease.Pool{KV: kv, Role: "late", Names: []string{"0"}, ID: "me", TTL: 6 * time.Second, Work: func(ctx context.Context, _ string) error {
			mu.Lock()
			begun++
			mu.Unlock()
			<-ctx.Done()
			return nil
		}}.Run(ctx)
	}()
	await.True(t, "the partition is held", func() bool { return started() == 1 })
	rev, err := kv.PutString(t.Context(), "lease.late.0", "me")
	if err != nil {
		t.Fatal(err)
	}
	await.True(t, "the lease is renewed", func() bool {
		e, err := kv.Get(t.Context(), "lease.late.0")
		return err == nil && string(e.Value()) == "me" && e.Revision() > rev
	})
	if n := started(); n != 1 {
		t.Errorf("work began %d times", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
