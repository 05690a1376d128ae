package collect

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// registry knows which CDN a host belongs to, from the bucket cdns.
type registry struct {
	js     jetstream.JetStream
	logger *slog.Logger
	byHost atomic.Pointer[map[string]string]
}

func newRegistry(js jetstream.JetStream, logger *slog.Logger) *registry {
	r := &registry{js: js, logger: logger}
	r.byHost.Store(&map[string]string{})
	return r
}

// cdn gives the name of the CDN that serves at host (with port, if not the default one), or "".
func (r *registry) cdn(host string) string { return (*r.byHost.Load())[host] }

// run follows the bucket until ctx ends.
func (r *registry) run(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		err := r.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if !failing {
			r.logger.Warn("CDN registry is not readable: CDNs are named as before", "err", err)
			failing = true
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (r *registry) watch(ctx context.Context) error {
	kv, err := r.js.KeyValue(ctx, schemas.BucketCDNs)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketCDNs, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", schemas.BucketCDNs, err)
	}
	defer func() {
		if err := w.Stop(); err != nil && ctx.Err() == nil {
			r.logger.Debug("stop watching CDNs", "err", err)
		}
	}()
	hosts := map[string]string{} // by CDN name
	publish := func() {
		m := make(map[string]string, len(hosts))
		for name, host := range maps.All(hosts) {
			m[host] = name
		}
		r.byHost.Store(&m)
	}
	replayed := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("watch bucket %s: ended", schemas.BucketCDNs)
			}
			if e == nil { // all that was there has been told
				replayed = true
				publish()
				continue
			}
			delete(hosts, e.Key())
			if e.Operation() == jetstream.KeyValuePut {
				var c schemas.CDN
				if err := schemas.UnmarshalStrict(e.Value(), &c); err != nil {
					r.logger.Warn("CDN registry entry is not readable", "name", e.Key(), "err", err)
				} else if _, host, ok := strings.Cut(c.BaseURL, "://"); ok {
					host, _, _ = strings.Cut(host, "/")
					hosts[e.Key()] = strings.ToLower(host)
				}
			}
			if replayed {
				publish()
			}
		}
	}
}
