package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Settings of a Service.
type Settings struct {
	// JetStream is the bus; its streams and buckets must exist. Required.
	JetStream jetstream.JetStream
	// Auth decides who may publish. The zero value lets nobody.
	Auth Auth
	// DefaultCDN names the CDN of a publisher that names none; nil leaves it empty.
	DefaultCDN func(peer netip.Addr, k schemas.StreamKey) string
	// HookTimeout is how long an application's publish hook may take, each of two times; default 3 s.
	HookTimeout time.Duration
	// PartUs is the part target T of streams that no setting or experiment says
	// otherwise of, microseconds; default 200,000.
	PartUs int64
	// StartTimeout is the longest wait for usable media, and for a key frame; default 10 s.
	StartTimeout time.Duration
	// BusTimeout ends a publication whose media the bus has not taken for so long; default 30 s.
	BusTimeout time.Duration
	// TelemetryEvery is the interval of publisher telemetry rows; default 5 s.
	TelemetryEvery time.Duration
	Logger         *slog.Logger          // default: discard
	Registerer     prometheus.Registerer // default: none
}

func (s *Settings) defaults() error {
	if s.JetStream == nil {
		return errors.New("publish: JetStream is nil")
	}
	if s.HookTimeout == 0 {
		s.HookTimeout = 3 * time.Second
	}
	if s.StartTimeout == 0 {
		s.StartTimeout = 10 * time.Second
	}
	if s.BusTimeout == 0 {
		s.BusTimeout = 30 * time.Second
	}
	if s.TelemetryEvery == 0 {
		s.TelemetryEvery = 5 * time.Second
	}
	if s.PartUs == 0 {
		s.PartUs = schemas.DefaultPartTargetUs
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Service is what all publications of a process share. Safe for concurrent use.
type Service struct {
	s       Settings
	log     *slog.Logger
	report  *report.Reporter
	hops    *hops.Reporter
	node    string // this process, in rows about hops
	metrics *metrics
	bus     *busHandles
	apps    *mirror.Table[*schemas.AppSettings]
	shares  *mirror.Table[bool] // addresses that are shares' or were
	sources *mirror.Table[bool] // streams that cameras are pulled for
	running *mirror.Table[*schemas.Experiment]
	hook    *hook
	noise   noise
	pool    sync.Pool // *[]byte of payloads

	mu      sync.Mutex
	closed  bool
	all     map[*Publication]struct{}          // admitted and not ended
	left    chan struct{}                      // closed when the last of all has ended after closed
	current map[schemas.StreamKey]*Publication // those that have their stream
}

// New opens the bus's streams and buckets. [Service.Run] must run while publishers are admitted.
func New(ctx context.Context, s Settings) (*Service, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	r, err := report.New(report.Settings{JetStream: s.JetStream, Logger: s.Logger})
	if err != nil {
		return nil, err
	}
	b, err := openBus(ctx, s.JetStream)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, err
	}
	svc := &Service{s: s, log: s.Logger, report: r, hops: hops.NewReporter(s.JetStream, "ingest-hops", s.Logger), node: nodeName(), metrics: m, bus: b,
		apps: mirror.New(schemas.BucketApps, schemas.ParseAppSettings, s.Logger), shares: mirror.New(schemas.BucketShares, taken, s.Logger), sources: mirror.New(schemas.BucketSources, taken, s.Logger),
		running: mirror.New(schemas.BucketExperiments, schemas.ParseExperiment, s.Logger), hook: newHook(s.HookTimeout),
		all: map[*Publication]struct{}{}, left: make(chan struct{}), current: map[schemas.StreamKey]*Publication{}}
	svc.pool.New = func() any { b := make([]byte, 0, 128<<10); return &b }
	return svc, nil
}

// drainTimeout is how long a publication may take to publish what it holds when
// the process stops; leaveTimeout how long its protocol may take to end it.
const (
	drainTimeout = 2 * time.Second
	leaveTimeout = drainTimeout + time.Second
)

// Run sends reports and follows the settings of applications, shares, cameras and experiments until ctx ends. Then it stops all publications with
// [ErrShutdown], waits until their protocols have ended them (their last chunks
// are published) and returns.
func (s *Service) Run(ctx context.Context) error {
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.report.Run(reporting) })
	wg.Go(func() { s.hops.Run(reporting) })
	wg.Go(func() { _ = s.apps.Run(ctx, s.s.JetStream) })
	wg.Go(func() { _ = s.shares.Run(ctx, s.s.JetStream) })
	wg.Go(func() { _ = s.sources.Run(ctx, s.s.JetStream) })
	wg.Go(func() { _ = s.running.Run(ctx, s.s.JetStream) })
	<-ctx.Done()
	s.shutDown()
	stop()
	wg.Wait()
	return nil
}

func (s *Service) shutDown() {
	s.mu.Lock()
	s.closed = true
	var all []*Publication
	for p := range s.all {
		all = append(all, p)
	}
	s.mu.Unlock()
	for _, p := range all {
		p.stop(ErrShutdown)
	}
	if len(all) == 0 {
		return
	}
	late := time.NewTimer(leaveTimeout)
	defer late.Stop()
	select {
	case <-s.left:
	case <-late.C:
		s.log.Warn("publications were not ended by their protocols in time")
	}
}

// enter counts a publication in; false: the service is shutting down.
func (s *Service) enter(p *Publication) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.all[p] = struct{}{}
	}
	return !s.closed
}

func (s *Service) leave(p *Publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, p)
	if s.closed && len(s.all) == 0 {
		close(s.left)
	}
}
