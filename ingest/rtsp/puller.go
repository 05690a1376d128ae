// Package rtsp pulls cameras and servers that speak RTSP (RFC 2326, RFC 7826)
// and publishes what they send.
//
// It follows the bucket sources. A source that is always on is pulled all the
// time, one on demand from the first saying of demand until its grace after the
// last. Any number of pullers run side by side; a lease in the bucket pulls lets
// one of them open each camera, and another takes over about
// schemas.PullHoldsFor after it died.
//
// It promises: H.264, H.265, AAC and Opus are published as they are, others are
// refused by name; behind lost packets nothing is published that cannot be
// decoded; a camera that fails is asked again with growing delay and its answer
// is told (bucket pulls, event pull_failed); user and password are in no log,
// state or event.
//
// It leaves out back channels, multicast, and pictures that are not video.
package rtsp

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Settings of a Puller. JetStream and Publish are required.
type Settings struct {
	JetStream jetstream.JetStream
	// Publish takes what cameras send; it must run while the puller does, and a bit longer.
	Publish *publish.Service
	// AnswerWithin is how long a camera may take for each answer, and how long it
	// may be silent; default 5 s.
	AnswerWithin time.Duration
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Puller pulls. Make it with New, then Run it.
type Puller struct {
	s       Settings
	id      string
	m       *metrics
	report  *report.Reporter
	kv      jetstream.KeyValue
	sources *mirror.Table[*schemas.Source]
	watched *demand.Watched
	wake    chan struct{}
	pulls   map[schemas.StreamKey]*pull
	leases  map[schemas.StreamKey]*seen
	wanted  map[schemas.StreamKey]time.Time // on-demand sources: when they were last wanted
}

// pull is one camera that this process has the lease of.
type pull struct {
	src    schemas.Source
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// look is how often the puller compares what is wanted with what is pulled.
const look = 250 * time.Millisecond

// Why a pull ends from here; the text is the end reason of the stream.
var (
	errNobody  = errors.New("nobody watches: the camera is left alone until somebody does")
	errRemoved = errors.New("the source was removed")
	errChanged = errors.New("the source was changed")
	errLost    = errors.New("another puller has the camera")
)

// New checks the settings.
func New(ctx context.Context, s Settings) (*Puller, error) {
	if s.JetStream == nil || s.Publish == nil {
		return nil, errors.New("rtsp: JetStream and Publish are required")
	}
	if s.AnswerWithin == 0 {
		s.AnswerWithin = 5 * time.Second
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Puller{
		s: s, id: rand.Text(), wake: make(chan struct{}, 1),
		sources: mirror.New(schemas.BucketSources, schemas.ParseSource, s.Logger),
		pulls:   map[schemas.StreamKey]*pull{}, leases: map[schemas.StreamKey]*seen{}, wanted: map[schemas.StreamKey]time.Time{},
	}
	p.watched = demand.Listen(s.JetStream.Conn(), func(schemas.StreamKey) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	})
	var err error
	if p.m, err = newMetrics(s.Registerer); err != nil {
		return nil, err
	}
	if p.report, err = report.New(report.Settings{JetStream: s.JetStream, Logger: s.Logger}); err != nil {
		return nil, err
	}
	p.kv, err = schemas.OpenBucket(ctx, s.JetStream, schemas.BucketPulls)
	return p, err
}

// Run pulls until ctx ends, then leaves every camera (TEARDOWN) and gives the leases back.
func (p *Puller) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.sources.Run(gctx, p.s.JetStream) })
	g.Go(func() error { return p.watched.Run(gctx) })
	g.Go(func() error { return p.report.Run(gctx) })
	g.Go(func() error {
		t := time.NewTicker(look)
		defer t.Stop()
		changed := p.sources.Changed()
		for {
			select {
			case <-gctx.Done():
				p.leaveAll()
				return nil
			case <-t.C:
			case <-p.wake:
			case <-changed:
			}
			changed = p.sources.Changed() // before they are read
			p.compare(gctx, time.Now())
		}
	})
	return g.Wait()
}

func (p *Puller) leaveAll() {
	var wg sync.WaitGroup
	for _, l := range p.pulls {
		l.cancel(publish.ErrShutdown)
		wg.Go(func() { <-l.done })
	}
	wg.Wait()
}

// compare begins and ends pulls.
func (p *Puller) compare(ctx context.Context, now time.Time) {
	all := maps.Collect(p.sources.All())
	for k, l := range p.pulls {
		src, ok := all[k.KVKey()]
		select {
		case <-l.done: // the lease was lost
			delete(p.pulls, k)
			continue
		default:
		}
		switch {
		case !ok:
			l.cancel(errRemoved)
		case *src != l.src:
			l.cancel(errChanged)
		case !p.wants(k, src, now):
			l.cancel(errNobody)
		}
	}
	for key, src := range all {
		k, err := schemas.ParseKVKey(key)
		if err != nil || p.pulls[k] != nil || !p.wants(k, src, now) {
			continue
		}
		if rev, ok := p.claim(ctx, k, now); ok {
			p.begin(ctx, k, *src, rev)
		}
	}
	maps.DeleteFunc(p.wanted, func(k schemas.StreamKey, _ time.Time) bool { return all[k.KVKey()] == nil })
	maps.DeleteFunc(p.leases, func(k schemas.StreamKey, _ *seen) bool { return all[k.KVKey()] == nil })
	p.m.pulled.Set(float64(len(p.pulls)))
}

// wants reports whether a source should be pulled now.
func (p *Puller) wants(k schemas.StreamKey, src *schemas.Source, now time.Time) bool {
	if !src.OnDemand {
		return true
	}
	if p.watched.Is(k, now) {
		p.wanted[k] = now
		return true
	}
	grace := src.GraceSec
	if grace == 0 {
		grace = schemas.DefaultGraceSec
	}
	last, ever := p.wanted[k]
	return ever && p.pulls[k] != nil && now.Sub(last) < time.Duration(grace)*time.Second
}

func (p *Puller) begin(ctx context.Context, k schemas.StreamKey, src schemas.Source, rev uint64) {
	pctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l := &pull{src: src, cancel: cancel, done: make(chan struct{})}
	p.pulls[k] = l
	c := &camera{
		p: p, k: k, src: src, log: p.s.Logger.With("stream", k.String(), "camera", hostOf(src.URL)),
		lease: &lease{kv: p.kv, id: p.id, k: k, rev: rev, renewed: time.Now(), kick: make(chan struct{}, 1)},
	}
	go func() {
		defer close(l.done)
		defer cancel(nil)
		c.run(pctx, cancel)
	}()
}
