package mirror_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestTableFollowsItsBucket(t *testing.T) {
	js := bustest.Start(t).JS
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kv, err := js.KeyValue(ctx, schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	put := func(k, v string) {
		t.Helper()
		if _, err := kv.Put(ctx, k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "1")
	table := mirror.New(schemas.BucketCDNs, func(_ string, v []byte) (string, error) {
		if string(v) == "bad" {
			return "", errors.New("bad")
		}
		return string(v), nil
	}, nil)
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- table.Run(run, js) }()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for {
			c := table.Changed()
			if ok() {
				return
			}
			select {
			case <-c:
			case <-ctx.Done():
				t.Fatalf("%s: table has %v", what, table.All())
			}
		}
	}
	has := func(k, want string) func() bool {
		return func() bool { v, ok := table.Get(k); return ok && v == want }
	}
	<-table.Ready()
	if !has("a", "1")() {
		t.Fatalf("ready with %v", table.All())
	}
	put("b", "2")
	wait("added", has("b", "2"))
	put("a", "bad")
	put("c", "3")
	wait("after a bad entry", has("c", "3"))
	if !has("a", "1")() {
		t.Errorf("a bad entry replaced what was known: %v", table.All())
	}
	if err := kv.Delete(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	wait("deleted", func() bool { _, ok := table.Get("b"); return !ok })
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run gave %v after its context ended", err)
	}
}
