package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/edge"
)

// edgeKinds give the demo's CDNs different sizes and prices.
var edgeKinds = []struct {
	region          string
	capacityViewers int
	capacityBps     int64
	price           int64
}{
	{"eu", 2000, 10e9, 8000},
	{"us", 1000, 5e9, 5000},
	{"asia", 500, 2e9, 3000},
}

func (s *system) startEdges(ctx ctx) error {
	faults, err := s.d.js.KeyValue(ctx, schemas.BucketFaults)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketFaults, err)
	}
	if s.run.Origins == "" {
		return errors.New("edges need an origin: add origin to --only")
	}
	s.run.HLS = map[string]string{}
	for i, name := range strings.Split(s.f.cdns, ",") {
		if err := s.startEdge(ctx, strings.TrimSpace(name), i, faults); err != nil {
			return err
		}
	}
	return nil
}

// startEdge runs the edge of one CDN, the i-th, and makes it known to the router.
func (s *system) startEdge(ctx ctx, name string, i int, faults jetstream.KeyValue) error {
	// A fault of an earlier run is over.
	if err := faults.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("heal CDN %s: %w", name, err)
	}
	kind := edgeKinds[i%len(edgeKinds)]
	e, err := edge.New(edge.Settings{
		Name: name, Region: kind.region, Origins: []string{s.run.Origins}, Routers: splitList(s.run.Router),
		Collector: strings.TrimSuffix(s.run.Collector, collectorPath), EdgeKey: s.d.secrets.EdgeKey, Signer: s.d.signer, Geo: s.d.geo,
		CapacityBps: kind.capacityBps, CapacityViewers: kind.capacityViewers, PricePerGBMicroUSD: kind.price, Order: i,
		Faults: faults, Logger: s.d.log("edge-" + name), Registerer: s.reg,
	})
	if err != nil {
		return err
	}
	s.add(role{"edge " + name, e.Run})
	if err := registerCDN(ctx, s.d.js, e.Record()); err != nil {
		return err
	}
	s.edges = append(s.edges, e)
	s.run.HLS[name] = e.URL() + "/" + demoApp + "/" + demoStream + "/multivariant.m3u8"
	return nil
}
