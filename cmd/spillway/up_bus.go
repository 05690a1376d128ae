package main

import (
	"context"
	"path/filepath"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
)

// startBus connects to the bus that --nats names, or runs one in this process,
// and opens its streams and buckets.
func (s *system) startBus(ctx ctx, dir string) error {
	var err error
	if s.f.region != "" {
		if s.region, err = readRegionFile(s.f.region); err != nil {
			return err
		}
	}
	if s.f.nats != "" {
		err = s.connectBus()
	} else {
		err = s.embedBus(dir)
	}
	if err != nil {
		return err
	}
	s.d.js, err = bus.JetStream(ctx, s.nc, schemas.BusSettings{})
	return err
}

func (s *system) connectBus() error {
	nc, err := bus.Connect(s.f.nats, "spillway", s.logger)
	if err != nil {
		return err
	}
	s.nc, s.run.NATS = nc, s.f.nats
	s.g.start("bus connection", func(ctx context.Context) error { <-ctx.Done(); nc.Close(); return nil })
	return nil
}

func (s *system) embedBus(dir string) error {
	addr, err := s.f.natsPort.choose("NATS", s.logger)
	if err != nil {
		return err
	}
	o := bus.Options{DataDir: filepath.Join(dir, "nats"), Port: number(addr), Logger: s.logger}
	if s.region != nil {
		if o.Region, err = s.region.bus(); err != nil {
			return err
		}
	}
	srv, err := bus.Start(o)
	if err != nil {
		return err
	}
	s.bus, s.run.Leaf = srv, srv.LeafAddr()
	nc, err := srv.Connect("spillway", s.logger)
	if err != nil {
		srv.Stop()
		return err
	}
	s.nc, s.run.NATS, s.run.Review = nc, srv.URL(), srv.ReviewURL()
	s.g.start("bus", func(ctx context.Context) error {
		<-ctx.Done()
		nc.Close()
		srv.Stop()
		return nil
	})
	return nil
}
