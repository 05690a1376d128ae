package main

import (
	"context"
	"flag"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
)

// busTimeout bounds what a role asks of the bus before it runs.
const busTimeout = 20 * time.Second

// ingestFlags are the settings of ingest when it runs alone.
type ingestFlags struct {
	rtmp string
	open bool
}

func (f *ingestFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.rtmp, "listen", "127.0.0.1:1935", "`HOST:PORT` for RTMP")
	fs.BoolVar(&f.open, "open-publish", false, "let publishers on this machine push without a key")
}

// ingestServers are the servers of one ingest process: every protocol's, over one [publish.Service].
type ingestServers struct {
	publish *publish.Service
	rtmp    *rtmp.Server
}

func (s *ingestServers) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.publish.Run(ctx) })
	g.Go(func() error { return s.rtmp.Run(ctx) })
	return g.Wait()
}

// ingestRole takes publishers over every protocol.
func (d *deps) ingestRole(ctx context.Context, f ingestFlags) (role, *ingestServers, error) {
	p, err := publish.New(ctx, publish.Settings{
		JetStream: d.js, Auth: publish.Auth{Keys: d.signer, OpenLoopback: f.open},
		DefaultCDN: firstCDN(d.js), Logger: d.log("ingest"), Registerer: d.reg,
	})
	if err != nil {
		return role{}, nil, err
	}
	r, err := rtmp.New(rtmp.Settings{Listen: f.rtmp, Publish: p, Logger: d.log("ingest"), Registerer: d.reg})
	if err != nil {
		return role{}, nil, err
	}
	s := &ingestServers{publish: p, rtmp: r}
	return role{"ingest", s.run}, s, nil
}
