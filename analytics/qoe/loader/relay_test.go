package loader_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay stands between loader and ClickHouse and is treacherous: on some
// connections it lets a block through and cuts the line before the answer, so
// that the loader cannot know whether the block is in.
type relay struct {
	addr string
	cuts atomic.Int64
}

func newRelay(t *testing.T, target func() string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(c, target()) })
		}
	})
	return r
}

func (r *relay) serve(c net.Conn, target string) {
	defer c.Close()
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	// A block is a few kilobytes; the handshake and the query before it less. The line is cut after this many.
	var sent, cutAt atomic.Int64
	if rand.IntN(2) == 0 {
		cutAt.Store(2000 + rand.Int64N(12_000))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if n > 0 {
				if _, werr := s.Write(buf[:n]); werr != nil {
					return
				}
				sent.Add(int64(n))
			}
			if err != nil {
				if tc, ok := s.(*net.TCPConn); ok {
					_ = tc.CloseWrite()
				}
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := s.Read(buf)
		if at := cutAt.Load(); n > 0 && at > 0 && sent.Load() >= at {
			// The server has begun to answer the block; let it finish, tell nobody.
			r.cuts.Add(1)
			_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, _ = io.Copy(io.Discard, s)
			break
		}
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	c.Close()
	<-done
}
