package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Role is the relay's name in metrics, leases and logs.
const Role = "relay"

// Relay is the service. Fill in the fields and call Run.
type Relay struct {
	// Conn is to this region's bus; its inboxes must begin with schemas.RegionInbox.
	// Streams and buckets exist (schemas.EnsureBus). Required.
	Conn *nats.Conn
	// Region is this region's name and its JetStream domain; required.
	Region string
	// Neighbours are the regions at the other ends of this one's links.
	Neighbours []string
	// Parent, one of Neighbours, is where settings come from and telemetry, events
	// and decisions go to, and session slices and decisions of other regions come from; empty: this region has its own
	// settings, sessionisers and loaders.
	Parent string
	// ParentCDNs: the registry of CDNs is the parent's, too, and what they delivered by month, but
	// for the CDNs named in OwnCDNs, of which this region has an entry of its own, or none.
	ParentCDNs bool
	OwnCDNs    []string
	// Linger is how long a stream is pulled on after it was last wanted; default 30 s.
	Linger time.Duration
	// HotRegions is in how many regions a stream must be watched to be pulled
	// ahead of any viewer here; 0: never.
	HotRegions int
	// HotViewers is how many sessions must watch a stream, in all regions together,
	// for it to be pulled ahead of any viewer here; 0: never.
	HotViewers int
	// Reach is how far back a stream is taken whose chunks are not here yet; default 25 s.
	Reach      time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	m *metrics
}

func (r *Relay) defaults() error {
	if r.Conn == nil {
		return errors.New("relay: Conn is required")
	}
	if err := schemas.CheckRegion(r.Region); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	if len(r.Neighbours) == 0 {
		return errors.New("relay: no neighbouring region is named")
	}
	for i, n := range r.Neighbours {
		if err := schemas.CheckRegion(n); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		if n == r.Region || slices.Contains(r.Neighbours[:i], n) {
			return fmt.Errorf("relay: region %s is named twice", n)
		}
	}
	if r.Parent != "" && !slices.Contains(r.Neighbours, r.Parent) {
		return fmt.Errorf("relay: the parent %s is not among the neighbours %v", r.Parent, r.Neighbours)
	}
	if r.ParentCDNs && r.Parent == "" || len(r.OwnCDNs) > 0 && !r.ParentCDNs {
		return errors.New("relay: there are no CDNs of the parent's to take without a parent, and none of this region's own to name where all are")
	}
	for _, name := range r.OwnCDNs {
		if err := schemas.CheckName("CDN name", name); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
	}
	if r.HotRegions < 0 || r.HotViewers < 0 || r.Linger < 0 || r.Reach < 0 {
		return errors.New("relay: linger, reach and the numbers of regions and viewers cannot be negative")
	}
	set(&r.Linger, 30*time.Second)
	set(&r.Reach, 25*time.Second)
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	r.Logger = r.Logger.With("region", r.Region)
	var err error
	r.m, err = newMetrics(r.Registerer)
	return err
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run works, or stands by for another relay of the region, until ctx ends; then
// it returns nil.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.defaults(); err != nil {
		return err
	}
	js, err := jetstream.New(r.Conn)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	octx, cancel := context.WithTimeout(ctx, 10*time.Second)
	kv, err := js.KeyValue(octx, schemas.BucketLedger)
	cancel()
	if err != nil {
		return fmt.Errorf("relay: open bucket %s: %w", schemas.BucketLedger, err)
	}
	return lease.Pool{
		KV: kv, Role: Role, Names: []string{r.Region}, Conn: r.Conn, Logger: r.Logger,
		Work: func(ctx context.Context, _ string) error { return r.work(ctx, js) },
	}.Run(ctx)
}

// node is the relay of a region while it works.
type node struct {
	*Relay
	js         jetstream.JetStream
	media      jetstream.Stream
	inits      jetstream.KeyValue
	streamsKV  jetstream.KeyValue
	rendsKV    jetstream.KeyValue
	posKV      jetstream.KeyValue
	locations  jetstream.KeyValue
	watched    *demand.Watched
	audience   *audience
	streams    *mirror.Table[*schemas.StreamState]
	recent     *mirror.Recent[*schemas.StreamState] // without those of other regions and those that ended
	positions  *mirror.Table[*schemas.Position]
	renditions *mirror.Table[*schemas.RenditionState]
	links      map[string]*link
	kick       chan struct{} // a look is due at once
	// settled is closed once the parent's settings are here, at once without a parent.
	settled chan struct{}
	known   known // init segments that are here
	wg      sync.WaitGroup

	mu    sync.Mutex
	wants map[schemas.StreamKey]map[string]want

	// The rest belongs to the goroutine of look.
	routes map[schemas.StreamKey]route
	pulls  map[schemas.StreamKey]*pull
	told   map[schemas.StreamKey]told
	saidAt time.Time
}

// route is this region's way to a stream; via is empty where it is published here.
type route struct {
	loc *schemas.Location
	via string
}

// work is the relay's, as long as it has the lease.
func (r *Relay) work(ctx context.Context, js jetstream.JetStream) error {
	r.m.active.Set(1)
	defer r.m.active.Set(0)
	n, err := r.open(ctx, js)
	if err != nil {
		return err
	}
	subs, err := n.listen(ctx)
	defer func() {
		for _, s := range subs {
			_ = s.Unsubscribe() // without a connection there is nothing to end
		}
	}()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.watched.Run(gctx) })
	g.Go(func() error { return n.streams.Run(gctx, js) })
	g.Go(func() error { return n.positions.Run(gctx, js) })
	g.Go(func() error { return n.renditions.Run(gctx, js) })
	for _, l := range n.links {
		g.Go(func() error { l.run(gctx); return nil })
	}
	if r.Parent != "" {
		g.Go(func() error { return n.copySettings(gctx) })
		g.Go(func() error { return n.uplink(gctx) })
		g.Go(func() error { return n.takeSlices(gctx) })
		g.Go(func() error { return n.takeDecisions(gctx) })
	} else {
		close(n.settled)
	}
	g.Go(func() error { n.loop(gctx); return nil })
	err = g.Wait()
	n.wg.Wait()
	return err
}

func (r *Relay) open(ctx context.Context, js jetstream.JetStream) (*node, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n := &node{
		Relay: r, js: js, kick: make(chan struct{}, 1), settled: make(chan struct{}), links: map[string]*link{},
		wants: map[schemas.StreamKey]map[string]want{}, audience: newAudience(), routes: map[schemas.StreamKey]route{}, pulls: map[schemas.StreamKey]*pull{}, told: map[schemas.StreamKey]told{},
		streams:    mirror.New(schemas.BucketStreams, schemas.ParseStreamState, r.Logger),
		positions:  mirror.New(schemas.BucketPositions, parsePosition, r.Logger),
		renditions: mirror.New(schemas.BucketRenditions, schemas.ParseRenditionState, r.Logger),
	}
	n.recent = mirror.Recently(n.streams)
	n.watched = demand.ListenHere(r.Conn, func(schemas.StreamKey) { n.wake() })
	var err error
	if n.media, err = js.Stream(ctx, schemas.StreamMedia); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamMedia, err)
	}
	for name, kv := range map[string]*jetstream.KeyValue{
		schemas.BucketInits: &n.inits, schemas.BucketStreams: &n.streamsKV, schemas.BucketRenditions: &n.rendsKV,
		schemas.BucketPositions: &n.posKV, schemas.BucketLocations: &n.locations,
	} {
		if *kv, err = js.KeyValue(ctx, name); err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", name, err)
		}
	}
	for _, name := range r.Neighbours {
		far, err := jetstream.NewWithDomain(r.Conn, name)
		if err != nil {
			return nil, fmt.Errorf("JetStream of region %s: %w", name, err)
		}
		n.links[name] = &link{n: n, region: name, js: far, heard: make(chan struct{}), offers: map[schemas.StreamKey]heardOffer{}}
	}
	return n, nil
}

// wake has the next look begin at once.
func (n *node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}
