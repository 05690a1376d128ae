package rtmp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/ingest/publish"
)

// conn is one connection, from accept to its end.
type conn struct {
	s      *Server
	c      net.Conn // over gather, with TLS between where the port is encrypted
	gather gatherer
	peer   netip.Addr
	wire   wire
	req    publish.Request
	in     *bufio.Reader
	budget atomic.Int64 // bytes a peer may still send before publishing; -1: no bound
	read   int64
	// armed is until when the read deadline holds.
	armed   time.Time
	settled bool
	closing atomic.Pointer[error] // why we close, when we do
}

// readBuffer takes a whole frame of a usual stream with one system call.
const readBuffer = 32 << 10

var errBudget = errors.New("too many bytes before the publish command")

// newConn takes a connection; encryption is nil on the plain port.
func newConn(s *Server, c net.Conn, peer netip.Addr, encryption *tls.Config) *conn {
	n := &conn{s: s, peer: peer, req: publish.Request{Protocol: Protocol, Peer: peer}}
	n.gather = gatherer{Conn: c, every: s.s.GatherEvery}
	n.c = &n.gather
	if encryption != nil {
		n.c, n.req.Protocol = tls.Server(&n.gather, encryption), ProtocolTLS
	}
	n.in = bufio.NewReaderSize(n.c, readBuffer)
	n.budget.Store(s.s.MaxBytesBeforePublish)
	return n
}

// gatherer reads a publisher's bytes at the moments that all publications share, so that one wake-up of
// the process serves all of them and takes several frames of each. Frames of many publishers arrive one by
// one, and waking up for each costs more than all that is done with it: 20 streams of 77 messages a second
// took 5.3 CPU seconds in 30 s without and 3.9 with a period of 24 ms, bus and packager included.
type gatherer struct {
	net.Conn
	every   time.Duration
	on      bool // the peer publishes; set by the goroutine that reads
	drained bool // the last read took all there was
}

func (g *gatherer) Read(p []byte) (int, error) {
	if g.every > 0 && g.on && g.drained {
		now := time.Now()
		time.Sleep(now.Truncate(g.every).Add(g.every).Sub(now))
	}
	k, err := g.Conn.Read(p)
	g.drained = k < len(p)
	return k, err
}

// CloseWrite tells the peer that nothing more comes.
func (g *gatherer) CloseWrite() error {
	if t, ok := g.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

// Read is the peer's bytes, bounded before it publishes.
func (n *conn) Read(p []byte) (int, error) {
	if b := n.budget.Load(); b >= 0 {
		if b == 0 {
			return 0, errBudget
		}
		if int64(len(p)) > b {
			p = p[:b]
		}
		k, err := n.in.Read(p)
		n.budget.Add(-int64(k))
		n.read += int64(k)
		return k, err
	}
	return n.in.Read(p)
}

// Write implements io.Writer. A publisher is written to rarely (acknowledgements, answers to pings): each
// time it has as long as a handshake to take it.
func (n *conn) Write(p []byte) (int, error) {
	if n.settled {
		if err := n.c.SetWriteDeadline(time.Now().Add(n.s.s.HandshakeTimeout)); err != nil {
			return 0, err
		}
	}
	return n.c.Write(p)
}

// serve runs the connection until it ends, or ctx when the server shuts down.
func (n *conn) serve(ctx context.Context) {
	defer n.c.Close()
	defer func() {
		if !n.settled {
			n.s.settle(n.peer)
		}
		if r := recover(); r != nil {
			n.s.log.Error("connection handler panicked", "peer", n.peer, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			if !n.settled { // otherwise the publication has told it
				n.s.s.Publish.Refuse(n.req, errPanicked, false)
			}
			n.farewell(statusOf(errPanicked), errPanicked.Reason)
		}
	}()
	if err := n.c.SetDeadline(time.Now().Add(n.s.s.HandshakeTimeout)); err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { n.interrupt(publish.ErrShutdown) })
	defer stop()
	pub := n.admit(ctx)
	if pub == nil {
		return
	}
	n.budget.Store(-1)
	n.settled, n.gather.on = true, true
	n.s.settle(n.peer)
	var cause error = errPanicked
	defer func() { pub.End(cause) }() // after a panic; otherwise it has ended already
	if err := n.wire.status("status", "NetStream.Publish.Start", "publish start"); err != nil {
		cause = n.endReason(err)
		return
	}
	cause = n.publish(pub)
	if cause = pub.End(cause); tell(cause) {
		n.farewell("NetStream.Publish.Rejected", cause.Error())
	}
}

var errPanicked = publish.Refuse("panic", "internal error")

// tell tells whether the peer, which did not end the publication itself, must be told why it ended.
func tell(cause error) bool {
	var lost *lostError
	return !errors.Is(cause, publish.ErrEnded) && !errors.As(cause, &lost)
}

// admit takes the connection up to the publish command; nil when it got no further.
func (n *conn) admit(ctx context.Context) *publish.Publication {
	if t, ok := n.c.(*tls.Conn); ok {
		if err := t.HandshakeContext(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) { // not a port probe
				n.s.s.Publish.Refuse(n.req, publish.Refuse("tls", fmt.Sprintf("TLS handshake: %.200s", err)), true)
			}
			return nil
		}
	}
	tcURL, name, isPublish, err := n.wire.accept(n)
	if err != nil {
		n.notRTMP(ctx, err)
		return nil
	}
	if !isPublish {
		n.refuse(publish.Refuse("play", "this port takes publishers only: watch over HLS"), true)
		return nil
	}
	t, err := parseTarget(tcURL, name)
	n.req.Key, n.req.PublishKey, n.req.CDN = t.key, t.pub, t.cdn
	if err != nil {
		n.refuse(publish.Refuse("name", err.Error()), true)
		return nil
	}
	pub, err := n.s.s.Publish.Admit(ctx, n.req)
	if err != nil {
		n.farewell(statusOf(err), err.Error())
		return nil
	}
	return pub
}

// statusOf gives the status code that says most nearly why a publisher is refused.
func statusOf(err error) string {
	var r *publish.Refused
	if errors.As(err, &r) {
		switch r.Code {
		case "play":
			return "NetStream.Play.Failed"
		case "name":
			return "NetStream.Publish.BadName"
		case "key", "hook":
			return "NetStream.Publish.Unauthorized"
		}
	}
	return "NetStream.Publish.Rejected"
}

// publish reads until the publication ends, and gives why.
func (n *conn) publish(pub *publish.Publication) error {
	var watch sync.WaitGroup
	over := make(chan struct{})
	watch.Go(func() {
		select {
		case <-pub.Done():
			n.interrupt(pub.Err())
		case <-over:
		}
	})
	f := &feed{n: n, pub: pub}
	f.demux.onSkip = func(reason string) { n.s.skipped.WithLabelValues(reason).Inc() }
	err := f.run()
	close(over)
	watch.Wait() // nothing sets deadlines behind the farewell's back
	return err
}

// notRTMP reports a peer that did not get as far as a publish command.
func (n *conn) notRTMP(ctx context.Context, err error) {
	if ctx.Err() != nil || n.read == 0 && !errors.Is(err, errBudget) {
		return // a port probe, or our own shutdown
	}
	reason := err.Error()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = fmt.Sprintf("no publish command within %s", n.s.s.HandshakeTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		reason = "the peer closed the connection before its publish command"
	default:
		reason = fmt.Sprintf("not RTMP as it is understood here: %.200s", reason)
	}
	n.s.s.Publish.Refuse(n.req, publish.Refuse("protocol", reason), true)
}

// refuse tells publisher, log and event the same reason.
func (n *conn) refuse(why *publish.Refused, noise bool) {
	n.s.s.Publish.Refuse(n.req, why, noise)
	n.farewell(statusOf(why), why.Reason)
}

// farewell tells the peer why its stream ends, and reads a little more so that the
// message is not lost by a reset.
func (n *conn) farewell(status, reason string) {
	if err := n.c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	if err := n.wire.status("error", status, reason); err != nil {
		return
	}
	if t, ok := n.c.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
	n.gather.on = false
	io.Copy(io.Discard, io.LimitReader(n.c, 4<<20))
}

// next reads a message. The deadline is moved only now and then: it costs.
func (n *conn) next() (*rawmessage.Message, time.Time, error) {
	if now := time.Now(); now.After(n.armed) {
		n.armed = now.Add(time.Second)
		if err := n.c.SetReadDeadline(now.Add(n.s.s.ReadTimeout + time.Second)); err != nil {
			return nil, now, err
		}
		if n.closing.Load() != nil { // interrupt came before the deadline was moved
			return nil, now, os.ErrDeadlineExceeded
		}
	}
	m, err := n.wire.next()
	return m, time.Now(), err
}

// lostError is a publication that ended because the peer or its connection went.
type lostError struct{ reason string }

func (e *lostError) Error() string { return e.reason }

// endReason puts a read error in plain words.
func (n *conn) endReason(err error) error {
	if r := n.closing.Load(); r != nil {
		return *r
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &lostError{fmt.Sprintf("no data for %s", n.s.s.ReadTimeout)}
	case errors.Is(err, io.EOF):
		return &lostError{"the publisher closed the connection"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return &lostError{"the connection was lost"}
	}
	return publish.Refuse("protocol", fmt.Sprintf("protocol error: %.200s", strings.TrimSpace(err.Error())))
}

// interrupt makes a blocked read return.
func (n *conn) interrupt(why error) {
	n.closing.CompareAndSwap(nil, &why)
	n.c.SetReadDeadline(time.Unix(1, 0))
}
