// Package router sends playback sessions to CDNs. Over HTTP it answers
//
//	GET /v1/dispatch?app=&stream=[&viewer=][&neighbours=a,b][&pin=cdn][&publish=1]
//	GET /v1/play/<app>/<stream>/multivariant.m3u8[?s=<token>][&viewer=][&pin=cdn]
//	GET /v1/play/<app>/<stream>/ts.m3u8, .../manifest.mpd   likewise: HLS with MPEG-TS, DASH
//	GET /v1/steering?s=<token>
//	GET /v1/hot?app=[&all=1]       the streams that are live and worth showing
//	POST /v1/probes?s=<token>      what a client measured of its candidates (?p=<token>: a publisher)
//	GET /<app>/<stream>/multivariant.m3u8   (edges only, with X-Spillway-CDN and X-Spillway-Edge-Key)
//
// with schemas.Dispatch (errors: schemas.ErrorAnswer), per-session multivariant
// playlists and content-steering lists for HLS and DASH players as they are.
//
// It promises: what it knows about load it knows from the bus (DECISIONS and
// SLICES), so all routers agree and a restarted one knows what it knew; every
// decision is published with its reasons, except a steering answer that repeats
// the last one, which is counted and stored once a minute; a change of the
// registry is in the next answer; steering is never answered 429, which would
// end steering in hls.js; a private stream is begun with a play key only, and a
// share that has ended plays no more; tokens cannot be guessed or altered; an address is
// used for place and rate and kept nowhere.
//
// It leaves out what a player does with the answer: players leave a failing
// pathway by themselves, too, in the order they were given.
package router

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/busclock"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/leanhttp"
	"github.com/spillway-live/spillway/workers/router/overflow"
	"github.com/spillway-live/spillway/workers/router/policy"
	"github.com/spillway-live/spillway/workers/router/reach"
)

// Settings of a Router. JS, Signer and ViewerSalt are required.
type Settings struct {
	// JS is the bus; its streams and buckets exist (schemas.EnsureBus).
	JS jetstream.JetStream
	// Addr to listen on; default 127.0.0.1:0.
	Addr string
	// PublicURL is where players reach the router: steering needs absolute
	// addresses. Default http:// and the address listened on.
	PublicURL string
	// Collector is the base URL of telemetry: /v1/cmcd, /v1/beacon.
	Collector string
	// Clock is the URL of the time endpoint; default <Collector>/v1/clock.
	Clock string
	// Origins are base URLs of origins, whose MPDs the sessions' are made of; none: no DASH.
	Origins []string
	// PublishURL is the template of publish addresses, with {app}, {stream} and
	// {cdn}; several, for rtmp, rtmps, srt and http(s) (WHIP), are separated by
	// blanks. Empty: ?publish=1 names CDNs without addresses.
	PublishURL string
	// PublishProbeURL is the template of what publishers measure, with {cdn}; default Clock.
	PublishProbeURL string
	// PublishSTUN is the template of where media published by WHIP goes, HOST:PORT with
	// {cdn}, for publishers to measure by STUN; empty: they measure the endpoint by HTTP.
	PublishSTUN string
	// Signer signs and checks session tokens.
	Signer *token.Signer
	// EdgeKey is what edges must show; empty refuses them all.
	EdgeKey string
	// ViewerSalt hashes viewer ids, at least 16 bytes.
	ViewerSalt []byte
	// CDNKeys are the keys of CDNs that sign in their own way, by the name that
	// schemas.CDN.TokenKey gives. A CDN whose key is missing is in no answer.
	CDNKeys map[string][]byte
	// Keys finds the keys of encrypted streams for ClearKey licences; nil: none are given.
	Keys *keys.Ring
	// Geo places viewers; default: headers from loopback only.
	Geo *geo.Locator
	// TokenTTL is how long a session may last, up to MaxTokenTTL; default 12 h. Edges
	// refuse its requests then, and its player begins a new one.
	TokenTTL time.Duration
	// WakeLimit is how long a play request waits for a camera that is pulled on
	// demand; default 8 s, which players still wait for.
	WakeLimit time.Duration
	// Policy is the routing policy where neither an experiment nor the settings of
	// the stream name one; default affinity.
	Policy string
	// SteeringTTL is when players ask again; default 10 s, at least 1 s.
	SteeringTTL time.Duration
	// PeerRate and PeerBurst limit requests of one client address, per second;
	// default 200 and 1000. Loopback clients are not limited.
	PeerRate  float64
	PeerBurst int
	// AliveWindow is how long a session counts after its last sign of life; default 90 s.
	AliveWindow time.Duration
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Router answers. Make it with New, then Run it.
type Router struct {
	s     Settings
	ln    net.Listener
	own   *geo.Locator // closed with the router
	t     *tables
	clock *busclock.Clock
	load  *follower
	rules *policies
	reach *reach.Table
	out   *publisher
	m     *metrics
	peers *peers
	mpds  *mpds
	deep  deepBuffers
	full  fullness
	warm  warming
	hots  hots
	// viewers hashes names with the salt, prefixes addresses with the signer's key of groups.
	viewers, prefixes *token.Hasher
	id                string // random, of this process
	ready             chan struct{}
}

// MaxTokenTTL bounds Settings.TokenTTL: who has an address can play for so long.
const MaxTokenTTL = 31 * 24 * time.Hour

// New checks the settings and starts to listen, so that URL is known; requests
// are answered once Run has read the registry.
func New(s Settings) (*Router, error) {
	if s.JS == nil || s.Signer == nil {
		return nil, errors.New("router: JS and Signer are required")
	}
	if len(s.ViewerSalt) < 16 {
		return nil, fmt.Errorf("router: ViewerSalt has %d bytes: at least 16 are needed", len(s.ViewerSalt))
	}
	if s.Addr == "" {
		s.Addr = "127.0.0.1:0"
	}
	if s.TokenTTL == 0 {
		s.TokenTTL = 12 * time.Hour
	}
	if s.TokenTTL < 0 || s.TokenTTL > MaxTokenTTL {
		return nil, fmt.Errorf("router: TokenTTL %v: a session may last up to %v", s.TokenTTL, MaxTokenTTL)
	}
	s.SteeringTTL = max(s.SteeringTTL, 0)
	if s.SteeringTTL == 0 {
		s.SteeringTTL = 10 * time.Second
	}
	if s.SteeringTTL < time.Second {
		return nil, fmt.Errorf("router: SteeringTTL %v: players count whole seconds, at least 1", s.SteeringTTL)
	}
	s.Policy = cmp.Or(s.Policy, policy.Affinity)
	if s.WakeLimit == 0 {
		s.WakeLimit = 8 * time.Second
	}
	if s.AliveWindow == 0 {
		s.AliveWindow = 90 * time.Second
	}
	if s.PeerRate == 0 {
		s.PeerRate = 200
	}
	if s.PeerBurst == 0 {
		s.PeerBurst = 1000
	}
	s.Collector = strings.TrimSuffix(s.Collector, "/")
	if s.Clock == "" {
		s.Clock = s.Collector + "/v1/clock"
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Router{s: s, peers: newPeers(rate.Limit(s.PeerRate), s.PeerBurst), mpds: newMPDs(s.Origins, s.EdgeKey), id: rand.Text(), ready: make(chan struct{})}
	r.deep.round = s.SteeringTTL
	groups := s.Signer.GroupKey() // not the salt, which is renewed and may differ between regions
	r.viewers, r.prefixes = token.NewHasher(s.ViewerSalt), token.NewHasher(groups)
	r.full.queue = overflow.New(r.id)
	if r.s.Geo == nil {
		g, err := geo.Open(geo.Settings{})
		if err != nil {
			return nil, fmt.Errorf("router: %w", err)
		}
		r.s.Geo, r.own = g, g
	}
	r.clock = busclock.New(busclock.Settings{JS: s.JS, Stream: schemas.StreamDecisions, Logger: s.Logger})
	r.load = newFollower(s.JS, s.AliveWindow, s.Logger, s.Signer)
	r.load.Now = r.now
	var err error
	if r.m, err = newMetrics(s.Registerer, r.load, func() time.Duration { return r.clock.Ahead() }); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.t = newTables(s.Logger, r.usableCDNs)
	r.load.CDNs, r.load.Usage = r.t.list, r.t.used
	r.rules, r.reach = newPolicies(s.Logger, r.m), reach.New()
	r.out = newPublisher(s.JS, s.Logger, r.m)
	if r.ln, err = net.Listen("tcp", s.Addr); err != nil {
		return nil, fmt.Errorf("router: listen on %s: %w; choose another port, 0 for any", s.Addr, err)
	}
	if r.s.PublicURL == "" {
		r.s.PublicURL = "http://" + r.ln.Addr().String()
	}
	r.s.PublicURL = strings.TrimSuffix(r.s.PublicURL, "/")
	return r, nil
}

// URL is where the router is reached, without trailing slash.
func (r *Router) URL() string { return r.s.PublicURL }

// Ready is closed once the registry and the recent load have been read and requests are answered.
func (r *Router) Ready() <-chan struct{} { return r.ready }

// Viewers counts the sessions on each CDN, as this router knows it.
func (r *Router) Viewers() map[string]int { return r.load.Viewers(r.now()) }

// now is the time that all routers go by, whatever their own clocks say: the bus's.
// What is compared with a moment that the bus, a token or another router tells is taken from it.
func (r *Router) now() time.Time { return r.clock.Now() }

// Run serves until ctx ends; decisions already answered are published before it returns.
func (r *Router) Run(ctx context.Context) error {
	defer func() {
		if r.own != nil {
			r.own.Close()
		}
	}()
	if r.clock.Sync(ctx) != nil {
		return r.ln.Close()
	}
	hearQueues, err := r.hearQueues()
	if err != nil {
		return errors.Join(fmt.Errorf("router: hear of others' queues: %w", err), r.ln.Close())
	}
	defer hearQueues()
	hear, err := r.hearProbes()
	if err != nil {
		return errors.Join(fmt.Errorf("router: hear of probes: %w", err), r.ln.Close())
	}
	defer hear()
	hearWarmed, err := r.hearWarmed()
	if err != nil {
		return errors.Join(fmt.Errorf("router: hear of warm caches: %w", err), r.ln.Close())
	}
	defer hearWarmed()
	healthAnswered, err := r.answerHealth()
	if err != nil {
		return errors.Join(fmt.Errorf("router: answer what is known of CDNs: %w", err), r.ln.Close())
	}
	defer healthAnswered()
	g, gctx := errgroup.WithContext(ctx)
	loaded := make(chan struct{}, 3)
	g.Go(func() error { return r.t.run(gctx, r.s.JS, func() { loaded <- struct{}{} }) })
	g.Go(func() error { return r.rules.run(gctx, r.s.JS, func() { loaded <- struct{}{} }) })
	g.Go(func() error { return r.rules.tellAside(gctx, r.now, r.event) })
	g.Go(func() error { return r.clock.Run(gctx) })
	g.Go(func() error { return r.sayQueue(gctx) })
	g.Go(func() error { return r.sayWarm(gctx) })
	g.Go(func() error { return r.load.run(gctx, func() { loaded <- struct{}{} }) })
	srv := &leanhttp.Server{Logger: r.s.Logger, Closed: func(net.Conn) {}, Rest: &http.Server{
		BaseContext: func(net.Listener) context.Context { return gctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return ctx },
		Handler:     r.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: r.s.WakeLimit + 10*time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.s.Logger.Handler(), slog.LevelDebug),
	}}
	outDone := make(chan struct{})
	outCtx, stopOut := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOut()
	go func() { defer close(outDone); r.out.run(outCtx) }()
	g.Go(func() error {
		for range 3 {
			select {
			case <-loaded:
			case <-gctx.Done():
				return r.ln.Close()
			}
		}
		close(r.ready)
		r.s.Logger.Info("router answers", "url", r.URL())
		if err := srv.Serve(r.ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("router: serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(stop) // it closes what is still under way
		r.ln.Close()           // also where serving has not begun
		return nil
	})
	err = g.Wait()
	stopOut()
	<-outDone
	return err
}

// hashViewer keeps the application's name of a viewer out of everything that is stored.
func (r *Router) hashViewer(name string) string { return r.viewers.Viewer(name) }

// prefix hashes an address's prefix (/24, IPv6 /48), keyed so that nobody can
// choose theirs, and alike at all routers of a key; nil where there is no address.
func (r *Router) prefix(addr netip.Addr) []byte {
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return nil
	}
	a := p.Addr().AsSlice()
	sum := r.prefixes.Sum(a)
	return sum[:]
}
