package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// firstCDN gives the CDN of publishers whose URL names none: the active one
// that ranks first, or none while the registry cannot be read.
func firstCDN(js jetstream.JetStream) func(netip.Addr, schemas.StreamKey) string {
	return func(netip.Addr, schemas.StreamKey) string {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		kv, err := js.KeyValue(ctx, schemas.BucketCDNs)
		if err != nil {
			return ""
		}
		names, err := keys(ctx, kv)
		if err != nil {
			return ""
		}
		var best *schemas.CDN
		for _, n := range names {
			d, err := getCDN(ctx, kv, n)
			if err != nil || d.State != schemas.CDNActive {
				continue
			}
			if best == nil || d.Order < best.Order {
				best = d
			}
		}
		if best == nil {
			return ""
		}
		return best.Name
	}
}

// registerCDN writes an edge's address into the registry and keeps what an
// operator changed of the entry since (state, capacity, price, thresholds).
func registerCDN(ctx ctx, js jetstream.JetStream, c schemas.CDN) error {
	kv, err := js.KeyValue(ctx, schemas.BucketCDNs)
	if err != nil {
		return fmt.Errorf("register CDN %s: %w", c.Name, err)
	}
	e, err := kv.Get(ctx, c.Name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if err := c.Check(); err != nil {
			return err
		}
		v, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if _, err := kv.Create(ctx, c.Name, v); err != nil {
			return fmt.Errorf("register CDN %s: %w", c.Name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("register CDN %s: %w", c.Name, err)
	}
	var old schemas.CDN
	if err := json.Unmarshal(e.Value(), &old); err == nil && old.BaseURL == c.BaseURL {
		return nil
	}
	return updateCDN(ctx, kv, c.Name, func(d *schemas.CDN) { d.BaseURL = c.BaseURL })
}
