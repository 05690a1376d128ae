// Package mirror keeps the content of a KV bucket in memory, as it changes:
// how every role reads registries and settings without asking the bus for each
// message.
//
// It promises that a table is never half-read (a new watch replaces the old
// table only once it is complete), that an entry that is not understood leaves
// what was known in place and is logged, and that it goes on with the last
// table while the bus is away. When the bus is back the bucket is read anew, at
// once: the client's own watch finds out by two missed heartbeats that its consumer
// is gone, which takes it up to 20 s, and never learns of entries that expired meanwhile.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errBack says that the connection to the bus was lost and is there again.
var errBack = errors.New("the bus is back")

// pause is between two attempts to follow a bucket.
const pause = 500 * time.Millisecond

// Table is a bucket's decoded content by key. The zero value is not usable; see [New].
// Safe for concurrent use: readers wait neither for each other nor for changes,
// and a change costs the same however many entries there are.
type Table[T any] struct {
	bucket  string
	parse   func(key string, value []byte) (T, error)
	log     *slog.Logger
	now     atomic.Pointer[sync.Map] // T by key
	ready   chan struct{}
	derived []func()
	groups  []*Groups
	recent  []*Recent[T]

	mu      sync.Mutex
	changed chan struct{} // nil while nobody waits
}

// New makes a table of a bucket. parse decodes and checks one entry; its errors
// should name the field that is wrong. logger may be nil.
func New[T any](bucket string, parse func(key string, value []byte) (T, error), logger *slog.Logger) *Table[T] {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	t := &Table[T]{bucket: bucket, parse: parse, log: logger, ready: make(chan struct{})}
	t.now.Store(&sync.Map{})
	return t
}

// Get gives the entry under key.
func (t *Table[T]) Get(key string) (T, bool) { return get[T](t.now.Load(), key) }

func get[T any](m *sync.Map, key string) (v T, ok bool) {
	x, ok := m.Load(key)
	if ok {
		v = x.(T)
	}
	return v, ok
}

// All ranges over the entries by key, in no order. It is no snapshot: what
// changes meanwhile may come as it was or as it is.
func (t *Table[T]) All() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		t.now.Load().Range(func(key, v any) bool { return yield(key.(string), v.(T)) })
	}
}

// Ready is closed once the bucket has been read for the first time.
func (t *Table[T]) Ready() <-chan struct{} { return t.ready }

// Changed is closed at the next change after this call, and now and then without
// one: take it first, read then, and wait on it until what is read is what is
// wanted. No change is missed that way.
func (t *Table[T]) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// Derived is a value made from a whole table; see [Derive].
type Derived[V any] struct{ now atomic.Pointer[V] }

// Get gives the value as of the last change. It must not be changed.
func (d *Derived[V]) Get() V { return *d.now.Load() }

// Derive keeps a value made from the whole of t, at once and anew after each
// change: for tables that are read more often than they change, e.g. a sorted
// list. Call it before t runs.
func Derive[T, V any](t *Table[T], from func(all iter.Seq2[string, T]) V) *Derived[V] {
	d := &Derived[V]{}
	derive := func() {
		v := from(t.All())
		d.now.Store(&v)
	}
	derive()
	t.derived = append(t.derived, derive)
	return d
}

// Group keeps the keys of t by what by makes of a key, e.g. the stream that a
// rendition belongs to, so that asking for a few entries that belong together costs
// the same however many others there are. Call it before t runs.
func Group[T any](t *Table[T], by func(key string) string) *Groups {
	g := &Groups{by: by, keys: map[string]map[string]bool{}}
	t.groups = append(t.groups, g)
	return g
}

// Run follows the bucket until ctx ends, and then returns nil.
func (t *Table[T]) Run(ctx context.Context, js jetstream.JetStream) error {
	for told := false; ctx.Err() == nil; {
		err := t.follow(ctx, js, func() { told = false })
		if errors.Is(err, errBack) {
			continue
		}
		if err != nil && ctx.Err() == nil && !told {
			told = true
			t.log.Warn("bucket cannot be followed: trying again, its last content holds", "bucket", t.bucket, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

func (t *Table[T]) follow(ctx context.Context, js jetstream.JetStream, complete func()) error {
	connected := js.Conn().StatusChanged(nats.CONNECTED)
	defer js.Conn().RemoveStatusListener(connected)
	kv, err := js.KeyValue(ctx, t.bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", t.bucket, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", t.bucket, err)
	}
	defer func() { _ = w.Stop() }()
	// The old table is read until the new one is complete.
	next := &sync.Map{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			return errBack
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("watch ended")
			case e == nil:
				complete()
				for _, g := range t.groups {
					g.fill(next)
				}
				for _, r := range t.recent {
					r.fill(next)
				}
				t.now.Store(next)
				t.tell()
			default:
				t.take(next, e.Key(), e.Value(), e.Operation() == jetstream.KeyValuePut)
			}
		}
	}
}

// take writes one entry of the bucket, or its removal, into a table, and tells
// of it where that is the table in use.
func (t *Table[T]) take(m *sync.Map, key string, value []byte, put bool) {
	if put {
		v, err := t.parse(key, value)
		if err != nil {
			t.log.Warn("entry is not understood: what was known stays", "bucket", t.bucket, "key", key, "err", err)
			var ok bool
			if v, ok = t.Get(key); !ok {
				return
			}
		}
		m.Store(key, v)
	} else {
		m.Delete(key)
	}
	if t.now.Load() == m {
		for _, g := range t.groups {
			g.set(key, put)
		}
		for _, r := range t.recent {
			r.set(key, m)
		}
		t.tell()
	}
}

// tell makes what is derived anew and wakes who waits for a change.
func (t *Table[T]) tell() {
	for _, derive := range t.derived {
		derive()
	}
	// Ready and Changed go together: who was told that the table is ready and then
	// asks for the next change is not woken by the first content.
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.ready:
	default:
		close(t.ready)
	}
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}
