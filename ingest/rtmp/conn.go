package rtmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/schemas"
)

// conn is one connection, from accept to its end.
type conn struct {
	s      *Server
	c      net.Conn
	peer   netip.Addr
	wire   wire
	target target
	in     *bufio.Reader
	budget atomic.Int64 // bytes a peer may still send before publishing; -1: no bound
	read   int64
	// armed is until when the read deadline holds.
	armed   time.Time
	settled bool
	closing atomic.Pointer[string] // why we close, when we do
}

// readBuffer takes a whole frame of a usual stream with one system call.
const readBuffer = 32 << 10

var errBudget = errors.New("too many bytes before the publish command")

func newConn(s *Server, c net.Conn, peer netip.Addr) *conn {
	n := &conn{s: s, c: c, peer: peer}
	n.in = bufio.NewReaderSize(&gatherer{n: n}, readBuffer)
	n.budget.Store(s.s.MaxBytesBeforePublish)
	return n
}

// gatherer reads a publisher's bytes at the moments that all publications share, so that one wake-up of
// the process serves all of them and takes several frames of each. Frames of many publishers arrive one by
// one, and waking up for each costs more than all that is done with it: 20 streams of 77 messages a second
// took 5.3 CPU seconds in 30 s without and 3.9 with a period of 24 ms, bus and packager included.
type gatherer struct {
	n       *conn
	drained bool // the last read took all there was
}

func (g *gatherer) Read(p []byte) (int, error) {
	if every := g.n.s.s.GatherEvery; every > 0 && g.n.settled && g.drained {
		now := time.Now()
		time.Sleep(now.Truncate(every).Add(every).Sub(now))
	}
	k, err := g.n.c.Read(p)
	g.drained = k < len(p)
	return k, err
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

// serve runs the connection. ctx ends when the server shuts down, work a little later.
func (n *conn) serve(ctx, work context.Context) {
	defer n.c.Close()
	defer func() {
		if !n.settled {
			n.s.settle(n.peer)
		}
		if r := recover(); r != nil {
			n.s.log.Error("connection handler panicked", "peer", n.peer, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			n.s.refused(refusal{peer: n.peer, key: n.target.key, code: "panic", reason: "internal error"})
		}
	}()
	if err := n.c.SetDeadline(time.Now().Add(n.s.s.HandshakeTimeout)); err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { n.interrupt("ingest is shutting down") })
	defer stop()
	tcURL, name, publish, err := n.wire.accept(n)
	if err != nil {
		n.notRTMP(ctx, err)
		return
	}
	if !publish {
		n.refuse("play", "this port takes publishers only: watch over HLS", "NetStream.Play.Failed", true)
		return
	}
	if n.target, err = parseTarget(tcURL, name); err != nil {
		n.refuse("name", err.Error(), "NetStream.Publish.BadName", true)
		return
	}
	if err := n.s.s.Auth.check(n.target.pub, n.target.key, n.peer, time.Now()); err != nil {
		n.refuse("key", err.Error(), "NetStream.Publish.Unauthorized", true)
		return
	}
	if n.target.cdn == "" && n.s.s.DefaultCDN != nil {
		n.target.cdn = n.s.s.DefaultCDN(n.peer, n.target.key)
		if n.target.cdn != "" && schemas.CheckName("CDN name", n.target.cdn) != nil {
			n.s.log.Error("the default CDN's name is not a name; none is used", "cdn", n.target.cdn)
			n.target.cdn = ""
		}
	}
	n.budget.Store(-1)
	n.settled = true
	n.s.settle(n.peer)
	if err := n.wire.status("status", "NetStream.Publish.Start", "publish start"); err != nil {
		n.notRTMP(ctx, err)
		return
	}
	newPublication(n).run(work)
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
	n.s.refused(refusal{peer: n.peer, key: n.target.key, code: "protocol", reason: reason, noise: true})
}

// refuse tells publisher, log and event the same reason.
func (n *conn) refuse(code, reason, status string, noise bool) {
	n.s.refused(refusal{peer: n.peer, key: n.target.key, cdn: n.target.cdn, code: code, reason: reason, noise: noise})
	n.farewell(status, reason)
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
	if t, ok := n.c.(*net.TCPConn); ok {
		t.CloseWrite()
	}
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

// endReason puts a read error in plain words.
func (n *conn) endReason(err error) string {
	if r := n.closing.Load(); r != nil {
		return *r
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no data for %s", n.s.s.ReadTimeout)
	case errors.Is(err, io.EOF):
		return "the publisher closed the connection"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return "the connection was lost"
	}
	return fmt.Sprintf("protocol error: %.200s", strings.TrimSpace(err.Error()))
}

// interrupt makes a blocked read return.
func (n *conn) interrupt(reason string) {
	n.closing.CompareAndSwap(nil, &reason)
	n.c.SetReadDeadline(time.Unix(1, 0))
}
