package push

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"
)

// targetConn is an RTMP connection that one goroutine reads and another writes.
//
// The library's client is not made for that: its Read answers pings and acknowledges
// bytes through the same writer. Here all of Read has the lock, except while it waits
// for bytes ([patientConn]), so no two messages are written at once.
type targetConn struct {
	*gortmplib.Client
	mu *sync.Mutex
}

// Read gives the next message of the target and answers it where that is due.
func (c *targetConn) Read() (message.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Client.Read()
}

// Write writes one message whole.
func (c *targetConn) Write(m message.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Client.Write(m)
}

// patientConn gives the lock away while it waits for bytes; who reads it has the
// lock. It does not wait for a target that takes nothing.
type patientConn struct {
	net.Conn
	mu      *sync.Mutex
	timeout time.Duration // of a write
}

func (c *patientConn) Read(b []byte) (int, error) {
	c.mu.Unlock()
	defer c.mu.Lock()
	return c.Conn.Read(b)
}

func (c *patientConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// connect publishes at the address. connecting bounds all of that, writing how long the target may take no byte.
func connect(ctx context.Context, addr *url.URL, connecting, writing time.Duration, conf *tls.Config) (*targetConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connecting)
	defer cancel()
	var mu sync.Mutex
	client := &gortmplib.Client{URL: clientURL(addr), Publish: true, TLSConfig: conf}
	client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(connecting)); err != nil {
			c.Close()
			return nil, err
		}
		// TLS, if any, is above: it too reads with the lock alone.
		return &patientConn{c, &mu, min(connecting, writing)}, nil
	}
	mu.Lock()
	err := client.Initialize(ctx)
	mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("connect and publish: %w", err)
	}
	if err := client.NetConn().SetReadDeadline(time.Time{}); err != nil {
		client.Close()
		return nil, err
	}
	return &targetConn{client, &mu}, nil
}
