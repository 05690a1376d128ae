package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// book is the bucket alerts in memory, with the revisions that writes are bound to.
type book struct {
	kv  jetstream.KeyValue
	all map[string]entry
}

// entry without an alert is one that could not be read; it is written over where its key is needed.
type entry struct {
	alert    *schemas.Alert
	revision uint64
}

// openBook reads all alerts.
func openBook(ctx context.Context, kv jetstream.KeyValue) (*book, error) {
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", schemas.BucketAlerts, err)
	}
	defer func() { _ = w.Stop() }()
	b := &book{kv: kv, all: map[string]entry{}}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch on alerts ended")
			}
			if e == nil {
				return b, nil
			}
			if e.Operation() == jetstream.KeyValuePut {
				x := entry{revision: e.Revision()}
				x.alert, _ = schemas.ParseAlert(e.Key(), e.Value())
				b.all[e.Key()] = x
			}
		}
	}
}

func (b *book) get(key string) *schemas.Alert { return b.all[key].alert }

// of gives the alerts of a rule that are not over.
func (b *book) of(rule string) (out []*schemas.Alert) {
	for _, e := range b.all {
		if a := e.alert; a != nil && a.Rule == rule && a.State != schemas.AlertResolved {
			out = append(out, a)
		}
	}
	return out
}

func (b *book) open() (n int) {
	for _, e := range b.all {
		if e.alert != nil && e.alert.State == schemas.AlertOpen {
			n++
		}
	}
	return n
}

// forget lets go of alerts that are over and told, and no longer in the bucket.
func (b *book) forget(now time.Time) {
	for key, e := range b.all {
		if a := e.alert; a != nil && a.State == schemas.AlertResolved && a.Told && now.Sub(time.UnixMicro(a.ResolvedUs)) > schemas.AlertKept+time.Hour {
			delete(b.all, key)
		}
	}
}

// put stores an alert, or removes it (nil), if nobody else has written it since.
func (b *book) put(ctx context.Context, key string, a *schemas.Alert) error {
	old := b.all[key]
	var err error
	if a == nil {
		err = b.kv.Delete(ctx, key, jetstream.LastRevision(old.revision))
		delete(b.all, key)
	} else {
		var data []byte
		if data, err = json.Marshal(a); err != nil {
			return err
		}
		var rev uint64
		rev, err = b.write(ctx, key, data, old.revision)
		b.all[key] = entry{a, rev}
	}
	if overtaken(err) {
		return errOvertaken
	}
	if err != nil {
		return fmt.Errorf("store alert %s: %w", key, err)
	}
	return nil
}

// write stores an entry over the given revision, 0: where there is none. What the bucket has let go of by its age
// since it was read is written anew.
func (b *book) write(ctx context.Context, key string, data []byte, revision uint64) (uint64, error) {
	if revision != 0 {
		rev, err := b.kv.Update(ctx, key, data, revision)
		if !overtaken(err) {
			return rev, err
		}
		if _, gone := b.kv.Get(ctx, key); !errors.Is(gone, jetstream.ErrKeyNotFound) {
			return 0, err
		}
	}
	return b.kv.Create(ctx, key, data)
}

// overtaken says whether a write was refused because somebody else has written the entry.
func overtaken(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

// note says which state of an alert was told.
type note struct{ key, state string }

func (b *book) markTold(ctx context.Context, n note) error {
	a := b.get(n.key)
	if a == nil || a.State != n.state || a.Told {
		return nil
	}
	next := *a
	next.Told = true
	return b.put(ctx, n.key, &next)
}

// group waits for goroutines.
type group struct{ sync.WaitGroup }

func newGroup() *group { return &group{} }
