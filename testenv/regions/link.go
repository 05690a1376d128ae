package regions

import (
	"io"
	"net"
	"sync"
	"time"
)

// Link is a TCP relay on loopback that can be cut and healed, and delays what goes through it.
type Link struct {
	l      net.Listener
	target string
	delay  time.Duration
	wg     sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// NewLink relays connections to target; each byte arrives delay later, in both directions.
func NewLink(target string, delay time.Duration) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{l: l, target: target, delay: delay, conns: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	return k, nil
}

// Addr is where to connect.
func (k *Link) Addr() string { return k.l.Addr().String() }

// Cut closes what is connected and takes nothing until Heal.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for c := range k.conns {
		c.Close()
	}
}

// Heal takes connections again.
func (k *Link) Heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
}

// Close ends the link.
func (k *Link) Close() {
	k.l.Close()
	k.Cut()
	k.wg.Wait()
}

func (k *Link) accept() {
	for {
		c, err := k.l.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.serve(c) })
	}
}

// keep notes a connection, so that Cut closes it; false while the link is cut.
func (k *Link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return false
	}
	k.conns[c] = true
	return true
}

func (k *Link) drop(c net.Conn) {
	c.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

func (k *Link) serve(c net.Conn) {
	defer k.drop(c)
	if !k.keep(c) {
		return
	}
	s, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer k.drop(s)
	if !k.keep(s) {
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); k.pipe(s, c); s.Close() }()
	k.pipe(c, s)
	c.Close()
	<-done
}

// piece is what was read and when it is to arrive.
type piece struct {
	b  []byte
	at time.Time
}

func (k *Link) pipe(dst, src net.Conn) {
	if k.delay == 0 {
		_, _ = io.Copy(dst, src)
		return
	}
	way := make(chan piece, 4096)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				way <- piece{b[:n], time.Now().Add(k.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for p := range way {
		if failed {
			continue // so that the reader ends
		}
		time.Sleep(time.Until(p.at))
		if _, err := dst.Write(p.b); err != nil {
			failed = true
			src.Close()
		}
	}
}
