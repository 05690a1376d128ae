package rtmp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
)

// Settings of a Server.
type Settings struct {
	// Listen is host:port; default 127.0.0.1:1935. Port 0 takes a free one.
	Listen string
	// JetStream is the bus; its streams and buckets must exist. Required.
	JetStream jetstream.JetStream
	// Auth decides who may publish. The zero value lets nobody.
	Auth Auth
	// DefaultCDN names the CDN of a publisher whose URL names none; nil leaves it empty.
	DefaultCDN func(peer netip.Addr, k schemas.StreamKey) string
	// PartUs is the part target T, microseconds; default 200,000.
	PartUs int64
	// MaxConns bounds connections, MaxConnsPerPeer those of one address that have
	// not published yet; default 1024 and 64.
	MaxConns, MaxConnsPerPeer int
	// MaxBytesBeforePublish bounds what a peer may send before its publish command; default 256 KiB.
	MaxBytesBeforePublish int64
	// HandshakeTimeout is for everything before the publish command; default 10 s.
	HandshakeTimeout time.Duration
	// ReadTimeout ends a publication without data; default 15 s.
	ReadTimeout time.Duration
	// GatherEvery is how often what publishers sent is taken, at the same moments for all; it delays media by
	// half of that on average. Default 23 ms, which no usual frame interval is a multiple of, so that the
	// estimate of the wall-clock sees frames that did not wait; negative: at once.
	GatherEvery time.Duration
	// BusTimeout ends a publication whose media the bus has not taken for so long; default 30 s.
	BusTimeout time.Duration
	// TelemetryEvery is the interval of publisher telemetry rows; default 5 s.
	TelemetryEvery time.Duration
	Logger         *slog.Logger          // default: discard
	Registerer     prometheus.Registerer // default: none
}

func (s *Settings) defaults() error {
	if s.JetStream == nil {
		return errors.New("rtmp: JetStream is nil")
	}
	def := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	def(&s.HandshakeTimeout, 10*time.Second)
	def(&s.ReadTimeout, 15*time.Second)
	def(&s.GatherEvery, 23*time.Millisecond)
	def(&s.BusTimeout, 30*time.Second)
	def(&s.TelemetryEvery, 5*time.Second)
	if s.Listen == "" {
		s.Listen = "127.0.0.1:1935"
	}
	if s.PartUs == 0 {
		s.PartUs = schemas.DefaultPartTargetUs
	}
	if s.MaxConns == 0 {
		s.MaxConns = 1024
	}
	if s.MaxConnsPerPeer == 0 {
		s.MaxConnsPerPeer = 64
	}
	if s.MaxBytesBeforePublish == 0 {
		s.MaxBytesBeforePublish = 256 << 10
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server takes publishers.
type Server struct {
	s       Settings
	log     *slog.Logger
	report  *report.Reporter
	metrics *metrics
	bus     *busHandles
	noise   *rate.Limiter // of log lines and events about peers that are no publishers
	pool    sync.Pool     // *[]byte of payloads

	ready chan struct{}
	addr  net.Addr

	mu     sync.Mutex
	quiet  int // refusals not reported since the last report
	conns  int
	peers  map[netip.Addr]int
	active map[schemas.StreamKey]*publication
}

// New checks the settings; [Server.Run] listens.
func New(s Settings) (*Server, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	r, err := report.New(report.Settings{JetStream: s.JetStream, Logger: s.Logger})
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, err
	}
	srv := &Server{
		s: s, log: s.Logger, report: r, metrics: m, noise: rate.NewLimiter(1, 10), ready: make(chan struct{}),
		peers: map[netip.Addr]int{}, active: map[schemas.StreamKey]*publication{},
	}
	srv.pool.New = func() any { b := make([]byte, 0, 128<<10); return &b }
	return srv, nil
}

// Ready is closed when the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server listens; it waits until it does. After Run has failed before that, it never returns.
func (s *Server) Addr() net.Addr {
	<-s.ready
	return s.addr
}

// Run serves until ctx ends, then ends publications (their last chunks are
// published) and returns.
func (s *Server) Run(ctx context.Context) error {
	var err error
	if s.bus, err = openBus(ctx, s.s.JetStream); err != nil {
		return fmt.Errorf("rtmp: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.s.Listen)
	if err != nil {
		return fmt.Errorf("rtmp: listen on %s: %w: stop what uses the port, or choose another, 0 for any", s.s.Listen, err)
	}
	s.addr = l.Addr()
	close(s.ready)
	s.log.Info("rtmp ingest listens", "addr", s.addr.String())

	// Publications outlive ctx by a moment, to publish what they hold.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	reporting, stopReports := context.WithCancel(work)
	var reports, conns sync.WaitGroup
	reports.Go(func() { _ = s.report.Run(reporting) })
	stop := context.AfterFunc(ctx, func() { l.Close() }) // connections watch ctx themselves
	defer stop()
	err = s.accept(ctx, work, l, &conns)
	l.Close()
	force := time.AfterFunc(2*time.Second, cancel)
	conns.Wait()
	force.Stop()
	stopReports()
	reports.Wait()
	cancel()
	return err
}

func (s *Server) accept(ctx, work context.Context, l net.Listener, wg *sync.WaitGroup) error {
	pause := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("rtmp: accept: %w", err)
			}
			// Out of file descriptors, for instance: it passes.
			s.log.Warn("accept", "err", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		peer := peerOf(c)
		if reason := s.admit(peer); reason != "" {
			s.refused(refusal{peer: peer, code: "limit", reason: reason, noise: true})
			c.Close()
			continue
		}
		wg.Go(func() {
			defer s.leave(peer)
			newConn(s, c, peer).serve(ctx, work)
		})
	}
}

func peerOf(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// admit counts a connection in, or says why not.
func (s *Server) admit(peer netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.s.MaxConns {
		return fmt.Sprintf("%d connections are open: no more are taken", s.conns)
	}
	if s.peers[peer] >= s.s.MaxConnsPerPeer {
		return fmt.Sprintf("%d connections of this address have not published yet: no more are taken", s.peers[peer])
	}
	s.conns++
	s.peers[peer]++
	s.metrics.conns.Set(float64(s.conns))
	return ""
}

// settle takes a connection out of its peer's count of those that have not published.
func (s *Server) settle(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[peer]--; s.peers[peer] <= 0 {
		delete(s.peers, peer)
	}
}

func (s *Server) leave(netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	s.metrics.conns.Set(float64(s.conns))
}

// refusal is why a peer was turned away.
type refusal struct {
	peer   netip.Addr
	key    schemas.StreamKey
	cdn    string
	code   string // short, for the metric
	reason string
	noise  bool // anybody can cause it: reports are rate-limited
}

func (s *Server) refused(r refusal) {
	s.metrics.refused.WithLabelValues(r.code).Inc()
	if r.noise && !s.noise.Allow() {
		s.mu.Lock()
		s.quiet++
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	quiet := s.quiet
	s.quiet = 0
	s.mu.Unlock()
	s.log.Warn("publisher refused", "peer", r.peer, "stream", r.key.String(), "code", r.code, "reason", r.reason, "unreported_before", quiet)
	e := schemas.Event{Kind: schemas.EventPublishRefused, CDN: r.cdn, Reason: r.reason,
		Detail: map[string]string{"peer": r.peer.String(), "code": r.code, "protocol": "rtmp"}}
	if r.key.Check() == nil {
		e.App, e.Stream = r.key.App, r.key.Stream
	}
	s.report.Event(e)
}

// claim makes p the publication of its stream. The one before is closed: the
// newest wins. It waits, for a while, until that one has published its end.
func (s *Server) claim(p *publication) {
	s.mu.Lock()
	old := s.active[p.key]
	s.active[p.key] = p
	s.metrics.active.Set(float64(len(s.active)))
	s.mu.Unlock()
	if old == nil {
		return
	}
	old.stop("replaced by a newer publisher from " + p.peer.String())
	select {
	case <-old.done:
	case <-time.After(3 * time.Second): // the fence refuses whatever it still sends
	}
}

func (s *Server) release(p *publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[p.key] == p {
		delete(s.active, p.key)
	}
	s.metrics.active.Set(float64(len(s.active)))
}
