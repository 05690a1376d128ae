package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtsp"
)

// pullerRole pulls cameras. shared is the publish service of an ingest of the
// same process; nil: the puller has its own.
func (d *deps) pullerRole(ctx context.Context, shared *publish.Service) (role, error) {
	svc := shared
	if svc == nil {
		var err error
		if svc, err = publish.New(ctx, publish.Settings{JetStream: d.js, DefaultCDN: firstCDN(d.js), Logger: d.log("puller"), Registerer: d.reg}); err != nil {
			return role{}, err
		}
	}
	p, err := rtsp.New(ctx, rtsp.Settings{JetStream: d.js, Publish: svc, Logger: d.log("puller"), Registerer: d.reg})
	if err != nil {
		return role{}, err
	}
	return role{"puller", func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return p.Run(ctx) })
		if shared == nil {
			g.Go(func() error { return svc.Run(ctx) })
		}
		return g.Wait()
	}}, nil
}

func (s *system) startPuller(ctx ctx) error {
	var shared *publish.Service
	if s.ingest != nil {
		shared = s.ingest.publish
	}
	r, err := s.d.pullerRole(ctx, shared)
	if err != nil {
		return err
	}
	s.add(r)
	return nil
}
