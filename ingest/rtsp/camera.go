package rtsp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
)

// How long to wait before a camera is asked again: it doubles, and begins anew
// once media has come for a while.
const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
	steadyFor  = 10 * time.Second
)

// camera is one pull: connection after connection.
type camera struct {
	p     *Puller
	k     schemas.StreamKey
	src   schemas.Source
	log   *slog.Logger
	lease *lease
}

// hostOf names a camera in logs: its host, without user and password.
func hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Host
}

// run pulls until ctx ends; stop ends it with a cause.
func (c *camera) run(ctx context.Context, stop context.CancelCauseFunc) {
	var wg sync.WaitGroup
	leased, end := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() {
		if err := c.lease.keep(leased); err != nil {
			stop(err)
		}
	})
	delay := firstDelay
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.connect(ctx)
		if ctx.Err() != nil {
			break
		}
		c.p.m.failures.Inc()
		if time.Since(begun) > steadyFor {
			delay = firstDelay
		}
		why := answerText(err)
		c.log.Warn("camera fails: it is asked again", "err", why, "after", delay)
		first := false
		c.lease.tell(func(s *schemas.PullState) {
			first = s.Tries == 0
			s.Playing, s.Error, s.Tries = false, why, s.Tries+1
		})
		if first {
			c.p.report.Event(schemas.Event{Kind: schemas.EventPullFailed, App: c.k.App, Stream: c.k.Stream, CDN: c.src.CDN, Reason: why})
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, maxDelay)
	}
	c.log.Info("camera left", "why", context.Cause(ctx))
	c.lease.tell(func(s *schemas.PullState) { s.Playing, s.Error, s.Tries = false, "", 0 })
	end()
	wg.Wait()
	if !errors.Is(context.Cause(ctx), errLost) {
		c.lease.giveBack()
	}
}

// connect plays the camera until something ends, and gives why.
func (c *camera) connect(ctx context.Context) error {
	u, err := base.ParseURL(c.src.URL)
	if err != nil {
		return errors.New("the URL cannot be read") // its error would show the password
	}
	var peer netip.Addr
	cl := &gortsplib.Client{
		Scheme: u.Scheme, Host: u.Host, ReadTimeout: c.p.s.AnswerWithin, WriteTimeout: c.p.s.AnswerWithin,
		UserAgent: "spillway", InitialUDPReadTimeout: c.p.s.AnswerWithin, UDPReadBufferSize: 1 << 20,
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: c.p.s.AnswerWithin}
			n, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if a, ok := n.RemoteAddr().(*net.TCPAddr); ok {
				peer = a.AddrPort().Addr().Unmap()
			}
			if tcp, ok := n.(*net.TCPConn); ok {
				return lingering{tcp, lingerFor}, nil
			}
			return n, nil
		},
		OnDecodeError: func(error) { c.p.m.broken.Inc() },
		OnPacketsLost: func(n uint64) { c.p.m.lost.Add(float64(n)) },
	}
	proto := gortsplib.ProtocolTCP
	if c.src.Transport == "udp" {
		proto = gortsplib.ProtocolUDP
	}
	cl.Protocol = &proto
	if err := cl.Start(); err != nil {
		return err
	}
	defer cl.Close() // sends TEARDOWN
	defer context.AfterFunc(ctx, cl.Close)()
	desc, _, err := cl.Describe(u)
	if err != nil {
		return fmt.Errorf("DESCRIBE: %w", err)
	}
	f := &feed{c: c, cl: cl, failed: make(chan error, 1)}
	tracks, err := f.choose(desc)
	if err != nil {
		return err
	}
	for _, t := range tracks {
		if _, err := cl.Setup(desc.BaseURL, t.media, 0, 0); err != nil {
			return fmt.Errorf("SETUP: %w", err)
		}
	}
	// The publication ends when the connection does, not with ctx: its last media is published first.
	if f.pub, err = c.p.s.Publish.Admit(context.WithoutCancel(ctx), publish.Request{
		Key: c.k, Protocol: "rtsp", Peer: peer, CDN: c.src.CDN, GrainUs: 100, Trusted: true,
	}); err != nil {
		return err
	}
	return f.play(ctx, tracks)
}

// answerText says what a camera answered, for people; without its address, and
// never with user or password.
func answerText(err error) string {
	var status liberrors.ErrClientBadStatusCode
	var timeout liberrors.ErrClientRequestTimedOut
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case err == nil:
		return "the connection ended"
	case errors.As(err, &status):
		return fmt.Sprintf("the camera answered %d %s", status.Code, status.Message)
	case errors.As(err, &timeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "the camera did not answer in time"
	case errors.As(err, &dns):
		return "the camera's name is not known"
	case errors.As(err, &op):
		if op.Timeout() {
			return "the camera did not answer in time"
		}
		return "the camera is not reached: " + op.Err.Error()
	case errors.Is(err, io.EOF):
		return "the camera closed the connection"
	}
	return err.Error()
}
