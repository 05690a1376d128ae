package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/certs"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/ingest/srt"
	"github.com/spillway-live/spillway/ingest/whip"
)

// busTimeout bounds what a role asks of the bus before it runs.
const busTimeout = 20 * time.Second

// ingestFlags are the settings of ingest.
type ingestFlags struct {
	rtmp string
	open bool
	encryptedFlags
	srt  srtFlags
	whip whipFlags
}

func (f *ingestFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.rtmp, "listen", "127.0.0.1:1935", "`HOST:PORT` for RTMP; off: none")
	fs.BoolVar(&f.open, "open-publish", false, "let publishers on this machine push without a key")
	f.encryptedFlags.register(fs)
	fs.StringVar(&f.srt.listen, "srt", "", "`HOST:PORT` (UDP) for SRT, usually port 8890 (default: none)")
	f.srt.register(fs)
	fs.StringVar(&f.whip.listen, "whip", "", "`HOST:PORT` for WHIP over HTTP, or HTTPS with --tls-cert, usually port 8889 (default: none)")
	fs.StringVar(&f.whip.udp, "whip-udp", "127.0.0.1:8189", "`HOST:PORT` (UDP) for media of WebRTC publishers")
	f.whip.register(fs)
}

// encryptedFlags are the settings of publishing over TLS.
type encryptedFlags struct {
	rtmps, cert, key string
	// ownDir is where a certificate of our own is kept for RTMPS without --tls-cert; empty: there is none.
	ownDir string
}

func (f *encryptedFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.rtmps, "rtmps", "", "`HOST:PORT` for RTMP over TLS (default: none); needs --tls-cert and --tls-key")
	f.registerFiles(fs)
}

func (f *encryptedFlags) registerFiles(fs *flag.FlagSet) {
	fs.StringVar(&f.cert, "tls-cert", "", "PEM `file` of the certificate, with its chain; read again when it changes")
	fs.StringVar(&f.key, "tls-key", "", "PEM `file` of the certificate's key")
}

// config gives the certificate for TLS, and that for RTMPS, which may be one of our own;
// nil where nothing is encrypted.
func (f *encryptedFlags) config(logger *slog.Logger) (all, rtmps *tls.Config, err error) {
	if f.cert == "" && f.key == "" {
		if f.rtmps == "" {
			return nil, nil, nil
		}
		if f.ownDir != "" {
			rtmps, err = f.own(logger)
			return nil, rtmps, err
		}
	}
	if f.cert == "" || f.key == "" {
		return nil, nil, errors.New("TLS needs both --tls-cert and --tls-key")
	}
	files, err := certs.Open(f.cert, f.key, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return files.Config(), files.Config(), nil
}

func (f *encryptedFlags) own(logger *slog.Logger) (*tls.Config, error) {
	cert, key, err := certs.Own(f.ownDir)
	if err != nil {
		return nil, err
	}
	files, err := certs.Open(cert, key, logger)
	if err != nil {
		return nil, err
	}
	return files.Config(), nil
}

// ingestServers are the servers of one ingest process: every protocol's, over one [publish.Service].
type ingestServers struct {
	publish *publish.Service
	rtmp    *rtmp.Server
	srt     *srt.Server  // nil: off
	whip    *whip.Server // nil: off
}

func (s *ingestServers) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.publish.Run(ctx) })
	g.Go(func() error { return s.rtmp.Run(ctx) })
	if s.srt != nil {
		g.Go(func() error { return s.srt.Run(ctx) })
	}
	if s.whip != nil {
		g.Go(func() error { return s.whip.Run(ctx) })
	}
	return g.Wait()
}

// ingestRole takes publishers over every protocol.
func (d *deps) ingestRole(ctx context.Context, f ingestFlags) (role, *ingestServers, error) {
	encryption, forRTMPS, err := f.config(d.log("ingest"))
	if err != nil {
		return role{}, nil, err
	}
	p, err := publish.New(ctx, publish.Settings{
		JetStream: d.js, Auth: publish.Auth{Keys: d.signer, OpenLoopback: f.open},
		DefaultCDN: firstCDN(d.js), Logger: d.log("ingest"), Registerer: d.reg,
	})
	if err != nil {
		return role{}, nil, err
	}
	r, err := rtmp.New(rtmp.Settings{Listen: f.rtmp, ListenTLS: f.rtmps, TLS: forRTMPS, Publish: p, Logger: d.log("ingest"), Registerer: d.reg})
	if err != nil {
		return role{}, nil, err
	}
	s := &ingestServers{publish: p, rtmp: r}
	if s.srt, err = d.srtServer(&f.srt, p); err != nil {
		return role{}, nil, err
	}
	if s.whip, err = d.whipServer(&f.whip, encryption, p); err != nil {
		return role{}, nil, err
	}
	return role{"ingest", s.run}, s, nil
}
