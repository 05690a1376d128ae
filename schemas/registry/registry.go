// Package registry changes the KV buckets that operators write: settings,
// cameras, shares, CDNs. Reading them all the time is [mirror]'s work.
//
// It promises that an entry is checked before it is stored, by the same
// function that its readers use, and that of two changes at once none is lost:
// an edit that meets another's is made again on what the other left.
//
// [mirror]: github.com/spillway-live/spillway/schemas/mirror
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNone says that there is no entry under the key.
var ErrNone = errors.New("there is no such entry")

// maxTries bounds how often an edit is made again.
const maxTries = 8

// Registry is one bucket with the form of its entries.
type Registry[T any] struct {
	KV jetstream.KeyValue
	// Parse decodes and checks one entry; its errors name the field that is wrong.
	Parse func(key string, value []byte) (*T, error)
}

// Entry is one entry with its key.
type Entry[T any] struct {
	Key   string
	Value *T
	// Err says why the entry cannot be read, in which case Value is nil.
	Err error
}

// Open opens a bucket that exists (schemas.EnsureBus makes it).
func Open[T any](ctx context.Context, js jetstream.JetStream, bucket string, parse func(string, []byte) (*T, error)) (*Registry[T], error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return &Registry[T]{KV: kv, Parse: parse}, nil
}

// Get gives one entry, or [ErrNone].
func (r *Registry[T]) Get(ctx context.Context, key string) (*T, error) {
	v, _, err := r.get(ctx, key)
	return v, err
}

func (r *Registry[T]) get(ctx context.Context, key string) (*T, uint64, error) {
	e, err := r.KV.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, ErrNone
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s of bucket %s: %w", key, r.KV.Bucket(), err)
	}
	v, err := r.Parse(key, e.Value())
	if err != nil {
		return nil, e.Revision(), fmt.Errorf("entry %s of bucket %s is not understood: %w", key, r.KV.Bucket(), err)
	}
	return v, e.Revision(), nil
}

// List gives all entries by key. One that cannot be read is listed with its error.
func (r *Registry[T]) List(ctx context.Context) ([]Entry[T], error) {
	l, err := r.KV.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", r.KV.Bucket(), err)
	}
	defer func() { _ = l.Stop() }()
	var out []Entry[T]
	for k := range l.Keys() {
		v, err := r.Get(ctx, k)
		if errors.Is(err, ErrNone) {
			continue // removed meanwhile
		}
		out = append(out, Entry[T]{k, v, err})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}

// Edit changes an entry, or makes it: edit gets what is there (found) or the
// zero value. It may be called again when somebody else was faster. It gives
// what was stored; nothing is when edit or the check of the result fails.
func (r *Registry[T]) Edit(ctx context.Context, key string, edit func(v *T, found bool) error) (*T, error) {
	var last error
	for range maxTries {
		v, rev, err := r.get(ctx, key)
		found := err == nil
		if errors.Is(err, ErrNone) {
			v = new(T)
		} else if err != nil {
			return nil, err
		}
		if err := edit(v, found); err != nil {
			return nil, err
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		if v, err = r.Parse(key, b); err != nil {
			return nil, err
		}
		if found {
			_, last = r.KV.Update(ctx, key, b, rev)
		} else {
			_, last = r.KV.Create(ctx, key, b)
		}
		if last == nil {
			return v, nil
		}
		if !errors.Is(last, jetstream.ErrKeyExists) {
			return nil, fmt.Errorf("write %s of bucket %s: %w", key, r.KV.Bucket(), last)
		}
	}
	return nil, fmt.Errorf("write %s of bucket %s: others change it all the time (%d tries): %w", key, r.KV.Bucket(), maxTries, last)
}

// Remove deletes an entry, readable or not; [ErrNone] if there was none.
func (r *Registry[T]) Remove(ctx context.Context, key string) error {
	e, err := r.KV.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ErrNone
	}
	if err != nil {
		return fmt.Errorf("read %s of bucket %s: %w", key, r.KV.Bucket(), err)
	}
	if err := r.KV.Delete(ctx, key, jetstream.LastRevision(e.Revision())); err != nil {
		return fmt.Errorf("remove %s of bucket %s (changed by somebody else at the same time?): %w", key, r.KV.Bucket(), err)
	}
	return nil
}
