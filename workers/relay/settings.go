package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// copySettings keeps this region's settings as the parent's are, until ctx ends.
// What is changed here is changed back.
func (n *node) copySettings(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var first sync.WaitGroup // buckets that are not here yet
	for _, bucket := range schemas.RegionBuckets() {
		octx, cancel := context.WithTimeout(ctx, 10*time.Second)
		kv, err := n.js.KeyValue(octx, bucket)
		cancel()
		if err != nil {
			return fmt.Errorf("open bucket %s: %w", bucket, err)
		}
		c := &copier{n: n, kv: kv}
		first.Add(1)
		wg.Go(func() {
			done := false
			c.run(ctx, bucket, func() {
				if !done {
					done = true
					first.Done()
				}
			})
			if !done { // stopped
				first.Done()
			}
		})
	}
	// Nothing of a stream is told here before it is known who may watch it.
	wg.Go(func() {
		first.Wait()
		if ctx.Err() == nil {
			close(n.settled)
		}
	})
	return nil
}

// copier copies one bucket.
type copier struct {
	n    *node
	kv   jetstream.KeyValue
	seen map[string]bool // keys of the parent, until all there are have been given
}

func (c *copier) run(ctx context.Context, bucket string, copied func()) {
	failed := func(err error) error {
		if err != nil && ctx.Err() == nil {
			c.n.Logger.Error("a setting of the parent cannot be written here; trying again", "bucket", bucket, "err", err)
		}
		return err
	}
	followBucket(ctx, c.n.links[c.n.Parent].js, c.n.Region, bucket,
		func() { c.seen = map[string]bool{} },
		func() error {
			if err := c.prune(ctx); err != nil {
				return failed(err)
			}
			c.seen = nil
			copied()
			return nil
		},
		func(key string, value []byte, put bool) error { return failed(c.entry(ctx, key, value, put)) })
}

func (c *copier) entry(ctx context.Context, key string, value []byte, put bool) error {
	if !put {
		err := c.kv.Delete(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		return err
	}
	if c.seen != nil {
		c.seen[key] = true
	}
	have, err := c.kv.Get(ctx, key)
	if err == nil && bytes.Equal(have.Value(), value) {
		return nil
	}
	_, err = c.kv.Put(ctx, key, value)
	return err
}

// prune deletes what the parent does not have.
func (c *copier) prune(ctx context.Context) error {
	l, err := c.kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	for key := range l.Keys() {
		if !c.seen[key] {
			if err := c.kv.Delete(ctx, key); err != nil {
				return err
			}
		}
	}
	return nil
}
