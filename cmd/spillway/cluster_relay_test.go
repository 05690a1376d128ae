package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// deafRelay stands between loader and ClickHouse. While it is deaf it lets blocks through and cuts the line instead of
// passing the answer on, so that the loader repeats blocks that are in.
type deafRelay struct {
	addr string
	deaf atomic.Bool
	cuts atomic.Int64
}

// blockTurn is the client's turn in which it sends a block: in the first it says hello, in the second it sends the query.
const blockTurn = 3

func newDeafRelay(t *testing.T, target string) *deafRelay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &deafRelay{addr: l.Addr().String()}
	r.deaf.Store(true)
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(c, target) })
		}
	})
	return r
}

func (r *deafRelay) serve(c net.Conn, target string) {
	defer c.Close()
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	turn := &turns{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.MultiWriter(turn, s), c)
		_ = s.(*net.TCPConn).CloseWrite()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := s.Read(buf)
		if n > 0 && turn.answered() >= blockTurn && r.deaf.Load() {
			r.cuts.Add(1)
			_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // it finishes, and tells nobody
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

// turns counts how often the client began to speak after an answer.
type turns struct {
	mu     sync.Mutex
	n      int
	answer bool
}

func (t *turns) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 || t.answer {
		t.n++
	}
	t.answer = false
	return len(p), nil
}

// answered notes an answer and gives the turn that it is to.
func (t *turns) answered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = true
	return t.n
}
