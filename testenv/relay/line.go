package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// line is one client's connection and the one to the server that belongs to it.
type line struct {
	relay  *Relay
	client *net.TCPConn

	mu       sync.Mutex
	server   *net.TCPConn // nil until it is reached
	over     bool
	said     Said
	answered bool // the server spoke last
}

// serve passes on until both sides have said all, or one is gone.
func (l *line) serve() {
	defer l.close()
	if !l.mayPass() {
		return
	}
	c, err := net.Dial("tcp", l.relay.target())
	if err != nil {
		return
	}
	if !l.reached(c.(*net.TCPConn)) {
		return
	}
	var up sync.WaitGroup
	up.Go(func() { l.pump(l.server, l.client, l.speak) })
	l.pump(l.client, l.server, l.answer)
	up.Wait()
}

// reached notes the connection to the server, unless the line was cut meanwhile.
func (l *line) reached(server *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		server.Close()
		return false
	}
	l.server = server
	return true
}

// pump passes on one way while heard agrees, and then the end of what was said. An error ends both ways.
func (l *line) pump(to, from *net.TCPConn, heard func(n int) bool) {
	in, end := l.relay.late(from)
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if !l.mayPass() || !heard(n) {
				l.reset()
				return
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				l.reset()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF) && l.mayPass():
			_ = to.CloseWrite()
			return
		case err != nil:
			l.reset()
			return
		}
	}
}

// mayPass waits while the relay holds, and says whether the line still stands.
func (l *line) mayPass() bool {
	r := l.relay
	r.mu.Lock()
	for r.state == held && !l.isOver() {
		r.changed.Wait()
	}
	r.mu.Unlock()
	return !l.isOver()
}

func (l *line) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// speak notes n bytes of the client.
func (l *line) speak(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said.Turns == 0 || l.answered {
		l.said.Turns++
	}
	l.said.Bytes += int64(n)
	l.answered = false
	return true
}

// answer notes that the server spoke, and says whether the client is to hear it.
func (l *line) answer(int) bool {
	l.mu.Lock()
	l.answered = true
	said := l.said
	l.mu.Unlock()
	if !l.relay.withholds(said) {
		return true
	}
	_ = l.server.SetReadDeadline(time.Now().Add(finishing))
	_, _ = io.Copy(io.Discard, l.server)
	return false
}

// reset ends the line so that both sides notice at once.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client.SetLinger(0)
	if l.server != nil {
		l.server.SetLinger(0)
	}
	l.closeBoth()
}

// close ends the line; what was passed on still arrives.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeBoth()
}

func (l *line) closeBoth() {
	l.over = true
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}
