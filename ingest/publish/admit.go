package publish

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/schemas"
)

// Request is what a peer says of itself when it wants to publish.
type Request struct {
	// Key is the stream.
	Key schemas.StreamKey
	// Protocol is the protocol's name in lower case: rtmp, srt, whip, rtsp.
	Protocol string
	// Peer is the peer's address.
	Peer netip.Addr
	// PublishKey is the signed key given; empty: none.
	PublishKey string
	// CDN is what the publisher says it came through; empty: it did not say.
	CDN string
	// GrainUs is the resolution of the protocol's timestamps, microseconds; default 1000.
	GrainUs int64
	// Trusted: no key is needed, because the operator's own configuration asks
	// for the stream (a camera that is pulled).
	Trusted bool
}

// Admit decides whether a peer may publish. A refusal is a [*Refused], counted,
// logged and told as an event already: the protocol only tells it to its peer.
//
// When ctx ends, so does the publication, with [ErrShutdown]: give the context of
// the protocol's server. A stream that already has a publisher changes hands when
// the new one's media begins, not here.
func (s *Service) Admit(ctx context.Context, r Request) (*Publication, error) {
	if why := s.judge(&r); why != nil {
		s.Refuse(r, why, true)
		return nil, why
	}
	p := s.newPublication(r)
	if !s.enter(p) {
		why := Refuse("shutdown", ErrShutdown.Error())
		s.Refuse(r, why, true)
		return nil, why
	}
	p.unwatch = context.AfterFunc(ctx, func() { p.stop(ErrShutdown) })
	p.waiting = time.AfterFunc(startWithin, func() { p.stop(errNoMedia) })
	return p, nil
}

// judge checks a request, and completes its CDN.
func (s *Service) judge(r *Request) *Refused {
	if err := r.Key.Check(); err != nil {
		return Refuse("name", err.Error())
	}
	if r.CDN != "" {
		if err := schemas.CheckName("CDN name", r.CDN); err != nil {
			return Refuse("name", err.Error())
		}
	}
	if !r.Trusted {
		if _, err := s.s.Auth.check(r.PublishKey, r.Key, r.Peer, time.Now()); err != nil {
			return Refuse("key", err.Error())
		}
	}
	if r.CDN == "" && s.s.DefaultCDN != nil {
		r.CDN = s.s.DefaultCDN(r.Peer, r.Key)
		if r.CDN != "" && schemas.CheckName("CDN name", r.CDN) != nil {
			s.log.Error("the default CDN's name is not a name; none is used", "cdn", r.CDN)
			r.CDN = ""
		}
	}
	return nil
}

func (s *Service) newPublication(r Request) *Publication {
	p := &Publication{
		s: s, req: r, begun: time.Now(), count: s.metrics.of(r.Protocol),
		log:   s.log.With("stream", r.Key.String(), "protocol", r.Protocol, "peer", r.Peer.String()),
		ended: make(chan struct{}), jumps: rate.NewLimiter(rate.Every(6*time.Second), 10),
		kick: make(chan struct{}, 1), kept: make(chan struct{}),
	}
	p.life, p.end = context.WithCancelCause(context.Background())
	p.work, p.abandon = context.WithCancel(context.Background())
	p.timer = time.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	return p
}
