package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/renditions"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/leanhttp"
	"github.com/spillway-live/spillway/workers/store"
)

// Role is the origin's name in metrics and logs.
const Role = "origin"

// Origin is the service. Fill in the fields and call Run.
type Origin struct {
	JetStream jetstream.JetStream
	// Listener takes the HTTP connections; Run closes it. Required.
	Listener net.Listener
	// WindowSegments is the number of complete segments a playlist lists at least; default 8.
	WindowSegments int
	// PlaylistLength is how long low-latency playlists are at least; default 36 s,
	// nine target durations. Delta updates leave out what is more than six before
	// the end. MEDIA must keep chunks for 20 s longer, or playlists are shorter.
	PlaylistLength time.Duration
	// IdleAfter is how long a stream is read on after its last request; default 60 s.
	IdleAfter time.Duration
	// UsePackagers takes parts from packagers instead of cutting chunks here. The
	// result is the same, byte for byte; see docs/decisions/0009.
	UsePackagers bool
	// CoverAfter is how long a packager's part may stay behind its chunk before it
	// is cut here; default 150 ms.
	CoverAfter time.Duration
	// HoldLimit is how long a blocking reload waits before the playlist is sent
	// unchanged. Default 6 s: hls.js gives up a request after 10 s without a first
	// byte, and playback after three such failures.
	HoldLimit time.Duration
	// MaxStreams bounds the streams watched at once; default 1000. One takes
	// about 20 s of media in memory.
	MaxStreams int
	// MaxConns and MaxConnsPerPeer bound open connections, all and of one
	// address; default 20,000 and 5,000. One above is answered 503 and closed.
	MaxConns, MaxConnsPerPeer int
	// SlowAfter is how long a reader may take for 256 KiB of media (or what is
	// left of an answer) before it is cut off; default 20 s.
	SlowAfter time.Duration
	// EdgeKey is what edges show (header X-Spillway-Edge-Key), and EdgeNetworks is
	// where they are. Private streams are given to them only; with neither, to nobody.
	EdgeKey      string
	EdgeNetworks []netip.Prefix
	// Store holds what recorders wrote of streams with AppSettings.DVRSec; nil:
	// no stream can be seen further back than the window.
	Store store.Objects
	// Keys finds the keys of streams that are encrypted; default a ring of its own.
	Keys *keys.Ring
	// StoreReads bounds the objects read from Store at once; default 32.
	StoreReads int
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	window  window
	history time.Duration
	m       *metrics
	work    context.Context
	access  *access.Table
	fetches fetches
	reads   chan struct{} // one place for each segment being read from MEDIA
	sealer  *keys.Sealer
	dvr     *dvr // nil without Store
	// stopping: requests are still answered, but no more should come.
	stopping atomic.Bool

	media            jetstream.Stream
	streams, initsKV jetstream.KeyValue
	positions        jetstream.KeyValue
	inits            *lru[[]byte]
	initInfos        *lru[*cmaf.Init]
	states           *lru[cachedState]
	unknown          *lru[time.Time]

	mu    sync.Mutex
	feeds map[schemas.StreamKey]*feed

	made *renditions.Table
	hops *hopTeller
}

// fetches counts work in the background so that Run can wait for it.
type fetches struct{ wg sync.WaitGroup }

func (f *fetches) Go(fn func()) { f.wg.Go(fn) }

func (o *Origin) defaults() error {
	if o.JetStream == nil || o.Listener == nil {
		return errors.New("origin: JetStream and Listener are required")
	}
	set(&o.WindowSegments, 8)
	set(&o.PlaylistLength, 9*schemas.TargetDurationSec*time.Second)
	set(&o.IdleAfter, time.Minute)
	set(&o.CoverAfter, 150*time.Millisecond)
	set(&o.HoldLimit, 6*time.Second)
	set(&o.MaxStreams, 1000)
	set(&o.MaxConns, 20_000)
	set(&o.MaxConnsPerPeer, 5_000)
	set(&o.SlowAfter, 20*time.Second)
	set(&o.StoreReads, 32)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("role", Role)
	if o.Keys == nil {
		o.Keys = &keys.Ring{Logger: o.Logger, Registerer: o.Registerer}
	}
	const target = schemas.TargetDurationSec * 1_000_000
	o.window = window{
		segments: o.WindowSegments, us: max(3*target, int64(o.WindowSegments)*schemas.SegmentMinUs), listUs: o.PlaylistLength.Microseconds(),
		keepUs: 3 * target, heldUs: target,
	}
	o.reachBack()
	o.initInfos = newLRU[*cmaf.Init](1024)
	o.inits, o.states, o.unknown = newLRU[[]byte](1024), newLRU[cachedState](4096), newLRU[time.Time](4096)
	o.feeds = map[schemas.StreamKey]*feed{}
	o.reads = make(chan struct{}, pastReads)
	var err error
	o.m, err = newMetrics(o.Registerer)
	return err
}

// reachBack says how much of MEDIA is read of a stream: enough for a window of the
// longest segments, what stays fetchable behind it, and a segment cut off by the start.
func (o *Origin) reachBack() {
	us := max(int64(o.WindowSegments)*schemas.SegmentMaxUs, o.window.listUs+schemas.SegmentMaxUs)
	o.history = time.Duration(us+2*schemas.SegmentMaxUs+o.window.keepUs) * time.Microsecond
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run serves until ctx ends, then answers what waits and returns nil. The bus
// must be there at the start; later it may go and come back.
func (o *Origin) Run(ctx context.Context) error {
	if err := o.defaults(); err != nil {
		return err
	}
	var cancel context.CancelFunc
	o.work, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	o.sealer = keys.NewSealer(o.JetStream, o.Keys)
	defer o.sealer.Stop()
	o.hops = newHopTeller(o)
	o.fetches.Go(func() { o.hops.report.Run(o.work) })
	if err := o.open(ctx); err != nil {
		o.Listener.Close()
		return fmt.Errorf("origin: %w", err)
	}
	stopping, stop := context.WithCancel(context.Background())
	defer stop()
	conns := newConns(o.MaxConns, o.MaxConnsPerPeer, o.m)
	srv := &leanhttp.Server{Logger: o.Logger, Closed: conns.closed, Rest: &http.Server{
		Handler:           http.HandlerFunc(o.serve),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		// Both count from the request, and the end of either ends a held one.
		ReadTimeout: o.HoldLimit + time.Minute, WriteTimeout: o.HoldLimit + time.Minute,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		// Held requests are answered when the origin stops.
		BaseContext: func(net.Listener) context.Context { return stopping },
		ConnContext: conns.took,
	}}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(o.Listener) }()
	sweep, late, say := time.NewTicker(o.IdleAfter/8), time.NewTicker(tick), time.NewTicker(demand.Every)
	defer sweep.Stop()
	defer late.Stop()
	defer say.Stop()
	for {
		select {
		case <-sweep.C:
			o.dropIdle(time.Now())
			o.dvr.dropIdle(time.Now())
			continue
		case now := <-say.C:
			o.sayWatched(now)
			continue
		case now := <-late.C:
			for _, f := range o.watched() {
				f.look(now)
			}
			continue
		case err := <-served:
			cancel()
			o.fetches.wg.Wait()
			return fmt.Errorf("origin: serve: %w", err)
		case <-ctx.Done():
		}
		break
	}
	o.stopping.Store(true)
	stop()
	sctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	if err := srv.Shutdown(sctx); err != nil {
		o.Logger.Warn("requests were cut off at the end", "err", err)
	}
	cancel()
	o.fetches.wg.Wait()
	return nil
}

func (o *Origin) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if o.media, err = o.JetStream.Stream(ctx, schemas.StreamMedia); err != nil {
		return fmt.Errorf("open stream %s: %w", schemas.StreamMedia, err)
	}
	o.shorten(o.media.CachedInfo().Config.MaxAge)
	for name, b := range map[string]*jetstream.KeyValue{
		schemas.BucketStreams: &o.streams, schemas.BucketInits: &o.initsKV, schemas.BucketPositions: &o.positions,
	} {
		if *b, err = o.JetStream.KeyValue(ctx, name); err != nil {
			return fmt.Errorf("open bucket %s: %w", name, err)
		}
	}
	if err := o.followRenditions(ctx); err != nil {
		return err
	}
	if err := o.followAccess(ctx); err != nil {
		return err
	}
	return o.openDVR(ctx)
}

// unknownFor is how long a name that is not on the bus is answered 404 without
// asking again: requests for made-up names must not load the bus.
const unknownFor = time.Second

// watch gives the feed of a stream, starting it when it is not there. release
// must be called when the request is over.
func (o *Origin) watch(ctx context.Context, key schemas.StreamKey) (*feed, func(), error) {
	o.mu.Lock()
	f := o.feeds[key]
	if f == nil {
		if at, ok := o.unknown.get(key.KVKey()); ok && time.Since(at) < unknownFor {
			o.mu.Unlock()
			return nil, nil, errUnknown
		}
		if len(o.feeds) >= o.MaxStreams {
			o.mu.Unlock()
			return nil, nil, errFull
		}
		f = &feed{
			o: o, key: key, ready: make(chan struct{}), added: make(chan struct{}), at: map[string]place{},
			tracks: map[trackName]*track{}, targets: map[trackName]int64{},
		}
		fctx, cancel := context.WithCancel(o.work)
		f.cancel = cancel
		o.feeds[key] = f
		o.m.watched.Set(float64(len(o.feeds)))
		o.fetches.Go(func() {
			defer cancel()
			f.run(fctx)
			if f.err != nil {
				o.forget(f)
			}
		})
	}
	f.users.Add(1)
	f.lastUse.Store(time.Now().UnixNano())
	o.mu.Unlock()
	release := func() {
		f.lastUse.Store(time.Now().UnixNano())
		f.users.Add(-1)
	}
	select {
	case <-f.ready: // nearly always; this costs less than waiting for either
	default:
		select {
		case <-f.ready:
		case <-ctx.Done():
			release()
			return nil, nil, ctx.Err()
		}
	}
	if f.err != nil {
		release()
		return nil, nil, f.err
	}
	return f, release, nil
}

func (o *Origin) forget(f *feed) {
	if errors.Is(f.err, errUnknown) {
		o.unknown.put(f.key.KVKey(), time.Now())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.feeds[f.key] == f {
		delete(o.feeds, f.key)
	}
	o.m.watched.Set(float64(len(o.feeds)))
}

// watched gives the feeds there are.
func (o *Origin) watched() []*feed {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.feeds))
}

func (o *Origin) dropIdle(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, f := range o.feeds {
		if f.users.Load() == 0 && now.Sub(time.Unix(0, f.lastUse.Load())) > o.IdleAfter {
			f.cancel()
			delete(o.feeds, key)
		}
	}
	o.m.watched.Set(float64(len(o.feeds)))
}

type cachedState struct {
	at    time.Time
	state *schemas.StreamState // nil: not there
}

// stateAge is how old an answer from the bucket streams may be.
const stateAge = 500 * time.Millisecond

// lately is state without asking the bucket; ok is false where it must be asked.
func (o *Origin) lately(key schemas.StreamKey) (s *schemas.StreamState, ok bool, err error) {
	c, ok := o.states.get(key.KVKey())
	switch {
	case !ok || time.Since(c.at) >= stateAge:
		return nil, false, nil
	case c.state == nil:
		return nil, true, jetstream.ErrKeyNotFound
	}
	return c.state, true, nil
}

// state gives what the bucket streams says of a stream, up to stateAge old.
func (o *Origin) state(ctx context.Context, key schemas.StreamKey) (*schemas.StreamState, error) {
	if s, ok, err := o.lately(key); ok {
		return s, err
	}
	e, err := o.streams.Get(ctx, key.KVKey())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		o.states.put(key.KVKey(), cachedState{at: time.Now()})
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", key, err)
	}
	var s schemas.StreamState
	if err := json.Unmarshal(e.Value(), &s); err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", key, err)
	}
	s.App, s.Stream = key.App, key.Stream
	o.states.put(key.KVKey(), cachedState{at: time.Now(), state: &s})
	return &s, nil
}

func (o *Origin) position(ctx context.Context, key schemas.StreamKey) (*schemas.Position, error) {
	e, err := o.positions.Get(ctx, key.KVKey()+"."+schemas.SourceRendition)
	if err != nil {
		return nil, err
	}
	var p schemas.Position
	return &p, json.Unmarshal(e.Value(), &p)
}

// alive: somebody publishes the stream now.
func alive(s *schemas.StreamState, now time.Time) bool {
	return s != nil && s.Live && now.Sub(time.UnixMicro(s.UpdatedUnixUs)) < 15*time.Second
}

// sortReports puts reports in one order on every origin.
func sortReports(r []hls.Report) {
	for i := 1; i < len(r); i++ {
		for j := i; j > 0 && r[j].URI < r[j-1].URI; j-- {
			r[j], r[j-1] = r[j-1], r[j]
		}
	}
}
