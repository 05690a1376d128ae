package origin

import (
	"context"
	"net"
	"sync"
)

// conns bounds the connections of an origin. One over the bound is told so with
// a 503 and closed, which makes an edge ask the next origin; far beyond the
// bound connections are closed unanswered, so that nothing can be filled up.
type conns struct {
	max, perPeer int
	m            *metrics

	mu     sync.Mutex
	open   map[net.Conn]string // its peer
	byPeer map[string]int
}

func newConns(limit, perPeer int, m *metrics) *conns {
	return &conns{max: limit, perPeer: perPeer, m: m, open: map[net.Conn]string{}, byPeer: map[string]int{}}
}

type refusedKey struct{}

const (
	whyFull = "this origin has as many connections as it takes: ask another"
	whyPeer = "this origin has as many connections from your address as it takes: ask another, or close some"
)

// took is http.Server.ConnContext.
func (c *conns) took(ctx context.Context, conn net.Conn) context.Context {
	peer, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		peer = conn.RemoteAddr().String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = peer
	c.byPeer[peer]++
	c.m.conns.Set(float64(len(c.open)))
	switch {
	case len(c.open) > c.max+c.max/8:
		conn.Close()
		return context.WithValue(ctx, refusedKey{}, whyFull)
	case len(c.open) > c.max:
		return context.WithValue(ctx, refusedKey{}, whyFull)
	case c.byPeer[peer] > c.perPeer:
		return context.WithValue(ctx, refusedKey{}, whyPeer)
	}
	return ctx
}

// closed is leanhttp.Server.Closed.
func (c *conns) closed(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	peer, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if c.byPeer[peer]--; c.byPeer[peer] == 0 {
		delete(c.byPeer, peer)
	}
	c.m.conns.Set(float64(len(c.open)))
}

// refusedConn says why nothing is served on the request's connection; empty: it is.
func refusedConn(ctx context.Context) string {
	why, _ := ctx.Value(refusedKey{}).(string)
	return why
}
