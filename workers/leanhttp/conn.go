package leanhttp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"time"
)

// maxHead is the longest head of a request that is read here, bytes; a longer
// one is read by net/http up to its own limit.
const maxHead = 4 << 10

// conn is a connection, served here and later perhaps by net/http, which then
// reads what is in buf first.
type conn struct {
	net.Conn
	s      *Server
	ctx    context.Context
	cancel context.CancelFunc
	closed sync.Once

	buf     []byte // what has been read and not served, from r to w
	r, w    int
	readBy  time.Time // deadlines that are set
	writeBy time.Time
	req     *http.Request
	values  []string
	answer  writer
}

// Close closes the connection and says so, once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() {
		c.cancel()
		c.s.Closed(c.Conn)
	})
	return err
}

// Read is for net/http: first what has been read already.
func (c *conn) Read(b []byte) (int, error) {
	if c.r < c.w {
		n := copy(b, c.buf[c.r:c.w])
		if c.r += n; c.r == c.w {
			c.buf = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// pass gives the connection to net/http, which closes it.
func (c *conn) pass() {
	_ = c.SetDeadline(time.Time{}) // a connection that is closed is noticed there
	c.req, c.values, c.answer = nil, nil, writer{}
	select {
	case c.s.passed.conns <- c:
	case <-c.s.passed.closed:
		c.Close()
	}
}

var (
	headEnd = []byte("\r\n\r\n")
	// Heads may also end in lines of LF alone (RFC 9112 section 2.2), which net/http reads.
	otherEnds = [][]byte{[]byte("\n\n"), []byte("\n\r\n")}
	errPass   = errors.New("this is for net/http")
)

func (c *conn) serve() {
	defer c.s.wg.Done()
	defer c.s.forget(c)
	c.buf = make([]byte, maxHead)
	c.req = (&http.Request{
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: &url.URL{}, Header: http.Header{}, Body: http.NoBody, RemoteAddr: c.RemoteAddr().String(),
	}).WithContext(c.ctx)
	c.answer.c, c.answer.header = c, http.Header{}
	c.values = make([]string, 0, 16)
	err := c.head(c.s.Rest.ReadHeaderTimeout)
	for err == nil && c.handle() {
		err = c.head(0)
	}
	if errors.Is(err, errPass) {
		c.pass()
		return
	}
	c.Close()
}

// head waits until the head of a request is there and reads it into req. The
// head must be there within limit where that is not 0, and in any case within
// ReadHeaderTimeout of its first byte, however it trickles in.
func (c *conn) head(limit time.Duration) error {
	limited := false
	for from := c.r; ; {
		if i := bytes.Index(c.buf[from:c.w], headEnd); i >= 0 {
			end := from + i + len(headEnd)
			var ours bool
			if c.values, ours = parse(string(c.buf[c.r:end]), c.req, c.values[:0]); !ours {
				return errPass
			}
			c.r = end
			return nil
		}
		for _, e := range otherEnds {
			if bytes.Contains(c.buf[from:c.w], e) {
				return errPass
			}
		}
		if c.r > 0 {
			c.w, c.r = copy(c.buf, c.buf[c.r:c.w]), 0
		}
		if c.w == len(c.buf) {
			return errPass
		}
		from = max(0, c.w-len(headEnd)+1)
		if c.w > 0 {
			limit = c.s.Rest.ReadHeaderTimeout
		}
		switch {
		case limit > 0 && !limited:
			limited = true
			c.readBy = time.Now().Add(limit)
			_ = c.SetReadDeadline(c.readBy)
		case limit == 0:
			c.readBy = later(c.readBy, time.Now(), c.s.Rest.IdleTimeout, c.SetReadDeadline)
		}
		if c.s.stopping.Load() { // after the deadline is set: see stopReading
			return net.ErrClosed
		}
		n, err := c.Conn.Read(c.buf[c.w:])
		if err != nil {
			return err
		}
		c.w += n
	}
}

// stopReading makes a connection that waits for a request end. stopping is set
// before, so whoever sets a later deadline after this sees it.
func (c *conn) stopReading() { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// later gives the deadline that is at least d away: the one that is set, or a
// new one, half as far again. Setting one costs as much as reading a request.
func later(is, now time.Time, d time.Duration, set func(time.Time) error) time.Time {
	if left := is.Sub(now); left >= d && left <= 2*d {
		return is
	}
	is = now.Add(d + d/2)
	_ = set(is) // a connection that is closed is noticed by what follows
	return is
}

// handle answers req and reports whether the connection can be used on.
func (c *conn) handle() (keep bool) {
	w := &c.answer
	w.begin(c.req)
	defer func() {
		e := recover()
		if e == nil {
			return
		}
		w.free()
		keep = false
		if err, ok := e.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			c.s.Logger.Error("panic while a request was served", "path", c.req.URL.Path, "panic", e, "stack", string(debug.Stack()))
		}
	}()
	c.s.Rest.Handler.ServeHTTP(w, c.req)
	return w.finish()
}
