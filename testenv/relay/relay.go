// Package relay stands in tests between TCP clients and their server, passes on what both say, and fails the way
// networks and servers do: the line is cut, falls silent, or breaks off when the server has done its work and before
// its answer arrives.
package relay

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay accepts connections at Addr and opens one to its target for each.
type Relay struct {
	listener net.Listener
	target   func() string
	wg       sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond // of what follows
	state    state
	delay    time.Duration
	rule     func(Said) bool
	withheld int
	accepted int
	lines    map[*line]bool
}

type state int

const (
	passing state = iota
	held
	cut
	closed
)

// Said is what the client has said on one connection when the server answers.
type Said struct {
	Conn  int // number of the connection at this relay, from 1
	Bytes int64
	// Turns counts how often the client began to speak: at first, and each time after an answer.
	Turns int
}

// Start listens on a free port of 127.0.0.1 until the test ends. The target, host:port, is asked for at each
// connection, so that a server may move; where it is not reached, the client's connection is closed.
func Start(t testing.TB, target func() string) *Relay {
	t.Helper()
	r, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Listen is Start for who has no test: it passes on until Close.
func Listen(target func() string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, target: target, lines: map[*line]bool{}}
	r.changed = sync.NewCond(&r.mu)
	r.wg.Go(r.accept)
	return r, nil
}

// Addr is where clients connect, host:port.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Withhold asks rule whenever the server answers. Where it says true the server may finish what it does, and the
// connection is closed without the answer, so that the client cannot know whether it was heard. The rule is asked by
// several goroutines; nil, as at first, passes everything on.
func (r *Relay) Withhold(rule func(Said) bool) { r.set(func() { r.rule = rule }) }

// Withheld is how many answers were.
func (r *Relay) Withheld() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.withheld
}

// Accepted is how many connections clients have opened, those included that were refused while the line was cut.
func (r *Relay) Accepted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// Cut resets all connections, and new ones as they come, until Pass: both sides notice at once.
func (r *Relay) Cut() { r.hangUp(cut) }

// Hold passes nothing on and closes nothing until Pass, as when packets are lost on the way: nobody notices but by
// waiting. What is said meanwhile arrives afterwards.
func (r *Relay) Hold() { r.set(func() { r.state = held }) }

// Delay has what either side says on connections opened from now on arrive so much later, as over a long way.
func (r *Relay) Delay(d time.Duration) { r.set(func() { r.delay = d }) }

// Pass ends Cut and Hold.
func (r *Relay) Pass() { r.set(func() { r.state = passing }) }

// set changes something unless the relay is closed.
func (r *Relay) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != closed {
		change()
		r.changed.Broadcast()
	}
}

func (r *Relay) hangUp(s state) {
	r.set(func() {
		r.state = s
		for l := range r.lines {
			l.reset()
		}
	})
}

// Close resets all connections and ends the relay.
func (r *Relay) Close() {
	r.listener.Close()
	r.hangUp(closed)
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.accepted++
		l := &line{relay: r, client: c.(*net.TCPConn), said: Said{Conn: r.accepted}}
		r.lines[l] = true
		if r.state >= cut {
			l.reset()
		}
		r.mu.Unlock()
		r.wg.Go(func() {
			l.serve()
			r.mu.Lock()
			delete(r.lines, l)
			r.mu.Unlock()
		})
	}
}

// finishing is how long a server may still work on what its answer is withheld of.
const finishing = 300 * time.Millisecond

// withholds says whether to swallow the answer that the server now gives on a line.
func (r *Relay) withholds(s Said) bool {
	r.mu.Lock()
	rule := r.rule
	r.mu.Unlock()
	if rule == nil || !rule(s) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withheld++
	return true
}
