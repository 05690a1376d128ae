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
	"time"

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
	// Becomes says why next may not take the place of old, which is nil where there
	// is nothing, and completes it, e.g. counts its version; nil: it always may.
	Becomes func(old, next *T) error
}

// Refused is an error of what was to be stored: nothing was.
type Refused struct{ Err error }

func (e *Refused) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *Refused) Unwrap() error { return e.Err }

// Conflict is an error of what was to be stored in the place of what is there: nothing was.
type Conflict struct{ Err error }

func (e *Conflict) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *Conflict) Unwrap() error { return e.Err }

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

// get gives an entry and its revision, which is there for one that is not understood, too.
func (r *Registry[T]) get(ctx context.Context, key string) (*T, uint64, error) {
	e, err := r.KV.Get(ctx, key)
	if isNone(err) {
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

// isNone says that there is nothing under a key, or cannot be.
func isNone(err error) bool {
	return errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey)
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
// what was stored; nothing is when edit fails, or the check of the result
// (*[Refused]), or Becomes (*[Conflict]).
func (r *Registry[T]) Edit(ctx context.Context, key string, edit func(v *T, found bool) error) (*T, error) {
	var last error
	for range maxTries {
		old, rev, err := r.get(ctx, key)
		found := err == nil
		v := new(T)
		if found {
			err = copyOf(old, v)
		}
		if err != nil && !errors.Is(err, ErrNone) {
			return nil, err
		}
		if err := edit(v, found); err != nil {
			return nil, err
		}
		if r.Becomes != nil {
			if err := r.Becomes(old, v); err != nil {
				return nil, &Conflict{err}
			}
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		if v, err = r.Parse(key, b); err != nil {
			return nil, &Refused{err}
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

// Put stores next, whatever is there that can be read.
func (r *Registry[T]) Put(ctx context.Context, key string, next *T) (*T, error) {
	return r.Edit(ctx, key, func(v *T, _ bool) error { *v = *next; return nil })
}

// Merge changes the fields that a JSON object names, those inside of objects
// too, and removes those that are null (RFC 7396). A new entry begins as fresh.
func (r *Registry[T]) Merge(ctx context.Context, key string, patch []byte, fresh *T) (*T, error) {
	var p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, &Refused{fmt.Errorf("the change must be a JSON object: %w", err)}
	}
	return r.Edit(ctx, key, func(v *T, found bool) error {
		if !found {
			*v = *fresh
		}
		var now map[string]any
		if err := copyOf(v, &now); err != nil {
			return err
		}
		b, err := json.Marshal(merged(now, p))
		if err != nil {
			return &Refused{err}
		}
		next, err := r.Parse(key, b)
		if err != nil {
			return &Refused{err}
		}
		*v = *next
		return nil
	})
}

func merged(now, patch map[string]any) map[string]any {
	if now == nil {
		now = map[string]any{}
	}
	for k, v := range patch {
		switch x := v.(type) {
		case nil:
			delete(now, k)
		case map[string]any:
			of, _ := now[k].(map[string]any)
			now[k] = merged(of, x)
		default:
			now[k] = v
		}
	}
	return now
}

// copyOf copies into a zero value by way of JSON, which is how entries are stored.
func copyOf(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// Version is an entry as it was, or its removal.
type Version[T any] struct {
	Entry[T]
	At      time.Time
	Removed bool
}

// History gives the versions of an entry that the bucket keeps, oldest first; [ErrNone] if it has none.
func (r *Registry[T]) History(ctx context.Context, key string) ([]Version[T], error) {
	l, err := r.KV.History(ctx, key)
	if isNone(err) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of %s of bucket %s: %w", key, r.KV.Bucket(), err)
	}
	out := make([]Version[T], len(l))
	for i, e := range l {
		out[i] = Version[T]{Entry: Entry[T]{Key: key}, At: e.Created(), Removed: e.Operation() != jetstream.KeyValuePut}
		if !out[i].Removed {
			out[i].Value, out[i].Err = r.Parse(key, e.Value())
		}
	}
	return out, nil
}

// Remove deletes an entry, readable or not; [ErrNone] if there was none.
func (r *Registry[T]) Remove(ctx context.Context, key string) error {
	e, err := r.KV.Get(ctx, key)
	if isNone(err) {
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
