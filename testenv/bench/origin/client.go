package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// answerTimeout is above what an origin holds a request.
const answerTimeout = 20 * time.Second

// client is one connection that stays open, with one request at a time. It does
// as little as it can, because it shares the machine with what is measured.
type client struct {
	host string
	conn net.Conn
	stop func() bool
	buf  []byte
	req  []byte
}

func dial(ctx context.Context, addr string) (*client, error) {
	d := net.Dialer{Timeout: answerTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{host: addr, conn: conn, stop: context.AfterFunc(ctx, func() { conn.Close() }), buf: make([]byte, 16<<10)}, nil
}

func (c *client) close() {
	c.stop()
	c.conn.Close()
}

// answer is what came.
type answer struct {
	code int
	// body is of the bytes that came with the header, valid until the next request; size is that of all.
	body []byte
	size int
	// sent and came are when the request left and when the last byte was here.
	sent, came time.Time
}

var errBadAnswer = errors.New("the answer has no status or length")

// get asks for a path and reads the whole answer.
func (c *client) get(path string) (a answer, err error) {
	c.req = append(append(append(append(append(c.req[:0], "GET "...), path...), " HTTP/1.1\r\nHost: "...), c.host...), "\r\n\r\n"...)
	a.sent = time.Now()
	if err := c.conn.SetDeadline(a.sent.Add(answerTimeout)); err != nil {
		return a, err
	}
	if _, err := c.conn.Write(c.req); err != nil {
		return a, err
	}
	n, head := 0, -1
	for head < 0 {
		if n == len(c.buf) {
			return a, errBadAnswer
		}
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return a, fmt.Errorf("%s: %w", path, err)
		}
		n += m
		head = bytes.Index(c.buf[:n], []byte("\r\n\r\n"))
	}
	if a.code, a.size, err = parseHead(c.buf[:head+2]); err != nil {
		return a, err
	}
	a.body = c.buf[head+4 : n]
	left := a.size - len(a.body)
	if n+left <= len(c.buf) { // small: keep all of it
		for left > 0 {
			m, err := c.conn.Read(c.buf[n : n+left])
			if err != nil {
				return a, err
			}
			n, left = n+m, left-m
		}
		a.body = c.buf[head+4 : n]
	} else if err := c.skip(left); err != nil {
		return a, err
	}
	a.came = time.Now()
	return a, nil
}

// skip reads over the rest of a large answer.
func (c *client) skip(n int) error {
	for room := make([]byte, min(n, 256<<10)); n > 0; {
		m, err := c.conn.Read(room[:min(n, len(room))])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

func parseHead(b []byte) (code, size int, err error) {
	if len(b) < len("HTTP/1.1 200") || !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
		return 0, 0, errBadAnswer
	}
	code, err1 := strconv.Atoi(string(b[9:12]))
	_, rest, ok := bytes.Cut(b, []byte("\r\nContent-Length: "))
	if !ok || err1 != nil {
		return 0, 0, errBadAnswer
	}
	length, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if size, err = strconv.Atoi(string(length)); err != nil || size < 0 {
		return 0, 0, errBadAnswer
	}
	return code, size, nil
}
