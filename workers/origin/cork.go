package origin

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
)

// corked puts header and body of an answer into one write. The HTTP server has
// a buffer of 4 KiB, so that a playlist would take two: with a thousand players
// waiting for it, a third of what an answer costs. Nothing is held back but what
// [corked.answer] announced, and never beyond its last byte.
//
// The HTTP server writes an answer from one goroutine at a time; so does this.
type corked struct {
	net.Conn
	held  *[]byte
	body  int  // bytes of body that are still to come once the header is over
	ended bool // the header is in held
	on    bool
}

// corkListener makes the connections of a listener corked.
type corkListener struct{ net.Listener }

func (l corkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, plain := c.(*net.TCPConn); !plain { // the HTTP server wants to see TLS itself
		return c, nil
	}
	return &corked{Conn: c}, nil
}

// maxCorked bounds an answer that is put together, bytes; of a larger one the
// header's write hardly counts.
const maxCorked = 32 << 10

// together keeps the memory in which answers are put together.
var together = sync.Pool{New: func() any { return new([]byte) }}

// cork announces that the answer to r, whose header comes next, has a body of n bytes.
func cork(r *http.Request, n int) {
	c, ok := r.Context().Value(connKey{}).(*corked)
	if !ok || n > maxCorked || r.Method != http.MethodGet || r.ProtoMajor != 1 {
		return
	}
	c.on, c.ended, c.body = true, false, n
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

var headerEnd = []byte("\r\n\r\n")

func (c *corked) Write(b []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(b)
	}
	if c.held == nil {
		c.held = together.Get().(*[]byte)
	}
	held := *c.held
	from := max(0, len(held)-len(headerEnd)+1)
	held = append(held, b...)
	*c.held = held
	if c.ended {
		c.body -= len(b)
	} else if i := bytes.Index(held[from:], headerEnd); i >= 0 {
		c.ended = true
		c.body -= len(held) - from - i - len(headerEnd)
	}
	if !c.ended && len(held) <= maxCorked || c.body > 0 {
		return len(b), nil
	}
	_, err := c.Conn.Write(held)
	*c.held = held[:0]
	together.Put(c.held)
	c.on, c.held = false, nil
	if err != nil {
		return 0, err
	}
	return len(b), nil
}
