package srt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/datarhei/gosrt"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/publish"
)

// Protocol is SRT's name in events, metrics and epochs.
const Protocol = "srt"

// Bounds of a passphrase, bytes (SRTO_PASSPHRASE).
const (
	MinPassphraseBytes = 10
	MaxPassphraseBytes = 79
)

// Settings of a Server.
type Settings struct {
	// Listen is host:port (UDP); default 127.0.0.1:8890. Port 0 takes a free one.
	Listen string
	// Publish takes the publications. Required; it must run.
	Publish *publish.Service
	// Passphrase encrypts (AES-128, 192 or 256, as the caller chooses): every caller must
	// have it. Empty: encrypted callers are refused.
	Passphrase string
	// Latency is the least time that lost packets have to be sent again; a caller may
	// ask for more. Default 120 ms.
	Latency time.Duration
	// MaxConns bounds callers, MaxConnsPerPeer those of one address; default 1024 and 64.
	MaxConns, MaxConnsPerPeer int
	// MaxQueueBytes bounds what is kept of a publisher while the bus takes nothing; default 16 MiB.
	MaxQueueBytes int
	// ReadTimeout ends a publication without frames; default 15 s. One whose network
	// is gone ends after PeerTimeout, default 5 s.
	ReadTimeout, PeerTimeout time.Duration
	Logger                   *slog.Logger          // default: discard
	Registerer               prometheus.Registerer // default: none
}

func (s *Settings) defaults() error {
	if s.Publish == nil {
		return errors.New("srt: Publish is nil")
	}
	if n := len(s.Passphrase); n > 0 && (n < MinPassphraseBytes || n > MaxPassphraseBytes) {
		return fmt.Errorf("srt: the passphrase has %d bytes: %d to %d are taken", n, MinPassphraseBytes, MaxPassphraseBytes)
	}
	if s.Latency < 0 || s.Latency > 30*time.Second {
		return fmt.Errorf("srt: latency of %s: 0 to 30 s are taken", s.Latency)
	}
	if s.Listen == "" {
		s.Listen = "127.0.0.1:8890"
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&s.Latency, 120 * time.Millisecond}, {&s.ReadTimeout, 15 * time.Second}, {&s.PeerTimeout, 5 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	for _, d := range []struct {
		p *int
		v int
	}{{&s.MaxConns, 1024}, {&s.MaxConnsPerPeer, 64}, {&s.MaxQueueBytes, 16 << 20}} {
		if *d.p == 0 {
			*d.p = d.v
		}
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
	goodbye goodbyes
	ready   chan struct{}
	addr    net.Addr

	mu    sync.Mutex
	conns int
	peers map[netip.Addr]int
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
	return &Server{s: s, log: s.Logger, metrics: m, ready: make(chan struct{}), peers: map[netip.Addr]int{}}, nil
}

// Ready is closed when the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server listens; it waits until it does. After Run has failed
// before that, it never returns.
func (s *Server) Addr() net.Addr {
	<-s.ready
	return s.addr
}

func (s *Server) config() srt.Config {
	c := srt.DefaultConfig()
	c.ReceiverLatency, c.PeerLatency, c.PeerIdleTimeout = s.s.Latency, s.s.Latency, s.s.PeerTimeout
	c.Logger = &s.goodbye
	return c
}

// Run serves until ctx ends, then ends publications (their last chunks are
// published) and returns.
func (s *Server) Run(ctx context.Context) error {
	// The library takes addresses only.
	a, err := net.ResolveUDPAddr("udp", s.s.Listen)
	if err != nil {
		return fmt.Errorf("srt: %w: give HOST:PORT", err)
	}
	l, err := srt.Listen("srt", a.String(), s.config())
	if err != nil {
		return fmt.Errorf("srt: listen on %s (UDP): %w: stop what uses the port, or choose another, 0 for any", s.s.Listen, err)
	}
	s.addr = l.Addr()
	close(s.ready)
	s.log.Info("srt ingest listens", "addr", s.addr.String(), "encrypted", s.s.Passphrase != "", "latency", s.s.Latency)

	var conns sync.WaitGroup
	failed := make(chan error, 1)
	go func() { failed <- s.accept(ctx, l, &conns) }()
	select {
	case <-ctx.Done():
		conns.Wait() // they end by ctx, and tell their peers while the socket is open
		l.Close()
		<-failed
		return nil
	case err := <-failed:
		l.Close()
		conns.Wait()
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

func (s *Server) accept(ctx context.Context, l srt.Listener, wg *sync.WaitGroup) error {
	for {
		req, err := s.next(l)
		switch {
		case err != nil:
			return err
		case req == nil:
			continue
		case ctx.Err() != nil:
			req.Reject(srt.REJX_DOWN)
			continue
		}
		peer := peerOf(req)
		if reason := s.admit(peer); reason != "" {
			s.s.Publish.Refuse(publish.Request{Protocol: Protocol, Peer: peer}, publish.Refuse("limit", reason), true)
			req.Reject(srt.REJX_OVERLOAD)
			continue
		}
		wg.Go(func() {
			defer s.leave(peer)
			s.serve(ctx, req, peer)
		})
	}
}

// next waits for a caller. The library reads its handshake here.
func (s *Server) next(l srt.Listener) (req srt.ConnRequest, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("reading a handshake panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			req, err = nil, nil
		}
	}()
	if req, err = l.Accept2(); err != nil {
		return nil, fmt.Errorf("srt: accept: %w", err)
	}
	return req, nil
}

func peerOf(req srt.ConnRequest) netip.Addr {
	a, ok := req.RemoteAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}

// admit counts a caller in, or says why not.
func (s *Server) admit(peer netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.s.MaxConns {
		return fmt.Sprintf("%d connections are open: no more are taken", s.conns)
	}
	if s.peers[peer] >= s.s.MaxConnsPerPeer {
		return fmt.Sprintf("%d connections of this address are open: no more are taken", s.peers[peer])
	}
	s.conns++
	s.peers[peer]++
	s.metrics.conns.Set(float64(s.conns))
	return ""
}

func (s *Server) leave(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if s.peers[peer]--; s.peers[peer] <= 0 {
		delete(s.peers, peer)
	}
	s.metrics.conns.Set(float64(s.conns))
}

// goodbyes remembers which connections were closed by their peers. The library tells
// so in its log only, which is why this is its logger.
type goodbyes struct {
	mu   sync.Mutex
	said map[uint32]bool // by socket id, of connections that are watched
}

func (g *goodbyes) watch(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.said == nil {
		g.said = map[uint32]bool{}
	}
	g.said[id] = false
}

// take tells whether the peer has closed, and forgets the connection.
func (g *goodbyes) take(id uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := g.said[id]
	delete(g.said, id)
	return said
}

// HasTopic implements srt.Logger.
func (g *goodbyes) HasTopic(string) bool { return false }

// Print implements srt.Logger.
func (g *goodbyes) Print(topic string, id uint32, _ int, _ func() string) {
	if topic != "control:recv:shutdown:dump" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.said[id]; ok {
		g.said[id] = true
	}
}

// Listen implements srt.Logger.
func (g *goodbyes) Listen() <-chan srt.Log { return nil }

// Close implements srt.Logger.
func (g *goodbyes) Close() {}
