package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/certs"
	"github.com/spillway-live/spillway/workers/router"
	"github.com/spillway-live/spillway/workers/store"
)

func (s *system) startIngest(ctx ctx) error {
	f, err := s.ingestFlags()
	if err != nil {
		return err
	}
	r, in, err := s.d.ingestRole(ctx, f)
	if err != nil {
		return err
	}
	s.add(r)
	s.ingest = in
	if err := s.waitFor(ctx, "ingest (RTMP)", in.rtmp.Ready()); err != nil {
		return err
	}
	s.run.Push = "rtmp://" + in.rtmp.Addr().String() + "/" + demoApp
	if a := in.rtmp.AddrTLS(); a != nil {
		s.run.PushRTMPS = "rtmps://" + a.String() + "/" + demoApp
		if f.cert == "" {
			if s.run.PushRTMPSCert, _, err = certs.Own(f.ownDir); err != nil {
				return err
			}
		}
	}
	if in.srt != nil {
		if err := s.waitFor(ctx, "ingest (SRT)", in.srt.Ready()); err != nil {
			return err
		}
		s.run.PushSRT = "srt://" + in.srt.Addr().String() + "?streamid=" + demoApp
	}
	if in.whip != nil {
		if err := s.waitFor(ctx, "ingest (WHIP)", in.whip.Ready()); err != nil {
			return err
		}
		s.run.PushWHIP, s.run.PushWHIPMedia = in.whip.URL()+demoApp, in.whip.MediaAddr()
	}
	return nil
}

// ingestFlags says where each protocol listens.
func (s *system) ingestFlags() (ingestFlags, error) {
	f := ingestFlags{open: s.f.openPub, encryptedFlags: s.f.tls, srt: s.f.srt, whip: s.f.whip}
	var err error
	if f.rtmp, err = s.f.rtmp.choose("ingest (RTMP)", s.logger); err != nil {
		return f, err
	}
	if f.rtmps, err = s.f.rtmpsPort.choose("ingest (RTMPS)", s.logger); err != nil {
		return f, err
	}
	if f.rtmps == portOff {
		f.rtmps = ""
	}
	if f.ownDir, err = filepath.Abs(filepath.Join(s.d.dataDir, "tls")); err != nil {
		return f, fmt.Errorf("find the data directory: %w", err)
	}
	if f.srt.listen, err = s.f.srtPort.choose("ingest (SRT)", s.logger); err != nil {
		return f, err
	}
	if f.whip.listen, err = s.f.whipPort.choose("ingest (WHIP)", s.logger); err != nil {
		return f, err
	}
	if f.whip.listen != portOff {
		f.whip.udp, err = s.f.whipUDP.choose("ingest (WebRTC media)", s.logger)
	}
	return f, err
}

func (s *system) startPackager(ctx) error {
	r, err := s.d.packagerRole(s.f.media)
	if err != nil {
		return err
	}
	s.add(r)
	return nil
}

// objects opens the store of what viewers may seek back to, under the data
// directory unless --store says otherwise.
func (s *system) objects(ctx ctx) (store.Objects, error) {
	address := s.f.store
	if address == "" {
		dir, err := filepath.Abs(filepath.Join(s.d.dataDir, "store"))
		if err != nil {
			return nil, fmt.Errorf("find the data directory: %w", err)
		}
		address = (&url.URL{Scheme: "file", Path: dir}).String()
	}
	return openStore(ctx, address)
}

// startRecorder costs nothing until a stream's settings ask for it.
func (s *system) startRecorder(ctx ctx) error {
	o, err := s.objects(ctx)
	if err != nil {
		return err
	}
	s.add(s.d.recorderRole(o))
	return nil
}

func (s *system) startOrigin(ctx ctx) error {
	objects, err := s.objects(ctx)
	if err != nil {
		return err
	}
	addr, err := s.f.origin.choose("origin", s.logger)
	if err != nil {
		return err
	}
	r, u, err := s.d.originRole(addr, "", objects, s.f.media)
	if err != nil {
		return err
	}
	s.run.Origins = u
	s.add(r)
	return nil
}

// publishURLs are templates of the publish addresses, for the router.
func (r *runFile) publishURLs() string {
	var out []string
	for _, u := range []string{r.Push, r.PushRTMPS, r.PushWHIP} {
		if u != "" {
			out = append(out, strings.TrimSuffix(u, "/"+demoApp)+"/{app}/{stream}?cdn={cdn}")
		}
	}
	if r.PushSRT != "" {
		host, _, _ := strings.Cut(r.PushSRT, "?")
		out = append(out, host+"?streamid=%23!::r={app}/{stream},m=publish,cdn={cdn}")
	}
	return strings.Join(out, " ")
}

func (s *system) startRouter(ctx ctx) error {
	addr, err := s.f.router.choose("router", s.logger)
	if err != nil {
		return err
	}
	r, srv, err := s.d.routerRole(router.Settings{
		Addr: addr, Collector: strings.TrimSuffix(s.run.Collector, collectorPath), PublishURL: s.run.publishURLs(), PublishSTUN: s.run.PushWHIPMedia, Origins: splitList(s.run.Origins),
		TokenTTL: s.f.sessions, SteeringTTL: s.f.steeringTTL,
	}, true)
	if err != nil {
		return err
	}
	s.run.Router = srv.URL()
	s.add(r)
	return s.waitFor(ctx, "router", srv.Ready())
}

// startScreenshot keeps pictures under the data directory where settings ask for it.
func (s *system) startScreenshot(ctx ctx) error {
	o, err := s.objects(ctx)
	if err != nil {
		return err
	}
	s.add(s.d.keeperRole(o))
	s.add(s.d.screenshotRole(pictureFlags{interval: 5 * time.Second, width: 320, decoders: 2}))
	return nil
}

func (s *system) startHotList(ctx) error {
	s.add(s.d.hotListRole())
	return nil
}

func (s *system) startReviewer(ctx ctx) error {
	o, err := s.objects(ctx)
	if err != nil {
		return err
	}
	s.add(s.d.reviewerRole(o))
	return nil
}
