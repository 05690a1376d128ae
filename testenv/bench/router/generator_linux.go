package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// generator asks over kept connections from one thread, so that what it costs
// itself is known and small beside what it measures: requests are made
// beforehand, and of answers the status and the length are looked at.
type generator struct {
	requests [][]byte
	rate     int // a second in all; 0: as fast as answers come
	window   time.Duration
	most     int                            // requests; 0: as many as the window holds
	body     func(request int, body []byte) // is given whole answers; nil: nobody wants them

	ep    int
	conns []gconn
	idle  []int // of conns
	next  int   // request
	begin time.Time
	buf   []byte
	waits []time.Duration
}

// gconn is a connection with at most one request under way.
type gconn struct {
	fd      int
	request int
	due     time.Duration // after begin
	head    []byte        // of the answer, while it is not complete
	left    int           // of the body; less than 0: the head is not complete
	whole   []byte        // the body, where it is wanted
}

// run asks for the window over n connections, and gives how long each answer took
// from when it was due, and the CPU that this took.
func (g *generator) run(ctx context.Context, addr netip.AddrPort, n int) (waits []time.Duration, cpu time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if g.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, 0, err
	}
	defer unix.Close(g.ep)
	defer func() {
		for i := range g.conns {
			unix.Close(g.conns[i].fd)
		}
	}()
	for i := range n {
		fd, err := g.dial(addr, i)
		if err != nil {
			return nil, 0, fmt.Errorf("connect to %s: %w", addr, err)
		}
		g.conns = append(g.conns, gconn{fd: fd})
		g.idle = append(g.idle, i)
	}
	g.buf = make([]byte, 128<<10)
	g.waits = make([]time.Duration, 0, max(g.rate, 50_000)*int(g.window/time.Second+1))
	from, err := threadCPU()
	if err != nil {
		return nil, 0, err
	}
	g.begin = time.Now()
	if err := g.loop(ctx); err != nil {
		return nil, 0, err
	}
	to, err := threadCPU()
	return g.waits, to - from, err
}

func (g *generator) dial(addr netip.AddrPort, i int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	if err == nil {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.SetNonblock(fd, true),
			unix.EpollCtl(g.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// answerLimit is how long an answer may take once no more are asked for.
const answerLimit = 10 * time.Second

func (g *generator) loop(ctx context.Context) error {
	events := make([]unix.EpollEvent, len(g.conns))
	for ctx.Err() == nil {
		now := time.Since(g.begin)
		more, wait, err := g.send(now)
		if err != nil {
			return err
		}
		if !more {
			if len(g.idle) == len(g.conns) {
				return nil
			}
			if now > g.window+answerLimit {
				return fmt.Errorf("%d requests have no answer after %v", len(g.conns)-len(g.idle), answerLimit)
			}
		}
		n, err := epollWait(g.ep, events, wait)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if err := g.read(int(e.Fd)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// send asks for what is due on connections that are free: by the clock, whatever
// the answers take. more: there will be more, in wait at the soonest.
func (g *generator) send(now time.Duration) (more bool, wait time.Duration, err error) {
	for {
		due := now
		if g.rate > 0 {
			due = time.Duration(float64(g.next) / float64(g.rate) * float64(time.Second))
		}
		if due > g.window || g.most > 0 && g.next >= g.most {
			return false, 100 * time.Millisecond, nil
		}
		if len(g.idle) == 0 {
			return true, 100 * time.Millisecond, nil
		}
		if due > now {
			return true, due - now, nil
		}
		i := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		c := &g.conns[i]
		c.request, c.due, c.left = g.next%len(g.requests), due, -1
		g.next++
		q := g.requests[c.request]
		if n, err := unix.Write(c.fd, q); err != nil || n < len(q) {
			return false, 0, fmt.Errorf("send a request: %d of %d bytes: %w", n, len(q), err)
		}
	}
}

// read takes what has come of an answer.
func (g *generator) read(i int) error {
	c := &g.conns[i]
	n, err := unix.Read(c.fd, g.buf)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case n == 0:
		return errors.New("read an answer: the router closed the connection")
	}
	b := g.buf[:n]
	if c.left < 0 {
		if len(c.head) > 0 {
			c.head = append(c.head, b...)
			b = c.head
		}
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(c.head) == 0 {
				c.head = append(c.head, b...)
			}
			return nil
		}
		if c.left, err = contentLength(b[:end+2]); err != nil {
			return err
		}
		b = b[end+4:]
		c.whole = c.whole[:0]
	}
	if g.body != nil {
		c.whole = append(c.whole, b...)
	}
	if c.left -= len(b); c.left < 0 {
		return errors.New("an answer is longer than it says")
	}
	c.head = c.head[:0]
	if c.left > 0 {
		return nil
	}
	g.waits = append(g.waits, time.Since(g.begin)-c.due)
	if g.body != nil {
		g.body(c.request, c.whole)
	}
	g.idle = append(g.idle, i)
	return nil
}

// contentLength reads the head of an answer, which must be 200.
func contentLength(head []byte) (int, error) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("answer %q", line)
	}
	const name = "\r\nContent-Length: "
	_, v, ok := bytes.Cut(head, []byte(name))
	if !ok {
		return 0, fmt.Errorf("an answer without Content-Length: %q", rest)
	}
	v, _, _ = bytes.Cut(v, []byte("\r\n"))
	return strconv.Atoi(string(v))
}

// epollWait waits for events, to the microsecond: in whole milliseconds requests
// would be late by half of one.
func epollWait(ep int, events []unix.EpollEvent, wait time.Duration) (int, error) {
	ts := unix.NsecToTimespec(max(wait, 0).Nanoseconds())
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch e {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("wait for answers (epoll_pwait2, Linux 5.11): %w", e)
}

// threadCPU is the CPU that this thread has had.
func threadCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
