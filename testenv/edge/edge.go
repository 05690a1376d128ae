// Package edge is one CDN: a caching HTTP reverse proxy with a name, a region,
// a capacity and a price, and with faults that can be set while it runs.
//
// It promises: one request to an origin for any number of identical requests
// that wait at the same time, blocking playlist reloads included; media only
// for holders of a session token of that very stream, of private streams only
// where the session was opened with a play key, and no trace of the token
// in the cache key or at the origin; an origin that dies is tried last, and
// tried again later; a bounded cache.
//
// Every answer becomes one schemas.CDNLogLine. Lines are POSTed to
// <collector>/v1/cdnlog as NDJSON (application/x-ndjson, header
// X-Spillway-Edge-Key) every half second, and kept and repeated, up to a bound,
// while the collector is away; lines beyond the bound are dropped and counted,
// and show as a gap in the lines' seq.
//
// It leaves out what real CDNs add: tiers, disk, TLS, HTTP/2, stale answers.
package edge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// HeaderEdgeKey carries the secret that edges share with origin, router and collector.
const HeaderEdgeKey = schemas.HeaderEdgeKey

// HeaderCDN tells the router which edge asks.
const HeaderCDN = "X-Spillway-CDN"

// Settings of an Edge.
type Settings struct {
	// Name is the CDN's name; required.
	Name   string
	Region string
	// Addr to listen on; default 127.0.0.1:0.
	Addr string
	// PublicURL is where viewers reach the edge; default http:// and the address listened on.
	PublicURL string
	// Origins and Routers are base URLs; at least one origin is required. They can be changed later.
	Origins []string
	Routers []string
	// Collector is the base URL that log lines are posted to; empty: none are.
	Collector string
	// EdgeKey is shown to origins (which give private streams for it only), router and collector.
	EdgeKey string
	// Signer verifies session tokens; required unless AllowAnonymous.
	Signer *token.Signer
	// AllowAnonymous serves media without a token too.
	AllowAnonymous bool
	// Geo places viewers; default: headers from loopback only.
	Geo *geo.Locator
	// CacheBytes bounds the cache; default 256 MiB.
	CacheBytes int64
	// CapacityBps is the most the edge sends, bits per second; 0 is unlimited.
	// It is enforced, CapacityViewers and the price are only told to the registry.
	CapacityBps        int64
	CapacityViewers    int
	PricePerGBMicroUSD int64
	SpillViewers       int
	Order              int
	// Faults is the bucket "faults"; nil: faults come by SetFault only.
	Faults jetstream.KeyValue
	// MaxLogLines bounds the lines kept while the collector is away; default 100,000.
	MaxLogLines int
	// Seed makes injected errors repeatable; 0 is random.
	Seed       uint64
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Edge is one CDN. Make it with New, then Run it.
type Edge struct {
	s       Settings
	ln      net.Listener
	own     *geo.Locator // closed with the edge
	origins *pool
	routers *pool
	cache   *cache
	flights *flights
	shaper  *shaper
	log     *logShipper
	m       *metrics
	viewers *viewers
	chance  *chance

	mu    sync.Mutex
	state atomic.Pointer[state]
}

// state is a fault and the context of requests served under it; going down ends it.
type state struct {
	fault  schemas.Fault
	frozen sync.Map // of *object, by path: playlists that are as old as the fault
	ctx    context.Context
	cancel context.CancelFunc
}

// New checks the settings and starts to listen, so that URL is known; requests
// are answered once Run is called.
func New(s Settings) (*Edge, error) {
	if err := schemas.CheckName("edge name", s.Name); err != nil {
		return nil, err
	}
	if s.Signer == nil && !s.AllowAnonymous {
		return nil, fmt.Errorf("edge %s: Signer is missing: give one, or set AllowAnonymous", s.Name)
	}
	if s.Addr == "" {
		s.Addr = "127.0.0.1:0"
	}
	if s.CacheBytes == 0 {
		s.CacheBytes = 256 << 20
	}
	if s.MaxLogLines == 0 {
		s.MaxLogLines = 100_000
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.Logger = s.Logger.With("cdn", s.Name)
	e := &Edge{s: s, cache: newCache(s.CacheBytes), shaper: newShaper(s.CapacityBps), viewers: newViewers(), chance: newChance(s.Seed)}
	e.state.Store(newState(schemas.Fault{}))
	if e.s.Geo == nil {
		g, err := geo.Open(geo.Settings{})
		if err != nil {
			return nil, fmt.Errorf("edge %s: %w", s.Name, err)
		}
		e.s.Geo, e.own = g, g
	}
	var err error
	if e.m, err = newMetrics(s.Registerer, s.Name, e.viewers.count); err != nil {
		return nil, fmt.Errorf("edge %s: %w", s.Name, err)
	}
	if e.origins, err = newPool("origin", s.Origins, e.m.originRequests, e.m.originFailures); err != nil {
		return nil, fmt.Errorf("edge %s: %w", s.Name, err)
	}
	if e.routers, err = newPool("router", s.Routers, nil, nil); err != nil {
		return nil, fmt.Errorf("edge %s: %w", s.Name, err)
	}
	e.flights = newFlights(e.origins, e.cache, s.EdgeKey)
	e.log = newLogShipper(s, e.m)
	if e.ln, err = net.Listen("tcp", s.Addr); err != nil {
		return nil, fmt.Errorf("edge %s: listen on %s: %w; choose another port, 0 for any", s.Name, s.Addr, err)
	}
	e.log.server = e.ln.Addr().String()
	if e.s.PublicURL == "" {
		e.s.PublicURL = "http://" + e.ln.Addr().String()
	}
	return e, nil
}

// URL is where viewers reach the edge, without trailing slash.
func (e *Edge) URL() string { return e.s.PublicURL }

// Record is the edge's entry for the CDN registry.
func (e *Edge) Record() schemas.CDN {
	return schemas.CDN{
		Name: e.s.Name, BaseURL: e.URL(), Region: e.s.Region,
		CapacityViewers: e.s.CapacityViewers, CapacityBps: e.s.CapacityBps, PricePerGBMicroUSD: e.s.PricePerGBMicroUSD,
		State: schemas.CDNActive, Order: e.s.Order, SpillViewers: e.s.SpillViewers,
	}
}

// SetOrigins replaces the origins.
func (e *Edge) SetOrigins(urls []string) error { return e.origins.set(urls) }

// SetRouters replaces the routers.
func (e *Edge) SetRouters(urls []string) error { return e.routers.set(urls) }

// Run serves until ctx ends, then closes what is open and sends the last log
// lines within two seconds.
func (e *Edge) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler: e, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(e.s.Logger.Handler(), slog.LevelDebug),
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(e.ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("edge %s: serve: %w", e.s.Name, err)
		}
		return nil
	})
	shipped := make(chan struct{})
	logCtx, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLog()
	go func() { defer close(shipped); e.log.run(logCtx) }()
	if e.s.Faults != nil {
		g.Go(func() error { e.watchFaults(gctx); return nil })
	}
	g.Go(func() error {
		<-gctx.Done()
		// Viewers hold requests open for seconds: what does not end at once is cut.
		e.state.Load().cancel()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close()
		}
		return nil
	})
	err := g.Wait()
	stopLog()
	<-shipped
	e.origins.close()
	e.routers.close()
	if e.own != nil {
		err = errors.Join(err, e.own.Close())
	}
	return err
}

func newState(f schemas.Fault) *state {
	ctx, cancel := context.WithCancel(context.Background())
	return &state{fault: f, ctx: ctx, cancel: cancel}
}

// SetFault makes the edge misbehave from now on; the zero Fault heals it.
// Going down ends the requests being served.
func (e *Edge) SetFault(f schemas.Fault) error {
	if f.RateBps < 0 || f.ConnectionRateBps < 0 || f.LatencyMs < 0 || !(f.ErrorRate >= 0 && f.ErrorRate <= 1) {
		return fmt.Errorf("fault of edge %s: rates and latency cannot be negative and the error rate is 0 to 1: got %+v", e.s.Name, f)
	}
	if f.Region != "" && (f.RateBps > 0 || f.FreezePlaylists || f.Down) {
		return fmt.Errorf("fault of edge %s: only the connection rate, latency and error rate can be those of one region: got %+v", e.s.Name, f)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.state.Load()
	if old.fault == f {
		return nil
	}
	rate := e.s.CapacityBps
	if f.RateBps > 0 && (rate == 0 || f.RateBps < rate) {
		rate = f.RateBps
	}
	e.shaper.setRate(rate)
	next := &state{fault: f, ctx: old.ctx, cancel: old.cancel}
	if f.Down != old.fault.Down {
		next = newState(f)
	}
	e.state.Store(next)
	if f.Down {
		old.cancel()
	}
	e.s.Logger.Info("edge fault set", "rate_bps", f.RateBps, "connection_rate_bps", f.ConnectionRateBps, "region", f.Region, "latency_ms", f.LatencyMs, "error_rate", f.ErrorRate, "down", f.Down)
	return nil
}

// Fault gives the fault in force.
func (e *Edge) Fault() schemas.Fault { return e.state.Load().fault }

// watchFaults follows the edge's key in the bucket; it survives a lost bus.
func (e *Edge) watchFaults(ctx context.Context) {
	for ctx.Err() == nil {
		if err := e.followFaults(ctx); err != nil && ctx.Err() == nil {
			e.s.Logger.Warn("watch faults: trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (e *Edge) followFaults(ctx context.Context) error {
	w, err := e.s.Faults.Watch(ctx, e.s.Name)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("watch ended")
			}
			if entry == nil {
				continue // all that was there has been told
			}
			var f schemas.Fault
			if entry.Operation() == jetstream.KeyValuePut {
				if err := schemas.UnmarshalStrict(entry.Value(), &f); err != nil {
					e.s.Logger.Warn("fault in the bucket is not understood: it stays as it was", "err", err)
					continue
				}
			}
			if err := e.SetFault(f); err != nil {
				e.s.Logger.Warn("fault in the bucket is refused: it stays as it was", "err", err)
			}
		}
	}
}

// Stats are counts since the edge was made.
type Stats struct {
	Requests, Hits, Coalesced, OriginRequests, OriginFailures uint64
	Bytes, LogLinesSent, LogLinesDropped                      uint64
	// Viewers are sessions seen in the last 10 s.
	Viewers int
}

// Stats gives the counts.
func (e *Edge) Stats() Stats {
	return Stats{
		Requests: e.m.requests.n.Load(), Hits: e.m.hits.n.Load(), Coalesced: e.m.coalesced.n.Load(),
		OriginRequests: e.m.originRequests.n.Load(), OriginFailures: e.m.originFailures.n.Load(),
		Bytes: e.m.bytes.n.Load(), LogLinesSent: e.m.logSent.n.Load(), LogLinesDropped: e.m.logDropped.n.Load(),
		Viewers: e.viewers.count(),
	}
}

func newBootID() string { return rand.Text()[:16] }
