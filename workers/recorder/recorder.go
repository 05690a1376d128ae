package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/store"
)

// Role is the recorder's role, durable consumer and dead-letter name.
const Role = "recorder"

// Recorder is the service. Fill in the fields and call Run.
type Recorder struct {
	JetStream jetstream.JetStream
	Store     store.Objects
	// Concurrency is how many segments are written at once; default 8.
	Concurrency int
	// PutTimeout bounds one attempt to write; default 20 s.
	PutTimeout time.Duration
	// SweepEvery is how often what has aged out is deleted; default 1 minute.
	// Any number of processes may do it.
	SweepEvery time.Duration
	// Slack is kept beyond DVRSec, for viewers whose playlist is a moment old; default 1 minute.
	Slack time.Duration
	// Keys finds the keys of streams that are encrypted; default a ring of its own.
	Keys       *keys.Ring
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	apps     *mirror.Table[*schemas.AppSettings]
	m        *metrics
	sealer   *keys.Sealer
	begins   *places
	written  *names
	away     atomic.Bool
	stopping chan struct{}
}

func (r *Recorder) defaults() error {
	if r.JetStream == nil || r.Store == nil {
		return errors.New("recorder: JetStream and Store are required")
	}
	def(&r.Concurrency, 8)
	def(&r.PutTimeout, 20*time.Second)
	def(&r.SweepEvery, time.Minute)
	def(&r.Slack, time.Minute)
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	r.Logger = r.Logger.With("role", Role)
	if r.Keys == nil {
		r.Keys = &keys.Ring{Logger: r.Logger, Registerer: r.Registerer}
	}
	r.apps = mirror.New(schemas.BucketApps, schemas.ParseAppSettings, r.Logger)
	r.begins, r.written, r.stopping = newPlaces(), newNames(), make(chan struct{})
	m, err := newMetrics(r.Registerer)
	r.m = m
	return err
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (r *Recorder) settings(k schemas.StreamKey) *schemas.AppSettings {
	return schemas.SettingsOf(k, r.apps.Get)
}

// Run records until ctx ends, and then returns nil. Without a stream that wants
// to be recorded it reads nothing from the bus but settings.
func (r *Recorder) Run(ctx context.Context) error {
	if err := r.defaults(); err != nil {
		return err
	}
	r.sealer = keys.NewSealer(r.JetStream, r.Keys)
	defer r.sealer.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { _ = r.apps.Run(ctx, r.JetStream) }) // nil once ctx ends
	context.AfterFunc(ctx, func() { close(r.stopping) })
	select {
	case <-r.apps.Ready():
	case <-ctx.Done():
		return nil
	}
	wg.Go(func() { r.sweepLoop(ctx) })
	for ctx.Err() == nil {
		changed := r.apps.Changed()
		filters := filtersOf(maps.Collect(r.apps.All()))
		if len(filters) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := r.runOnce(ctx, filters); err != nil {
			return err
		}
	}
	return nil
}

// runOnce records until ctx ends or other streams are wanted.
func (r *Recorder) runOnce(ctx context.Context, filters []string) error {
	// The next runner registers its metrics anew.
	reg := &lent{to: r.Registerer}
	defer reg.giveBack()
	rctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			changed := r.apps.Changed()
			if !slices.Equal(filters, filtersOf(maps.Collect(r.apps.All()))) {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-rctx.Done():
				return
			}
		}
	}()
	return (&workers.Runner{
		JetStream: r.JetStream, Handler: workers.HandlerFunc(r.handle), Role: Role, Stream: schemas.StreamMedia,
		FilterSubjects: filters, HeadersOnly: true, Concurrency: r.Concurrency, BatchSize: 16,
		// Beyond the whole of what a process may be waiting for the store with.
		AckWait: 2 * time.Second, MaxRetryDelay: 2 * time.Second,
		Logger: r.Logger, Registerer: reg,
	}).Run(rctx)
}

// lent registers collectors until they are given back.
type lent struct {
	to   prometheus.Registerer
	mine []prometheus.Collector
}

func (l *lent) Register(c prometheus.Collector) error {
	if l.to == nil {
		return nil
	}
	err := l.to.Register(c)
	if err == nil {
		l.mine = append(l.mine, c)
	}
	return err
}

func (l *lent) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := l.Register(c); err != nil {
			panic(err)
		}
	}
}

func (l *lent) Unregister(c prometheus.Collector) bool { return l.to != nil && l.to.Unregister(c) }

func (l *lent) giveBack() {
	for _, c := range l.mine {
		l.to.Unregister(c)
	}
}

// filtersOf gives the subjects of what is to be recorded. They do not overlap:
// an application's filter covers its streams, whose own settings are looked at
// message by message.
func filtersOf(apps map[string]*schemas.AppSettings) []string {
	whole := map[string]bool{}
	for k, a := range apps {
		if !strings.Contains(k, ".") && a.DVRSec > 0 {
			whole[k] = true
		}
	}
	var out []string
	for app := range whole {
		out = append(out, "media.*."+app+".>")
	}
	for k, a := range apps {
		if app, _, ofStream := strings.Cut(k, "."); ofStream && a.DVRSec > 0 && !whole[app] {
			key, err := schemas.ParseKVKey(k)
			if err != nil {
				continue
			}
			out = append(out, "media."+strconv.Itoa(key.MediaPartition())+"."+key.App+"."+key.Stream+".>")
		}
	}
	slices.Sort(out)
	return out
}

// Remembered things are hints: a process that has forgotten looks again.
const maxRemembered = 65536

// places remembers where the open segment of each track begins.
type places struct {
	mu sync.Mutex
	at map[archive.Track]uint64
}

func newPlaces() *places { return &places{at: map[archive.Track]uint64{}} }

func (p *places) get(t archive.Track) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq, ok := p.at[t]
	return seq, ok
}

func (p *places) put(t archive.Track, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.at) >= maxRemembered {
		clear(p.at)
	}
	p.at[t] = seq
}

// names remembers init segments that are in the store.
type names struct {
	mu  sync.Mutex
	set map[string]bool
}

func newNames() *names { return &names{set: map[string]bool{}} }

func (n *names) has(k string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set[k]
}

func (n *names) put(k string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.set) >= maxRemembered {
		clear(n.set)
	}
	n.set[k] = true
}

type metrics struct {
	recorded, bytes, lost, failed, deleted prometheus.Counter
	away, position                         prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: Role, Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: Role, Name: name, Help: help})
	}
	m := &metrics{
		recorded: counter("segments_total", "Segments written to the object store."),
		bytes:    counter("bytes_total", "Bytes of segments written to the object store."),
		lost:     counter("segments_lost_total", "Segments that could not be recorded because a part of them was damaged or no longer on the bus."),
		failed:   counter("store_failures_total", "Attempts to write an object that failed."),
		deleted:  counter("objects_deleted_total", "Objects deleted because they were older than viewers may seek back."),
		away:     gauge("store_away", "1 while the object store takes nothing."),
		position: gauge("position_seconds", "Unix time at which the bus stored the newest message that has been recorded up to."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.recorded, m.bytes, m.lost, m.failed, m.deleted, m.away, m.position} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of %s: %w", Role, err)
		}
	}
	return m, nil
}
