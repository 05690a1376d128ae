package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
)

// Settings of a Server.
type Settings struct {
	// Listen is host:port; default 127.0.0.1:1935. Port 0 takes a free one; "off" takes none.
	Listen string
	// ListenTLS is host:port for rtmps://, with TLS from the first byte; empty: none.
	// It needs TLS: certificates and the least version.
	ListenTLS string
	TLS       *tls.Config
	// Publish takes the publications. Required; it must run.
	Publish *publish.Service
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
	Logger      *slog.Logger          // default: discard
	Registerer  prometheus.Registerer // default: none
}

func (s *Settings) defaults() error {
	if s.Publish == nil {
		return errors.New("rtmp: Publish is nil")
	}
	if s.ListenTLS != "" && s.TLS == nil {
		return errors.New("rtmp: TLS is nil: RTMPS needs a certificate")
	}
	def := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	def(&s.HandshakeTimeout, 10*time.Second)
	def(&s.ReadTimeout, 15*time.Second)
	def(&s.GatherEvery, 23*time.Millisecond)
	if s.Listen == "" {
		s.Listen = "127.0.0.1:1935"
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

// Names of RTMP, plain and over TLS, in events, metrics and epochs.
const (
	Protocol    = "rtmp"
	ProtocolTLS = "rtmps"
)

// Server takes publishers.
type Server struct {
	s       Settings
	log     *slog.Logger
	gauge   prometheus.Gauge       // open connections
	skipped *prometheus.CounterVec // what was passed over, by reason

	ready       chan struct{}
	addr, addrS net.Addr

	mu    sync.Mutex
	conns int
	peers map[netip.Addr]int
}

// New checks the settings; [Server.Run] listens.
func New(s Settings) (*Server, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	srv := &Server{s: s, log: s.Logger, ready: make(chan struct{}), peers: map[netip.Addr]int{},
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "rtmp", Name: "connections", Help: "Open connections."}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "rtmp", Name: "skipped_total",
			Help: "What was passed over in tags with a FourCC, by reason: track (other than 0), modex, color_info, channel_layout."}, []string{"reason"})}
	if s.Registerer != nil {
		for _, c := range []prometheus.Collector{srv.gauge, srv.skipped} {
			if err := s.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("rtmp: register metrics: %w", err)
			}
		}
	}
	return srv, nil
}

// Ready is closed when the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server listens; it waits until it does. After Run has failed before that, it never returns.
// It is nil where only TLS is spoken.
func (s *Server) Addr() net.Addr {
	<-s.ready
	return s.addr
}

// AddrTLS is where rtmps:// is taken, nil where it is not; it waits as [Server.Addr] does.
func (s *Server) AddrTLS() net.Addr {
	<-s.ready
	return s.addrS
}

// Run serves until ctx ends, then ends publications (their last chunks are
// published) and returns.
func (s *Server) Run(ctx context.Context) error {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	open := func(addr string) (net.Addr, error) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("rtmp: listen on %s: %w: stop what uses the port, or choose another, 0 for any", addr, err)
		}
		listeners = append(listeners, l)
		return l.Addr(), nil
	}
	var encryption []*tls.Config // of each listener
	var err error
	if s.s.Listen != "off" {
		if s.addr, err = open(s.s.Listen); err != nil {
			return err
		}
		encryption = append(encryption, nil)
		s.log.Info("rtmp ingest listens", "addr", s.addr.String())
	}
	if s.s.ListenTLS != "" {
		if s.addrS, err = open(s.s.ListenTLS); err != nil {
			return err
		}
		encryption = append(encryption, s.s.TLS)
		s.log.Info("rtmps ingest listens", "addr", s.addrS.String())
	}
	close(s.ready)
	g, ctx := errgroup.WithContext(ctx)
	var conns sync.WaitGroup
	for i, l := range listeners {
		defer context.AfterFunc(ctx, func() { l.Close() })() // connections watch ctx themselves
		g.Go(func() error { return s.accept(ctx, l, encryption[i], &conns) })
	}
	g.Go(func() error { <-ctx.Done(); return nil })
	err = g.Wait()
	conns.Wait()
	return err
}

func (s *Server) accept(ctx context.Context, l net.Listener, encryption *tls.Config, wg *sync.WaitGroup) error {
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
			s.s.Publish.Refuse(publish.Request{Protocol: Protocol, Peer: peer}, publish.Refuse("limit", reason), true)
			c.Close()
			continue
		}
		wg.Go(func() {
			defer s.leave(peer)
			newConn(s, c, peer, encryption).serve(ctx)
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
	s.gauge.Set(float64(s.conns))
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
	s.gauge.Set(float64(s.conns))
}
