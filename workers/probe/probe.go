// Package probe pulls each live stream through each CDN at a low rate, so that a
// CDN without viewers is still known: the media playlist and the newest part it
// lists, as a player would get them.
//
// It warms CDNs' caches, too: what routers say is about to spill to a CDN is pulled
// through it, as the first viewers would, until it spills or will not.
//
// It promises: a budget of requests per second over all processes, spread evenly;
// each pair of stream and CDN is probed by one process (leases); rows are marked
// (source probe, no session), so that they are in no figure about viewers; the
// token of a probe opens one stream for a minute; a CDN that does not answer delays
// no other. A request is demand, so cameras on demand, streams with a ladder and
// streams of other regions are probed only while somebody watches here. Where that
// leaves no stream at all, one with a ladder is probed once a minute, so that CDNs
// are known also while nobody watches anything.
// It leaves out judging what it measures.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/renditions"
	"github.com/spillway-live/spillway/schemas/token"
)

// Role is the prober's name in leases, metrics and logs.
const Role = "probe"

// DefaultEvery is Prober.Every where it is 0.
const DefaultEvery = 2500 * time.Millisecond

// slots cut the pairs of stream and CDN into shares that processes lease.
const slots = 4

// Prober is the service. Fill in the fields and call Run.
type Prober struct {
	JetStream jetstream.JetStream // required
	// Signer mints the tokens of probes; required. CDNKeys are the keys of CDNs' own token schemes, by name.
	Signer  *token.Signer
	CDNKeys map[string][]byte
	// RequestsPerSec is the budget of all processes together; default 4. A probe is two requests.
	RequestsPerSec float64
	// Every is how often a pair of stream and CDN is probed at most; default 2.5 s.
	Every time.Duration
	// WarmRequestsPerSec bounds the requests of this process that warm caches; default 50.
	WarmRequestsPerSec float64
	// Timeout bounds one request; default 5 s.
	Timeout time.Duration
	// Region says where this process is. One with a region warms caches for viewers of
	// that region, one without for those of all.
	Region     string
	LeaseTTL   time.Duration         // default 3 s
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: none

	report  *hops.Reporter
	client  *http.Client
	count   *prometheus.CounterVec
	warmed  *prometheus.CounterVec
	made    *renditions.Table
	access  *access.Table
	cdns    *mirror.Table[*schemas.CDN]
	streams *mirror.Table[*schemas.StreamState]
	recent  *mirror.Recent[*schemas.StreamState]
	apps    *mirror.Table[*schemas.AppSettings]
	sources *mirror.Table[*schemas.Source]

	mu    sync.Mutex
	known map[schemas.StreamKey]*heard
}

// heard is what hops tell of a stream.
type heard struct {
	ingest  time.Time     // when ingest last had a sampled part
	capture time.Duration // from capture to ingest; 0: not known
	watched time.Time     // when a viewer's request was last heard of
	asked   time.Time     // when that request was, for logs may come late
}

func (p *Prober) defaults() error {
	if p.JetStream == nil || p.Signer == nil {
		return errors.New("probe: JetStream and Signer are required")
	}
	p.RequestsPerSec = cmp.Or(p.RequestsPerSec, 4)
	if p.RequestsPerSec < 0 || p.RequestsPerSec > 1000 {
		return fmt.Errorf("probe: %v requests per second are not within 0 and 1000", p.RequestsPerSec)
	}
	p.Every, p.Timeout = cmp.Or(p.Every, DefaultEvery), cmp.Or(p.Timeout, 5*time.Second)
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	p.client = &http.Client{Timeout: p.Timeout, Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: p.Timeout}).DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}}
	p.count = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "probe", Name: "probes_total", Help: "Synthetic requests for a playlist and its newest part, by CDN and outcome."}, []string{"cdn", "outcome"})
	if p.Registerer != nil {
		if err := p.Registerer.Register(p.count); err != nil {
			return err
		}
	}
	p.WarmRequestsPerSec = cmp.Or(p.WarmRequestsPerSec, 50)
	if !(p.WarmRequestsPerSec > 0 && p.WarmRequestsPerSec <= 10_000) {
		return fmt.Errorf("probe: %v requests per second to warm caches are not within 0 and 10000", p.WarmRequestsPerSec)
	}
	p.warmed = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "probe", Name: "warm_requests_total", Help: "Requests that warm a CDN's caches before a stream spills to it, by CDN and outcome."}, []string{"cdn", "outcome"})
	if p.Registerer != nil {
		if err := p.Registerer.Register(p.warmed); err != nil {
			return err
		}
	}
	p.made = renditions.New(p.Logger)
	p.known = map[schemas.StreamKey]*heard{}
	p.report = hops.NewReporter(p.JetStream, Role, p.Logger)
	p.access = access.New(p.Logger)
	p.cdns = mirror.New(schemas.BucketCDNs, schemas.ParseCDN, p.Logger)
	p.streams = mirror.New(schemas.BucketStreams, schemas.ParseStreamState, p.Logger)
	p.recent = mirror.Recently(p.streams)
	p.apps = mirror.New(schemas.BucketApps, schemas.ParseAppSettings, p.Logger)
	p.sources = mirror.New(schemas.BucketSources, schemas.ParseSource, p.Logger)
	return nil
}

// Run probes until ctx ends, and then returns nil.
func (p *Prober) Run(ctx context.Context) error {
	if err := p.defaults(); err != nil {
		return err
	}
	kv, err := p.JetStream.KeyValue(ctx, schemas.BucketPushStates)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("probe: open bucket %s: %w", schemas.BucketPushStates, err)
	}
	sub, err := p.JetStream.Conn().Subscribe("hops.*.*", p.hear)
	if err != nil {
		return fmt.Errorf("probe: listen to hops: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	defer p.client.CloseIdleConnections()
	var names []string
	for i := range slots {
		names = append(names, strconv.Itoa(i))
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range []interface {
		Run(context.Context, jetstream.JetStream) error
	}{p.access, p.cdns, p.streams, p.apps, p.sources, p.made} {
		g.Go(func() error { return t.Run(ctx, p.JetStream) })
	}
	g.Go(func() error { p.report.Run(ctx); return nil })
	g.Go(func() error {
		t := time.NewTicker(liveFor)
		defer t.Stop()
		p.forget(ctx, t.C)
		return nil
	})
	g.Go(func() error { return newWarmer(p).run(ctx, kv) })
	g.Go(func() error {
		return lease.Pool{KV: kv, Conn: p.JetStream.Conn(), Role: Role, Names: names, TTL: p.LeaseTTL, Logger: p.Logger, Work: p.work}.Run(ctx)
	})
	return g.Wait()
}

// hear learns when ingest has media and who is watched.
func (p *Prober) hear(m *nats.Msg) {
	k, err := schemas.ParseHopsSubject(m.Subject)
	if err != nil {
		return
	}
	notes, err := hops.DecodeNotes(m.Data)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.known[k]
	if h == nil {
		h = &heard{}
		p.known[k] = h
	}
	for i := range notes {
		n := &notes[i]
		switch n.Hop {
		case schemas.HopIngest:
			h.ingest = time.UnixMicro(n.AtUs)
		case schemas.HopPublish:
			if n.DelayMs != nil {
				h.capture = time.Duration(-*n.DelayMs * float64(time.Millisecond))
			}
		case schemas.HopEdge, schemas.HopPlayer: // collectors make these from edges' logs and signed sessions only
			h.request(time.UnixMicro(n.AtUs), time.Now())
		}
	}
}

// request notes a viewer's, made at that time by some clock; one that is ahead does not count for longer.
func (h *heard) request(at, now time.Time) {
	h.watched = now
	if at.After(now) {
		at = now
	}
	if at.After(h.asked) {
		h.asked = at
	}
}

func (p *Prober) heardOf(k schemas.StreamKey) heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.known[k]; h != nil {
		return *h
	}
	return heard{}
}

// pair is a stream at a CDN.
type pair struct {
	cdn string
	key schemas.StreamKey
}

const (
	// liveFor: a stream whose state is older has no publisher.
	liveFor = 5 * time.Second
	// watchedFor is how long a viewer's request counts once it was heard of. Of a camera
	// on demand it counts for cameraFor from when it was made, so that probes do not keep
	// awake what nobody watches: a little more than the longest time between two samples.
	watchedFor = time.Minute
	cameraFor  = sampleGap + time.Second
)

// pairs are those of a slot that may be probed now, if they were not asked after latest.
func (p *Prober) pairs(slot string, now time.Time) (all []pair, latest time.Time) {
	var streams []stream
	for _, s := range p.recent.All(func(_ string, s *schemas.StreamState) bool { return !isLive(s, now) }) {
		onDemand, ladder := p.needs(s) // which change without the stream's state
		streams = append(streams, stream{s.Key(), onDemand, ladder, s.Region != "", p.heardOf(s.Key())})
	}
	chosen, latest := choose(streams, now, p.Every)
	var out []pair
	for _, k := range chosen {
		for name, c := range p.cdns.All() {
			if c.State == schemas.CDNOff {
				continue
			}
			h := fnv.New32a()
			h.Write([]byte(name + "/" + k.String()))
			if strconv.Itoa(int(h.Sum32()%slots)) == slot {
				out = append(out, pair{name, k})
			}
		}
	}
	return out, latest
}

func isLive(s *schemas.StreamState, now time.Time) bool {
	return s.Live && now.Sub(time.UnixMicro(s.UpdatedUnixUs)) < liveFor
}

// forget forgets at each tick what was heard of streams that are not live: hops of all
// streams are heard, also where others hold the leases and nothing is probed here.
func (p *Prober) forget(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			p.sweep(now)
		}
	}
}

func (p *Prober) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.known {
		if s, ok := p.streams.Get(k.KVKey()); !ok || !isLive(s, now) {
			delete(p.known, k)
		}
	}
}

// needs says whether a stream is pulled on demand, and whether it has a ladder.
func (p *Prober) needs(st *schemas.StreamState) (onDemand, ladder bool) {
	k := st.Key()
	s, ok := p.sources.Get(k.KVKey())
	return ok && s.OnDemand, len(schemas.SettingsOf(k, p.apps.Get).Ladder) > 0
}
