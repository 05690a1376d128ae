package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// firstCDN gives the CDN of publishers whose URL names none: the active one
// that ranks first, or none while the registry cannot be read.
func firstCDN(js jetstream.JetStream) func(netip.Addr, schemas.StreamKey) string {
	return func(netip.Addr, schemas.StreamKey) string {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r, err := registry.Open(ctx, js, schemas.BucketCDNs, schemas.ParseCDN)
		if err != nil {
			return ""
		}
		l, err := r.List(ctx)
		if err != nil {
			return ""
		}
		best := &schemas.CDN{}
		for _, e := range l {
			if d := e.Value; e.Err == nil && d.State == schemas.CDNActive && (best.Name == "" || d.Order < best.Order) {
				best = d
			}
		}
		return best.Name
	}
}

// registerCDN writes an edge's address into the registry and keeps what an
// operator changed of the entry since (state, capacity, price, thresholds).
func registerCDN(ctx ctx, js jetstream.JetStream, c schemas.CDN) error {
	r, err := registry.Open(ctx, js, schemas.BucketCDNs, schemas.ParseCDN)
	if err == nil {
		_, err = r.Edit(ctx, c.Name, func(d *schemas.CDN, found bool) error {
			if !found {
				*d = c
			}
			d.BaseURL = c.BaseURL
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("register CDN %s: %w", c.Name, err)
	}
	return nil
}
