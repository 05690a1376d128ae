package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/relay"
)

func bucket(t *testing.T) (jetstream.JetStream, jetstream.KeyValue) {
	t.Helper()
	js := bustest.Start(t).JS
	kv, err := js.KeyValue(t.Context(), schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	return js, kv
}

// run follows the bucket until the returned function is called.
func run(t *testing.T, table *mirror.Table[string], js jetstream.JetStream) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx, js) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v after its context ended", err)
		}
	}
}

func text(_ string, v []byte) (string, error) {
	if string(v) == "bad" {
		return "", errors.New("bad")
	}
	return string(v), nil
}

func TestTableFollowsItsBucket(t *testing.T) {
	js, kv := bucket(t)
	put := func(k, v string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1")
	table := mirror.New(schemas.BucketCDNs, text, nil)
	defer run(t, table, js)()
	limit := time.After(await.Limit)
	wait := func(what string, ok func() bool) {
		t.Helper()
		for {
			c := table.Changed()
			if ok() {
				return
			}
			select {
			case <-c:
			case <-limit:
				t.Fatalf("%s: table has %v", what, maps.Collect(table.All()))
			}
		}
	}
	has := func(k, want string) func() bool {
		return func() bool { v, ok := table.Get(k); return ok && v == want }
	}
	<-table.Ready()
	if !has("a", "1")() {
		t.Fatalf("ready with %v", maps.Collect(table.All()))
	}
	put("b", "2")
	wait("added", has("b", "2"))
	put("a", "bad")
	put("c", "3")
	wait("after a bad entry", has("c", "3"))
	if !has("a", "1")() {
		t.Errorf("a bad entry replaced what was known: %v", maps.Collect(table.All()))
	}
	if err := kv.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	wait("deleted", func() bool { _, ok := table.Get("b"); return !ok })
}

// What changed while the bucket was not followed is there afterwards, and what
// was known of a bad entry still is.
func TestTableIsReplacedWhole(t *testing.T) {
	js, kv := bucket(t)
	put := func(k, v string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", "1")
	put("changed", "1")
	put("deleted", "1")
	put("spoilt", "1")
	table := mirror.New(schemas.BucketCDNs, text, nil)
	stop := run(t, table, js)
	<-table.Ready()
	stop()
	first := maps.Collect(table.All())
	if len(first) != 4 {
		t.Fatalf("read %v", first)
	}
	put("changed", "2")
	put("spoilt", "bad")
	put("added", "2")
	put("added-bad", "bad")
	if err := kv.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if now := maps.Collect(table.All()); !maps.Equal(now, first) {
		t.Errorf("not followed, and yet it has %v", now)
	}
	defer run(t, table, js)()
	await.Text(t, "the bucket is read anew", func() string {
		want := map[string]string{"kept": "1", "changed": "2", "spoilt": "1", "added": "2"}
		if now := maps.Collect(table.All()); !maps.Equal(now, want) {
			return fmt.Sprintf("has %v, want %v", now, want)
		}
		return ""
	})
}

// What expired while the bus could not be reached is gone when it is back: nothing tells of that but reading anew.
func TestTableIsReadAnewWhenTheBusIsBack(t *testing.T) {
	b := bustest.Start(t)
	at, err := url.Parse(b.Server.URL())
	if err != nil {
		t.Fatal(err)
	}
	server := at.Host
	line := relay.Start(t, func() string { return server })
	at.Host = line.Addr()
	nc, err := bus.Connect(at.String(), "follower", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b.JS, schemas.BucketCDNs, "kept", "v")
	bustest.Put(t, b.JS, schemas.BucketCDNs, "expired", "v")
	table := mirror.New(schemas.BucketCDNs, text, nil)
	defer run(t, table, js)()
	has := func(want ...string) {
		t.Helper()
		await.Text(t, "the table has "+strings.Join(want, " "), func() string {
			if got := slices.Sorted(maps.Keys(maps.Collect(table.All()))); !slices.Equal(got, want) {
				return fmt.Sprint(got)
			}
			return ""
		})
	}
	has("expired", "kept")
	line.Cut()
	await.True(t, "the connection is lost", func() bool { return !nc.IsConnected() })
	stream, err := b.JS.Stream(t.Context(), "KV_"+schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+schemas.BucketCDNs+".expired")); err != nil {
		t.Fatal(err)
	}
	line.Pass()
	has("kept")
	bustest.Put(t, b.JS, schemas.BucketCDNs, "new", "v")
	has("kept", "new")
}

func TestDerivedFollowsItsTable(t *testing.T) {
	js, kv := bucket(t)
	table := mirror.New(schemas.BucketCDNs, text, nil)
	keys := mirror.Derive(table, func(all iter.Seq2[string, string]) []string {
		var out []string
		for k := range all {
			out = append(out, k)
		}
		slices.Sort(out)
		return out
	})
	if got := keys.Get(); got != nil {
		t.Errorf("before anything is read: %v", got)
	}
	defer run(t, table, js)()
	const n = 50
	var want []string
	for i := range n {
		k := fmt.Sprintf("k%02d", i)
		want = append(want, k)
		if _, err := kv.Put(t.Context(), k, []byte("v")); err != nil {
			t.Fatal(err)
		}
		// What was derived belongs to its reader: the next change makes another.
		if got := keys.Get(); !slices.IsSorted(got) {
			t.Fatalf("derived %v", got)
		}
	}
	await.True(t, "all keys are derived", func() bool { return slices.Equal(keys.Get(), want) })
	if err := kv.Delete(t.Context(), "k00"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the deleted key is gone", func() bool { return slices.Equal(keys.Get(), want[1:]) })
}
