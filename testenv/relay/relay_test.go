package relay_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/relay"
)

// echo answers each line with itself until the client has said all, then with "end".
type echo struct {
	net.Listener
	mu    sync.Mutex
	heard []string
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: l}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { e.serve(c) })
		}
	})
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		s, err := r.ReadString('\n')
		if err != nil {
			_, _ = io.WriteString(c, "end\n")
			return
		}
		e.mu.Lock()
		e.heard = append(e.heard, s)
		e.mu.Unlock()
		_, _ = io.WriteString(c, s)
	}
}

func (e *echo) has(line string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.heard {
		if s == line {
			return true
		}
	}
	return false
}

type client struct {
	t *testing.T
	*net.TCPConn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c client) say(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c client) hears(want string) {
	c.t.Helper()
	if got, err := c.r.ReadString('\n'); got != want {
		c.t.Fatalf("heard %q, %v, want %q", got, err, want)
	}
}

func (c client) isCut() {
	c.t.Helper()
	if got, err := c.r.ReadString('\n'); err == nil {
		c.t.Fatalf("heard %q, want the line cut", got)
	}
}

func through(t *testing.T) (*echo, *relay.Relay) {
	e := startEcho(t)
	return e, relay.Start(t, func() string { return e.Addr().String() })
}

func TestPassesOnBothWaysAndBothEnds(t *testing.T) {
	_, r := through(t)
	c := dial(t, r.Addr())
	c.say("a\n")
	c.hears("a\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.hears("end\n")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func TestCut(t *testing.T) {
	_, r := through(t)
	c := dial(t, r.Addr())
	c.say("a\n")
	c.hears("a\n")
	r.Cut()
	c.isCut()
	if another, err := net.Dial("tcp", r.Addr()); err == nil { // else it was cut before that was seen
		if _, err := another.Read(make([]byte, 1)); err == nil {
			t.Error("heard something, want the line cut")
		}
		another.Close()
	}
	r.Pass()
	c = dial(t, r.Addr())
	c.say("b\n")
	c.hears("b\n")
	if n := r.Accepted(); n != 3 {
		t.Errorf("%d connections accepted", n)
	}
}

func TestHeldBytesArriveAfterwards(t *testing.T) {
	e, r := through(t)
	c := dial(t, r.Addr())
	c.say("a\n")
	c.hears("a\n")
	r.Hold()
	c.say("b\n")
	late := dial(t, r.Addr())
	late.say("c\n")
	await.True(t, "the relay has taken the second connection", func() bool { return r.Accepted() == 2 })
	if e.has("b\n") || e.has("c\n") {
		t.Error("the server heard what was said while the relay held")
	}
	r.Pass()
	c.hears("b\n")
	late.hears("c\n")
	r.Hold()
	c.say("d\n")
	r.Cut() // also what is held
	c.isCut()
	r.Pass()
	if e.has("d\n") {
		t.Error("the server heard what was cut while it was held")
	}
}

func TestWithheldAnswers(t *testing.T) {
	e, r := through(t)
	r.Withhold(func(s relay.Said) bool { return s.Conn == 1 && s.Turns >= 2 && s.Bytes == 4 })
	c := dial(t, r.Addr())
	c.say("a\n")
	c.hears("a\n")
	c.say("b\n")
	c.isCut()
	if !e.has("b\n") || r.Withheld() != 1 {
		t.Errorf("heard %q, %d answers withheld", e.heard, r.Withheld())
	}
	other := dial(t, r.Addr())
	for _, s := range []string{"a\n", "b\n", "c\n"} {
		other.say(s)
		other.hears(s)
	}
	r.Withhold(func(relay.Said) bool { return true })
	other.say("d\n")
	other.isCut()
	r.Withhold(nil)
	c = dial(t, r.Addr())
	c.say("e\n")
	c.hears("e\n")
}

func TestTargetIsAskedForAtEachConnection(t *testing.T) {
	first, second := startEcho(t), startEcho(t)
	var mu sync.Mutex
	target := first.Addr().String()
	r := relay.Start(t, func() string { mu.Lock(); defer mu.Unlock(); return target })
	c := dial(t, r.Addr())
	c.say("a\n")
	c.hears("a\n")
	mu.Lock()
	target = second.Addr().String()
	mu.Unlock()
	other := dial(t, r.Addr())
	other.say("b\n")
	other.hears("b\n")
	if !second.has("b\n") || first.has("b\n") {
		t.Error("the second connection went to the first server")
	}
	second.Close()
	dial(t, r.Addr()).isCut() // nobody listens there
}

// What a long line passes on is whole and in order, also while more is on its way than one piece, and the end comes last.
func TestDelay(t *testing.T) {
	e := startEcho(t)
	r := relay.Start(t, func() string { return e.Addr().String() })
	r.Delay(20 * time.Millisecond)
	c := dial(t, r.Addr())
	said := strings.Repeat("x", 100<<10) + "\n"
	begun := time.Now()
	for range 3 {
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.CloseWrite()
	got, err := io.ReadAll(c)
	if took := time.Since(begun); err != nil || string(got) != said+said+said+"end\n" || took < 40*time.Millisecond {
		t.Errorf("%d bytes after %s, %v", len(got), took, err)
	}
	r.Cut()
	r.Pass()
	dial(t, r.Addr()) // ends while what it says is on its way
}
