package publish

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
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
// The publish key, or a loopback address, decides first, then the application's
// publish hook, then its rule for second publishers; asking takes a few seconds at
// most. Whoever is admitted stays so: a key that expires ends nothing.
//
// When ctx ends, so does the publication, with [ErrShutdown]: give the context of
// the protocol's server. Where the newest publisher has a stream, it changes hands when
// the new one's media begins, not here.
func (s *Service) Admit(ctx context.Context, r Request) (*Publication, error) {
	app, why, noise := s.judge(ctx, &r)
	if why != nil {
		s.Refuse(r, why, noise)
		return nil, why
	}
	p := s.newPublication(r)
	p.partUs = s.partUs(r.Key, app)
	p.exclusive = app.SecondPublisher == schemas.SecondRefused
	if !s.enter(p) {
		why := Refuse("shutdown", ErrShutdown.Error())
		s.Refuse(r, why, true)
		return nil, why
	}
	p.unwatch = context.AfterFunc(ctx, func() { p.stop(ErrShutdown) })
	p.waiting = time.AfterFunc(s.s.StartTimeout, func() { p.stop(p.noMedia()) })
	return p, nil
}

// judge checks a request, and completes its CDN. why is nil where the peer may
// publish; noise tells that anybody could cause the refusal.
func (s *Service) judge(ctx context.Context, r *Request) (app *schemas.AppSettings, why *Refused, noise bool) {
	if err := r.Key.Check(); err != nil {
		return nil, Refuse("name", err.Error()), true
	}
	if r.CDN != "" {
		if err := schemas.CheckName("CDN name", r.CDN); err != nil {
			return nil, Refuse("name", err.Error()), true
		}
	}
	var claims *token.Publish
	if !r.Trusted {
		var err error
		if claims, err = s.s.Auth.check(r.PublishKey, r.Key, r.Peer, time.Now()); err != nil {
			return nil, Refuse("key", err.Error()), true
		}
	}
	if app, why = s.settings(ctx, r.Key); why == nil {
		why = s.reserved(r)
	}
	if why != nil {
		return nil, why, true
	}
	if app.PublishHookURL != "" && !r.Trusted {
		cdn, why := s.hook.ask(ctx, app.PublishHookURL, question{App: r.Key.App, Stream: r.Key.Stream, Protocol: r.Protocol,
			Peer: r.Peer.String(), CDN: r.CDN, Key: claims})
		if why != nil {
			return nil, why, true
		}
		if cdn != "" {
			r.CDN = cdn
		}
	}
	if r.CDN == "" && s.s.DefaultCDN != nil {
		r.CDN = s.s.DefaultCDN(r.Peer, r.Key)
		if r.CDN != "" && schemas.CheckName("CDN name", r.CDN) != nil {
			s.log.Error("the default CDN's name is not a name; none is used", "cdn", r.CDN)
			r.CDN = ""
		}
	}
	if app.SecondPublisher == schemas.SecondRefused {
		why = s.occupied(ctx, r)
	}
	return app, why, false
}

// settingsTimeout is how long an admission waits for the applications' settings after a start.
const settingsTimeout = 5 * time.Second

// taken is the table of keys that have an entry, whatever it says.
func taken(string, []byte) (bool, error) { return true, nil }

// reserved refuses an address that plays another stream, and a stream that a
// camera is pulled for: a publisher there would be seen by nobody, or fight with the puller.
func (s *Service) reserved(r *Request) *Refused {
	k := r.Key.KVKey()
	if _, shared := s.shares.Get(k); shared {
		return Refuse("share", fmt.Sprintf("%s is the address of a share: what is published there would not be played; publish under another name", r.Key))
	}
	if _, pulled := s.sources.Get(k); pulled && !r.Trusted {
		return Refuse("source", fmt.Sprintf("%s is pulled from a camera: publish under another name, or remove the camera first (spillway source remove %s)", r.Key, r.Key))
	}
	return nil
}

// settings gives what holds for a stream. Nobody is admitted before they are known: they may refuse.
func (s *Service) settings(ctx context.Context, k schemas.StreamKey) (*schemas.AppSettings, *Refused) {
	wait, cancel := context.WithTimeout(ctx, settingsTimeout)
	defer cancel()
	for _, known := range []<-chan struct{}{s.apps.Ready(), s.shares.Ready(), s.sources.Ready(), s.running.Ready()} {
		select {
		case <-known:
		case <-wait.Done():
			return nil, Refuse("bus", fmt.Sprintf("the settings of applications, shares, cameras and experiments could not be read within %s: try again", settingsTimeout))
		}
	}
	return schemas.SettingsOf(k, s.apps.Get), nil
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
