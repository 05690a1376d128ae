// Package publishprobe measures ways to publish before anything is published, as
// a publisher's app does: each transport of each candidate of a dispatch answer,
// over UDP and TCP, in the way that the answer says (docs/contracts.md).
//
// It promises that every probe ends by its time limit, and that one fails where
// anything but the expected answer comes. It publishes nothing and has no key.
package publishprobe

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// Prober measures. The zero value is ready to use.
type Prober struct {
	// TLS verifies certificates; nil: by the system's authorities.
	TLS *tls.Config
}

// again is after how long without an answer a packet is sent once more, as SRT's callers do.
const again = 250 * time.Millisecond

// maxTimeout bounds what an answer may ask for.
const maxTimeout = 10 * time.Second

// Measure does one probe: rtt is one round trip, total from the beginning to the
// end. The error says why it failed.
func (p *Prober) Measure(ctx context.Context, t *schemas.TransportProbe) (rtt, total time.Duration, err error) {
	limit := time.Duration(cmp.Or(t.TimeoutMs, schemas.ProbeTimeoutMs)) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, min(limit, maxTimeout))
	defer cancel()
	begin := time.Now()
	switch t.Method {
	case schemas.ProbeSRT:
		rtt, err = exchange(ctx, t.Address, srtInduction, isSRTAnswer)
	case schemas.ProbeSTUN:
		rtt, err = exchange(ctx, t.Address, stunRequest, isSTUNAnswer)
	case schemas.ProbeRTMP:
		rtt, err = p.rtmp(ctx, t.Address, false)
	case schemas.ProbeRTMPS:
		rtt, err = p.rtmp(ctx, t.Address, true)
	case schemas.ProbeHTTPOptions:
		err = p.options(ctx, t.Address)
		rtt = time.Since(begin)
	default:
		err = fmt.Errorf("method %.32q is not known", t.Method)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %s: %w", min(limit, maxTimeout), err)
		}
		return 0, 0, fmt.Errorf("%s to %s: %w", t.Method, t.Address, err)
	}
	return rtt, time.Since(begin), nil
}

// exchange sends packets until one is answered. Each has an id of its own, so
// that an answer tells which packet's round trip it ends.
func exchange(ctx context.Context, address string, packet func(id uint32) []byte, answers func(b []byte, id uint32) bool) (time.Duration, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	sent := map[uint32]time.Time{}
	b := make([]byte, 2048)
	for ctx.Err() == nil {
		id := newID()
		sent[id] = time.Now()
		if _, err := c.Write(packet(id)); err != nil {
			return 0, err // nobody listens: an earlier packet was refused
		}
		if err := c.SetReadDeadline(time.Now().Add(again)); err != nil {
			return 0, err
		}
		for {
			n, err := c.Read(b)
			if err != nil {
				var late net.Error
				if errors.As(err, &late) && late.Timeout() {
					break
				}
				return 0, err
			}
			for id, at := range sent {
				if answers(b[:n], id) {
					return time.Since(at), nil
				}
			}
		}
	}
	return 0, ctx.Err()
}

func newID() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])                              // it does not fail
	return binary.BigEndian.Uint32(b[:])&0x3fffffff | 1 // SRT's ids of single sockets
}

// rtmp connects and shakes hands as far as S0 and S1; rtt is TCP's connect.
func (p *Prober) rtmp(ctx context.Context, address string, encrypted bool) (time.Duration, error) {
	begin := time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	rtt := time.Since(begin)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if encrypted {
		config := p.TLS.Clone()
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		t := tls.Client(c, config)
		if err := t.HandshakeContext(ctx); err != nil {
			return 0, err
		}
		c = t
	}
	// C0 is the version, C1 a time, zeros and 1528 random bytes.
	hello := make([]byte, 1+1536)
	hello[0] = 3
	_, _ = rand.Read(hello[9:])
	if _, err := c.Write(hello); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, hello); err != nil {
		return 0, fmt.Errorf("S0 and S1: %w", err)
	}
	if hello[0] != 3 {
		return 0, fmt.Errorf("S0 says version %d, which is not RTMP's 3", hello[0])
	}
	return rtt, nil
}

// options asks a WHIP endpoint what it takes.
func (p *Prober) options(ctx context.Context, address string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodOptions, address, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: p.TLS, DisableKeepAlives: true}
	res, err := transport.RoundTrip(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch code := res.StatusCode; {
	case code >= 200 && code < 300, code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusMethodNotAllowed:
		return nil
	}
	return fmt.Errorf("it answers %s", res.Status)
}
