// Package leanhttp serves HTTP/1.1 GET and HEAD to many connections that ask
// little at a time, as players do, for about a third of the CPU of net/http, and
// gives everything else to net/http.
//
// A connection has one goroutine, which reads a request, calls the handler and
// writes the answer with one system call where it is small. There is no reader
// in the background, so a handler does not learn that its client has gone until
// it writes; what waits must have a bound. Deadlines are moved on seldom: they
// may strike up to half as late again as asked for.
//
// What is read here is a small part of HTTP that cannot be misunderstood: see
// parse. At the first byte of anything else (bodies, upgrades, other methods and
// versions, percent-encoded paths, long heads, TLS) the connection goes to
// net/http with all that has been read of the request and stays there.
package leanhttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves until Shutdown. Fill in the fields and call Serve once.
type Server struct {
	// Rest serves what is not served here, with the same handler. Its Handler,
	// BaseContext, ConnContext, ReadHeaderTimeout, IdleTimeout and WriteTimeout hold
	// here, too. A request is valid until the handler returns and is used again for
	// the next; its context ends with the connection. Required, with these fields.
	Rest *http.Server
	// Closed is called once for each connection that ConnContext was called for,
	// when it has been closed, wherever it was served. Required.
	Closed func(net.Conn)
	// Logger is told of panics in the handler. Required.
	Logger *slog.Logger

	passed   *passed
	stopping atomic.Bool
	wg       sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]struct{}
}

// Serve takes connections from l, which it closes, until Shutdown, and then
// returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener, s.conns = l, map[*conn]struct{}{}
	s.passed = newPassed(l.Addr())
	s.mu.Unlock()
	defer l.Close()
	take := s.Rest.ConnContext
	s.Rest.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return c.(*conn).ctx // made when it was accepted
	}
	rest := make(chan error, 1)
	go func() { rest <- s.Rest.Serve(s.passed) }()
	base := context.Background()
	if s.Rest.BaseContext != nil {
		base = s.Rest.BaseContext(l)
	}
	wait := time.Duration(0)
	for {
		rw, err := l.Accept()
		if err != nil {
			if s.stopping.Load() {
				return http.ErrServerClosed
			}
			var ne net.Error
			//lint:ignore SA1019 as net/http does: too many open files pass
			if !errors.As(err, &ne) || !ne.Temporary() {
				return errors.Join(err, s.Rest.Close(), <-rest)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.Logger.Warn("accept a connection: trying again", "err", err)
			time.Sleep(wait) // nothing to wait for tells when files are free again; Shutdown is noticed within the second
			continue
		}
		wait = 0
		s.took(take(base, rw), rw)
	}
}

func (s *Server) took(ctx context.Context, rw net.Conn) {
	c := &conn{Conn: rw, s: s}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if _, plain := rw.(*net.TCPConn); !plain {
		c.pass()
		return
	}
	s.mu.Lock()
	stopping := s.stopping.Load()
	if !stopping { // nothing is added once Shutdown may wait
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if stopping {
		c.Close()
		return
	}
	go c.serve()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Shutdown takes no more connections, closes those without a request, lets the
// others finish the answer they are at, and closes what is left when ctx ends,
// with ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.mu.Lock()
	l := s.listener
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	if l != nil {
		l.Close()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	err := s.Rest.Shutdown(ctx)
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	_ = s.Rest.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}

// passed is the listener from which net/http takes connections.
type passed struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPassed(addr net.Addr) *passed {
	return &passed{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *passed) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *passed) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *passed) Addr() net.Addr { return p.addr }
