package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/renditions"
)

// tables are the buckets the router answers from, followed as they change.
type tables struct {
	js     jetstream.JetStream
	logger *slog.Logger
	// usable leaves out CDNs that cannot be answered with.
	usable  func([]schemas.CDN) []schemas.CDN
	access  *access.Table
	apps    *mirror.Table[*schemas.AppSettings]
	sources *mirror.Table[*schemas.Source]
	pulls   *mirror.Table[*schemas.PullState]
	made    *renditions.Table

	cdns        atomic.Pointer[[]schemas.CDN]
	experiments atomic.Pointer[[]*schemas.Experiment] // running, by name
	mu          sync.RWMutex
	streams     map[string]*schemas.StreamState // by KVKey
}

func newTables(js jetstream.JetStream, logger *slog.Logger) *tables {
	t := &tables{
		js: js, logger: logger, streams: map[string]*schemas.StreamState{},
		usable:  func(c []schemas.CDN) []schemas.CDN { return c },
		access:  access.New(logger),
		apps:    mirror.New(schemas.BucketApps, schemas.ParseAppSettings, logger),
		sources: mirror.New(schemas.BucketSources, schemas.ParseSource, logger),
		pulls:   mirror.New(schemas.BucketPulls, schemas.ParsePullState, logger),
		made:    renditions.New(logger),
	}
	t.cdns.Store(&[]schemas.CDN{})
	t.experiments.Store(&[]*schemas.Experiment{})
	return t
}

func (t *tables) stream(k schemas.StreamKey) *schemas.StreamState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.streams[k.KVKey()]
}

func (t *tables) cdn(name string) *schemas.CDN {
	for i, c := range *t.cdns.Load() {
		if c.Name == name {
			return &(*t.cdns.Load())[i]
		}
	}
	return nil
}

// run follows the buckets; loaded is called once all of them have been read.
func (t *tables) run(ctx context.Context, loaded func()) error {
	g, ctx := errgroup.WithContext(ctx)
	var first sync.WaitGroup
	follow := func(bucket string, apply func() follower) {
		first.Add(1)
		var once sync.Once
		g.Go(func() error {
			// A watch that ends is begun anew, with an empty table that replaces the
			// old one only when it is complete.
			for ctx.Err() == nil {
				if err := t.follow(ctx, bucket, apply(), func() { once.Do(first.Done) }); err != nil && ctx.Err() == nil {
					t.logger.Warn("follow bucket: trying again", "bucket", bucket, "err", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
			return nil
		})
	}
	follow(schemas.BucketCDNs, t.followCDNs)
	follow(schemas.BucketExperiments, t.followExperiments)
	follow(schemas.BucketStreams, t.followStreams)
	g.Go(func() error { return t.access.Run(ctx, t.js) })
	g.Go(func() error { return t.apps.Run(ctx, t.js) })
	g.Go(func() error { return t.sources.Run(ctx, t.js) })
	g.Go(func() error { return t.pulls.Run(ctx, t.js) })
	g.Go(func() error { return t.made.Run(ctx, t.js) })
	go func() {
		all := make(chan struct{})
		go func() {
			first.Wait()
			// Nobody may be answered before it is known what is private.
			if t.access.Wait(ctx) != nil {
				return
			}
			select {
			case <-t.sources.Ready():
				close(all)
			case <-ctx.Done():
			}
		}()
		select {
		case <-all:
			loaded()
		case <-ctx.Done():
		}
	}()
	return g.Wait()
}

// follower takes entries; a nil value is a deleted key. publish makes what was taken visible.
type follower struct {
	take    func(key string, value []byte) error
	publish func()
}

func (t *tables) follow(ctx context.Context, bucket string, f follower, complete func()) error {
	kv, err := t.js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", bucket, err)
	}
	defer func() { _ = w.Stop() }()
	all := false
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
				f.publish()
				complete()
				continue
			}
			var v []byte
			if e.Operation() == jetstream.KeyValuePut {
				v = e.Value()
			}
			if err := f.take(e.Key(), v); err != nil {
				t.logger.Warn("entry is not understood: what was known stays", "bucket", bucket, "key", e.Key(), "err", err)
				continue
			}
			if all {
				f.publish()
			}
		}
	}
}

func (t *tables) followCDNs() follower {
	have := map[string]schemas.CDN{}
	return follower{
		take: func(key string, v []byte) error {
			if v == nil {
				delete(have, key)
				return nil
			}
			var c schemas.CDN
			if err := schemas.UnmarshalStrict(v, &c); err != nil {
				return err
			}
			if err := c.Check(); err != nil {
				return err
			}
			if c.Name != key {
				return fmt.Errorf("the CDN under key %s is named %s", key, c.Name)
			}
			have[key] = c
			return nil
		},
		publish: func() {
			list := make([]schemas.CDN, 0, len(have))
			for _, c := range have {
				list = append(list, c)
			}
			sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
			list = t.usable(list)
			t.cdns.Store(&list)
		},
	}
}

func (t *tables) followExperiments() follower {
	have := map[string]*schemas.Experiment{}
	return follower{
		take: func(key string, v []byte) error {
			if v == nil {
				delete(have, key)
				return nil
			}
			var x schemas.Experiment
			if err := schemas.UnmarshalStrict(v, &x); err != nil {
				return err
			}
			if err := x.Check(); err != nil {
				return err
			}
			if x.Name != key {
				return fmt.Errorf("the experiment under key %s is named %s", key, x.Name)
			}
			have[key] = &x
			return nil
		},
		publish: func() {
			var list []*schemas.Experiment
			for _, x := range have {
				if x.Status == schemas.ExperimentRunning {
					list = append(list, x)
				}
			}
			sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
			t.experiments.Store(&list)
		},
	}
}

func (t *tables) followStreams() follower {
	fresh := map[string]*schemas.StreamState{}
	return follower{
		take: func(key string, v []byte) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			if v == nil {
				delete(fresh, key)
				return nil
			}
			var s schemas.StreamState
			if err := json.Unmarshal(v, &s); err != nil {
				return err
			}
			if err := s.Key().Check(); err != nil {
				return err
			}
			if s.Key().KVKey() != key {
				return fmt.Errorf("the stream under key %s is %s", key, s.Key())
			}
			fresh[key] = &s
			return nil
		},
		publish: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.streams = fresh
		},
	}
}
