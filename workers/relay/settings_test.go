package relay

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// What is changed, deleted or added in a region with a parent becomes again what the parent has.
func TestSettingsChangedHereAreChangedBack(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketApps)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, value string) {
		t.Helper()
		_, err := kv.Put(t.Context(), key, []byte(value))
		must(err)
	}
	is := func(key, want string) {
		t.Helper()
		await.True(t, key+" is "+want, func() bool {
			e, err := kv.Get(t.Context(), key)
			if want == "" {
				return errors.Is(err, jetstream.ErrKeyNotFound)
			}
			return err == nil && string(e.Value()) == want
		})
	}
	c := &copier{log: slog.New(slog.DiscardHandler), kv: kv, bucket: schemas.BucketApps, own: []string{"own", "owned"}, want: map[string][]byte{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	put("ours", "x")
	put("own", "O") // the parent has nothing under this name, and something else under the next
	put("owned", "O")
	c.begin()
	must(c.entry(ctx, "live", []byte("A"), true))
	must(c.entry(ctx, "kept", []byte("K"), true))
	must(c.entry(ctx, "owned", []byte("the parent's"), true))
	put("live", "before the parent has said all")
	must(c.complete(ctx))
	is("ours", "")
	go func() { done <- c.guard(ctx) }()
	defer func() { cancel(); must(<-done) }()
	// The guard begins when it begins: until then nothing comes back.
	await.True(t, "a change is changed back", func() bool {
		put("live", "B")
		e, err := kv.Get(t.Context(), "live")
		return err == nil && string(e.Value()) == "A"
	})
	is("live", "A")
	must(kv.Delete(t.Context(), "kept"))
	is("kept", "K")
	put("own", "P")
	must(kv.Delete(t.Context(), "owned"))
	put("new", "N")
	is("new", "") // changes are seen in their order
	is("own", "P")
	is("owned", "")
	must(c.entry(ctx, "live", []byte("C"), true))
	must(c.entry(ctx, "kept", nil, false))
	put("kept", "again")
	is("kept", "")
	is("live", "C")
	if changed, err := c.put(t.Context(), "new", nil, false); changed || err != nil {
		t.Errorf("what is not there is deleted again, and so on for ever: %v, %v", changed, err)
	}
}

// Without a parent there is nothing to take of it, and where a region's registry is its own none of it is to be named.
func TestWhoseCDNs(t *testing.T) {
	for _, x := range []struct {
		r    Relay
		want string
	}{
		{Relay{ParentCDNs: true}, "without a parent"},
		{Relay{Parent: "a", OwnCDNs: []string{"x"}}, "none of this region's own"},
		{Relay{Parent: "a", ParentCDNs: true, OwnCDNs: []string{"x.y"}}, "x.y"},
		{Relay{Parent: "a", ParentCDNs: true, OwnCDNs: []string{"x"}}, ""},
	} {
		x.r.Conn, x.r.Region, x.r.Neighbours = &nats.Conn{}, "b", []string{"a"}
		if err := x.r.defaults(); (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v, %v: error %v", x.r.ParentCDNs, x.r.OwnCDNs, err)
		}
	}
}

// A bucket that is not there ends the relay's work with an error, instead of hanging it.
func TestSettingsWithoutABucketAreAnError(t *testing.T) {
	b := bustest.Start(t)
	buckets := schemas.RegionBuckets()
	last := buckets[len(buckets)-1]
	if err := b.JS.DeleteKeyValue(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	n := &node{Relay: &Relay{Region: "b", Parent: "a", Logger: slog.New(slog.DiscardHandler)}, js: b.JS, links: map[string]*link{"a": {js: b.JS}}, settled: make(chan struct{})}
	if err := n.copySettings(t.Context()); err == nil || !strings.Contains(err.Error(), last) {
		t.Fatalf("error %v", err)
	}
}
