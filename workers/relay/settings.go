package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// copySettings keeps this region's settings as the parent's are, until ctx ends.
// What is changed here is changed back, also while the parent is out of reach.
func (n *node) copySettings(ctx context.Context) error {
	buckets := schemas.RegionBuckets()
	needed := len(buckets) // before anything of a stream is told
	if n.ParentCDNs {
		buckets = append(buckets, schemas.RegionCDNBuckets()...)
	}
	var all []*copier
	for _, bucket := range buckets { // before any begins, so that an error ends what has begun
		octx, cancel := context.WithTimeout(ctx, 10*time.Second)
		kv, err := n.js.KeyValue(octx, bucket)
		cancel()
		if err != nil {
			return fmt.Errorf("open bucket %s: %w", bucket, err)
		}
		c := &copier{log: n.Logger.With("bucket", bucket), kv: kv, bucket: bucket, want: map[string][]byte{}}
		if bucket == schemas.BucketCDNs {
			c.own = n.OwnCDNs
		}
		all = append(all, c)
	}
	g, ctx := errgroup.WithContext(ctx)
	var first sync.WaitGroup // buckets that are not here yet
	first.Add(needed)
	for i, c := range all {
		copied := func() {}
		if i < needed {
			copied = sync.OnceFunc(first.Done)
		}
		g.Go(func() error { return c.guard(ctx) })
		g.Go(func() error {
			defer copied() // stopped
			c.run(ctx, n.links[n.Parent].js, n.Region, copied)
			return nil
		})
	}
	// Nothing of a stream is told here before it is known who may watch it.
	g.Go(func() error {
		first.Wait()
		if ctx.Err() == nil {
			close(n.settled)
		}
		return nil
	})
	return g.Wait()
}

// copier copies one bucket.
type copier struct {
	log    *slog.Logger
	kv     jetstream.KeyValue
	bucket string
	own    []string // keys that are this region's own: they are neither written nor deleted

	mu   sync.Mutex        // of what follows, and of writing
	want map[string][]byte // what the parent has, as far as it has said
	seen map[string]bool   // keys of the parent, until all there are have been given
	all  bool              // it has said all once
}

func (c *copier) run(ctx context.Context, parent jetstream.JetStream, self string, copied func()) {
	failed := func(err error) error {
		if err != nil && ctx.Err() == nil {
			c.log.Error("a setting of the parent cannot be written here; trying again", "err", err)
		}
		return err
	}
	followBucket(ctx, parent, self, c.bucket, c.begin,
		func() error {
			if err := c.complete(ctx); err != nil {
				return failed(err)
			}
			copied()
			return nil
		},
		func(key string, value []byte, put bool) error { return failed(c.entry(ctx, key, value, put)) })
}

// guard sees what is changed here and changes it back.
func (c *copier) guard(ctx context.Context) error {
	w, err := c.kv.WatchAll(ctx, jetstream.UpdatesOnly())
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watch bucket %s: %w", c.bucket, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("bucket %s is watched no more", c.bucket)
			}
			for e != nil && ctx.Err() == nil {
				err := c.restore(ctx, e.Key())
				if err == nil {
					break
				}
				c.log.Error("a setting that was changed here cannot be changed back; trying again", "key", e.Key(), "err", err)
				_ = nap.For(ctx, again)
			}
		}
	}
}

// restore writes what the parent has under the key, if that is known and not here.
func (c *copier) restore(ctx context.Context, key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.own, key) {
		return nil
	}
	value, put := c.want[key]
	if !put && !c.all {
		return nil // the parent has not said all: it may have it
	}
	changed, err := c.put(ctx, key, value, put)
	if changed {
		c.log.Warn("a setting was changed here and has been changed back; change it in the region without a parent", "key", key)
	}
	return err
}

func (c *copier) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = map[string]bool{}
}

func (c *copier) entry(ctx context.Context, key string, value []byte, put bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.own, key) {
		return nil
	}
	if put {
		c.want[key] = value
	} else {
		delete(c.want, key)
	}
	if c.seen != nil {
		c.seen[key] = put
	}
	_, err := c.put(ctx, key, value, put)
	return err
}

// put has the bucket hold the value under the key, or nothing, and tells whether it did not.
func (c *copier) put(ctx context.Context, key string, value []byte, put bool) (changed bool, err error) {
	have, err := c.kv.Get(ctx, key)
	there := err == nil
	switch {
	case !there && !errors.Is(err, jetstream.ErrKeyNotFound):
		return false, err
	case there == put && (!there || bytes.Equal(have.Value(), value)):
		return false, nil
	case put:
		_, err = c.kv.Put(ctx, key, value)
	default:
		err = c.kv.Delete(ctx, key)
	}
	return err == nil, err
}

// complete deletes what the parent does not have.
func (c *copier) complete(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	for key := range l.Keys() {
		if !c.seen[key] && !slices.Contains(c.own, key) {
			if err := c.kv.Delete(ctx, key); err != nil {
				return err
			}
		}
	}
	maps.DeleteFunc(c.want, func(key string, _ []byte) bool { return !c.seen[key] })
	c.seen, c.all = nil, true
	return nil
}
