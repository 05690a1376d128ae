// Package mirror keeps the content of a KV bucket in memory, as it changes:
// how every role reads registries and settings without asking the bus for each
// message.
//
// It promises that a table is never half-read (a new watch replaces the old
// table only once it is complete), that an entry that is not understood leaves
// what was known in place and is logged, and that it goes on with the last
// table while the bus is away.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Table is a bucket's decoded content by key. The zero value is not usable; see [New].
// Safe for concurrent use.
type Table[T any] struct {
	bucket string
	parse  func(key string, value []byte) (T, error)
	log    *slog.Logger
	now    atomic.Pointer[map[string]T]
	ready  chan struct{}
	change atomic.Pointer[chan struct{}]
}

// New makes a table of a bucket. parse decodes and checks one entry; its errors
// should name the field that is wrong. logger may be nil.
func New[T any](bucket string, parse func(key string, value []byte) (T, error), logger *slog.Logger) *Table[T] {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	t := &Table[T]{bucket: bucket, parse: parse, log: logger, ready: make(chan struct{})}
	t.now.Store(&map[string]T{})
	c := make(chan struct{})
	t.change.Store(&c)
	return t
}

// Get gives the entry under key.
func (t *Table[T]) Get(key string) (T, bool) {
	v, ok := (*t.now.Load())[key]
	return v, ok
}

// All gives the whole table. It must not be changed.
func (t *Table[T]) All() map[string]T { return *t.now.Load() }

// Ready is closed once the bucket has been read for the first time.
func (t *Table[T]) Ready() <-chan struct{} { return t.ready }

// Changed is closed at the next change after this call.
func (t *Table[T]) Changed() <-chan struct{} { return *t.change.Load() }

// Run follows the bucket until ctx ends, and then returns nil.
func (t *Table[T]) Run(ctx context.Context, js jetstream.JetStream) error {
	for told := false; ctx.Err() == nil; {
		err := t.follow(ctx, js, func() { told = false })
		if err != nil && ctx.Err() == nil && !told {
			told = true
			t.log.Warn("bucket cannot be followed: trying again, its last content holds", "bucket", t.bucket, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

func (t *Table[T]) follow(ctx context.Context, js jetstream.JetStream, complete func()) error {
	kv, err := js.KeyValue(ctx, t.bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", t.bucket, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", t.bucket, err)
	}
	defer func() { _ = w.Stop() }()
	next, all := map[string]T{}, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("watch ended")
			}
			if e == nil {
				all = true
				complete()
				t.publish(next)
				continue
			}
			t.take(next, e)
			if all {
				t.publish(next)
			}
		}
	}
}

func (t *Table[T]) take(next map[string]T, e jetstream.KeyValueEntry) {
	if e.Operation() != jetstream.KeyValuePut {
		delete(next, e.Key())
		return
	}
	v, err := t.parse(e.Key(), e.Value())
	if err != nil {
		t.log.Warn("entry is not understood: what was known stays", "bucket", t.bucket, "key", e.Key(), "err", err)
		if old, ok := t.Get(e.Key()); ok {
			next[e.Key()] = old
		}
		return
	}
	next[e.Key()] = v
}

func (t *Table[T]) publish(m map[string]T) {
	m = maps.Clone(m)
	t.now.Store(&m)
	c := make(chan struct{})
	old := t.change.Swap(&c)
	close(*old)
	select {
	case <-t.ready:
	default:
		close(t.ready)
	}
}
