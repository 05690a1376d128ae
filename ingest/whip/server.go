package whip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/publish"
)

// Protocol is WHIP's name in events, metrics and epochs.
const Protocol = "whip"

// Settings of a Server.
type Settings struct {
	// Listen is host:port for HTTP; default 127.0.0.1:8889. Port 0 takes a free one.
	Listen string
	// TLS encrypts HTTP; nil: plain, as on loopback or behind a proxy.
	TLS *tls.Config
	// UDP is host:port for all media; default 127.0.0.1:8189.
	UDP string
	// TCP is host:port for media of publishers whose UDP is blocked; empty: none.
	TCP string
	// PublicIPs are told to publishers instead of the addresses listened on.
	PublicIPs []string
	// Publish takes the publications. Required; it must run.
	Publish *publish.Service
	// MaxSessions bounds sessions, MaxSessionsPerPeer those of one address; default 512 and 32.
	MaxSessions, MaxSessionsPerPeer int
	// MaxOfferBytes bounds an offer; default 64 KiB.
	MaxOfferBytes int64
	// LostTimeout ends a session whose network is gone; default 10 s.
	LostTimeout time.Duration
	Logger      *slog.Logger          // default: discard
	Registerer  prometheus.Registerer // default: none
}

func (s *Settings) defaults() error {
	if s.Publish == nil {
		return errors.New("whip: Publish is nil")
	}
	for _, ip := range s.PublicIPs {
		if net.ParseIP(ip) == nil {
			return fmt.Errorf("whip: public address %q is not an IP address", ip)
		}
	}
	if s.Listen == "" {
		s.Listen = "127.0.0.1:8889"
	}
	if s.UDP == "" {
		s.UDP = "127.0.0.1:8189"
	}
	if s.MaxSessions == 0 {
		s.MaxSessions = 512
	}
	if s.MaxSessionsPerPeer == 0 {
		s.MaxSessionsPerPeer = 32
	}
	if s.MaxOfferBytes == 0 {
		s.MaxOfferBytes = 64 << 10
	}
	if s.LostTimeout == 0 {
		s.LostTimeout = 10 * time.Second
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
	metrics *metrics
	ready   chan struct{}
	addr    net.Addr
	udp     net.Addr
	api     *webrtc.API
	life    context.Context
	wait    sync.WaitGroup // of sessions

	mu       sync.Mutex
	closing  bool
	count    int
	peers    map[netip.Addr]int
	sessions map[string]*session
}

// New checks the settings; [Server.Run] listens.
func New(s Settings) (*Server, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(s.Registerer)
	if err != nil {
		return nil, err
	}
	return &Server{s: s, log: s.Logger, metrics: m, ready: make(chan struct{}), peers: map[netip.Addr]int{}, sessions: map[string]*session{}}, nil
}

// Ready is closed when the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// URL is the endpoint's address up to the application; it waits until the server listens.
func (s *Server) URL() string {
	<-s.ready
	scheme := "http"
	if s.s.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.addr.String() + pathPrefix
}

// MediaAddr is where media goes, HOST:PORT (UDP); it waits until the server listens.
func (s *Server) MediaAddr() string {
	<-s.ready
	return s.udp.String()
}

// Run serves until ctx ends, then ends publications (their last chunks are
// published) and returns.
func (s *Server) Run(ctx context.Context) error {
	l, err := net.Listen("tcp", s.s.Listen)
	if err != nil {
		return fmt.Errorf("whip: listen on %s: %w: stop what uses the port, or choose another, 0 for any", s.s.Listen, err)
	}
	defer l.Close()
	stop, err := s.openMedia()
	if err != nil {
		return err
	}
	defer stop()
	var cancel context.CancelFunc
	s.life, cancel = context.WithCancel(ctx)
	defer cancel()
	s.addr = l.Addr()
	close(s.ready)
	s.log.Info("whip ingest listens", "addr", s.addr.String(), "media", s.udp.String())
	if s.s.TLS != nil {
		l = tls.NewListener(l, s.s.TLS)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err = <-failed:
		err = fmt.Errorf("whip: serve: %w", err)
	case <-ctx.Done():
	}
	cancel()
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	srv.Close()
	s.wait.Wait()
	return err
}

// openMedia opens the ports that all sessions share.
func (s *Server) openMedia() (stop func(), err error) {
	var closers []func() error
	stop = func() {
		for _, c := range closers {
			_ = c()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	udp, err := net.ListenPacket("udp", s.s.UDP)
	if err != nil {
		return nil, fmt.Errorf("whip: listen on %s (UDP): %w: stop what uses the port, or choose another, 0 for any", s.s.UDP, err)
	}
	s.udp = udp.LocalAddr()
	if u, ok := udp.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(4 << 20) // key frames of many publishers come at once
		udp = newMediaPort(u)
	}
	var e webrtc.SettingEngine
	mux := webrtc.NewICEUDPMux(nil, udp)
	closers = append(closers, mux.Close, udp.Close)
	e.SetICEUDPMux(mux)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if s.s.TCP != "" {
		l, err := net.Listen("tcp", s.s.TCP)
		if err != nil {
			return nil, fmt.Errorf("whip: listen on %s for media: %w: stop what uses the port, or choose another, 0 for any", s.s.TCP, err)
		}
		tcp := webrtc.NewICETCPMux(nil, l, 64)
		closers = append(closers, tcp.Close, l.Close)
		e.SetICETCPMux(tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	e.SetNetworkTypes(networks)
	e.SetLite(true)
	e.SetIncludeLoopbackCandidate(true)
	e.SetICETimeouts(s.s.LostTimeout/2, s.s.LostTimeout/2, 2*time.Second)
	if len(s.s.PublicIPs) > 0 {
		if err := e.SetICEAddressRewriteRules(webrtc.ICEAddressRewriteRule{External: s.s.PublicIPs, AsCandidateType: webrtc.ICECandidateTypeHost,
			Mode: webrtc.ICEAddressRewriteReplace}); err != nil {
			return nil, fmt.Errorf("whip: public addresses %s: %w", strings.Join(s.s.PublicIPs, ", "), err)
		}
	}
	s.api, err = newAPI(e)
	return stop, err
}

// admit counts a session in, or says why not and with what status.
func (s *Server) admit(peer netip.Addr) (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return publish.ErrShutdown.Error(), http.StatusServiceUnavailable
	case s.count >= s.s.MaxSessions:
		return fmt.Sprintf("%d sessions are open: no more are taken", s.count), http.StatusServiceUnavailable
	case s.peers[peer] >= s.s.MaxSessionsPerPeer:
		return fmt.Sprintf("%d sessions of this address are open: no more are taken", s.peers[peer]), http.StatusTooManyRequests
	}
	s.count++
	s.peers[peer]++
	s.wait.Add(1)
	s.metrics.sessions.Set(float64(s.count))
	return "", 0
}

func (s *Server) leave(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	if s.peers[peer]--; s.peers[peer] <= 0 {
		delete(s.peers, peer)
	}
	s.metrics.sessions.Set(float64(s.count))
	s.wait.Done()
}
