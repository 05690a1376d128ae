package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Role is the worker's name in leases, metrics and logs.
const Role = "transcoder"

// Worker is one transcoder process. Fill in the fields and call Run.
type Worker struct {
	JetStream jetstream.JetStream
	// MaxStreams bounds the streams worked on at once, and is the process's weight
	// when streams are shared out; default the number of processors.
	MaxStreams int
	// MaxPixelsPerSec bounds the pictures made, all rungs of all streams, with a
	// third of the sources' added for decoding; 0: not bounded. One stream is always taken.
	MaxPixelsPerSec int64
	// Grace is how long a stream is worked on after the last viewer has left; default 30 s.
	Grace time.Duration
	// MaxBehind is how far an encoder may fall behind real time, and for how long,
	// before its highest rung is left out; default 2 s.
	MaxBehind time.Duration
	// LeaseTTL is how long a worker is silent before another takes its streams; default 1.2 s.
	LeaseTTL time.Duration
	// Encoder says how ffmpeg is run.
	Encoder    Encoder
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	leaseRole string // tests let two workers have the same stream
	bus       *busHandles
	m         *metrics
	apps      *mirror.Table[*schemas.AppSettings]
	watched   *demand.Watched

	mu    sync.Mutex
	seen  map[schemas.StreamKey]time.Time // when a stream was last known to be watched
	left  map[string]time.Time            // <key>.<rung>: left out until then, because the encoder fell behind
	loads map[schemas.StreamKey]int64     // pixels a second of what is worked on
}

func (w *Worker) defaults() error {
	if w.JetStream == nil {
		return errors.New("transcode: JetStream is required")
	}
	set(&w.MaxStreams, runtime.NumCPU())
	set(&w.Grace, 30*time.Second)
	set(&w.MaxBehind, 2*time.Second)
	set(&w.LeaseTTL, 1200*time.Millisecond)
	set(&w.Encoder.Path, "ffmpeg")
	set(&w.Encoder.Preset, "veryfast")
	set(&w.Encoder.Nice, 5)
	set(&w.Encoder.MaxMemoryBytes, 4<<30)
	set(&w.leaseRole, Role)
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	w.seen, w.left, w.loads = map[schemas.StreamKey]time.Time{}, map[string]time.Time{}, map[schemas.StreamKey]int64{}
	var err error
	w.m, err = newMetrics(w.Registerer)
	return err
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run works until ctx ends and then returns nil. Without ffmpeg it returns [ErrNoEncoder].
func (w *Worker) Run(ctx context.Context) error {
	if err := w.defaults(); err != nil {
		return err
	}
	if _, err := exec.LookPath(w.Encoder.Path); err != nil {
		return fmt.Errorf("%w (%w)", ErrNoEncoder, err)
	}
	octx, cancel := context.WithTimeout(ctx, 10*time.Second)
	var err error
	w.bus, err = openBus(octx, w.JetStream)
	cancel()
	if err != nil {
		return fmt.Errorf("transcode: %w", err)
	}
	w.apps = mirror.New(schemas.BucketApps, schemas.ParseAppSettings, w.Logger)
	w.watched = demand.Listen(w.JetStream.Conn(), nil)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.apps.Run(gctx, w.JetStream) })
	g.Go(func() error { return w.watched.Run(gctx) })
	g.Go(func() error {
		select {
		case <-w.apps.Ready():
		case <-gctx.Done():
			return nil
		}
		return lease.Pool{
			KV: w.bus.leases, Role: w.leaseRole, NamesNow: w.names, Work: w.work, TTL: w.LeaseTTL,
			Capacity: w.MaxStreams, Max: w.MaxStreams, Fits: w.fits, Logger: w.Logger, Conn: w.JetStream.Conn(),
		}.Run(gctx)
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("transcode: %w", err)
	}
	return nil
}

// prefix keeps streams' leases apart from the pool's own keys.
const prefix = "stream."

// names gives the streams to be worked on: watched, or just now, and with a ladder.
func (w *Worker) names() []string {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.watched.All(now) {
		w.seen[k] = now
	}
	var out []string
	for k, at := range w.seen {
		switch {
		case now.Sub(at) > w.Grace:
			delete(w.seen, k)
		case len(w.ladder(k)) > 0:
			out = append(out, prefix+k.KVKey())
		}
	}
	return out
}

func (w *Worker) ladder(k schemas.StreamKey) []schemas.Rung {
	return schemas.SettingsOf(k, w.apps.Get).Ladder
}

// rungs gives what is made of a source now.
func (w *Worker) rungs(k schemas.StreamKey, source *schemas.TrackInfo) []rung {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(rungsOf(w.ladder(k), source), func(r rung) bool {
		return now.Before(w.left[k.KVKey()+"."+r.name])
	})
}

// leaveOut makes nothing of a rung for a while.
func (w *Worker) leaveOut(k schemas.StreamKey, rung string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for key, until := range w.left {
		if now.After(until) {
			delete(w.left, key)
		}
	}
	w.left[k.KVKey()+"."+rung] = now.Add(leftOutFor)
}

// leftOutFor is how long a rung that was too much is not tried again.
const leftOutFor = time.Minute

// fits tells whether a stream's pictures can be made beside those of the streams held.
func (w *Worker) fits(ctx context.Context, name string, held []string) bool {
	if w.MaxPixelsPerSec <= 0 || len(held) == 0 {
		return true
	}
	k, err := schemas.ParseKVKey(strings.TrimPrefix(name, prefix))
	if err != nil {
		return false
	}
	_, track, err := w.bus.source(ctx, k)
	if err != nil {
		return true // it takes nothing while it is not live
	}
	sum := pixelRate(rungsOf(w.ladder(k), track), track)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.loads {
		sum += n
	}
	return sum <= w.MaxPixelsPerSec
}

// work makes a stream's renditions while its lease is held.
func (w *Worker) work(ctx context.Context, name string) error {
	k, err := schemas.ParseKVKey(strings.TrimPrefix(name, prefix))
	if err != nil {
		return err
	}
	w.m.streams.Inc()
	defer w.m.streams.Dec()
	j := &job{w: w, key: k, log: w.Logger.With("app", k.App, "stream", k.Stream), made: map[string]schemas.RenditionState{}}
	j.run(ctx)
	w.mu.Lock()
	delete(w.loads, k)
	w.mu.Unlock()
	if !slices.Contains(w.names(), name) { // otherwise another worker goes on
		j.retire(nil)
	}
	return nil
}

// job is the work on one stream: one session after the other.
type job struct {
	w    *Worker
	key  schemas.StreamKey
	log  *slog.Logger
	made map[string]schemas.RenditionState // what this job has made and not retired, by rung
}

// Pauses between sessions.
const (
	idlePause = 250 * time.Millisecond
	lostPause = time.Second // the other worker is given time to go on, or to be gone
	minPause  = 250 * time.Millisecond
	maxPause  = 30 * time.Second
	// calmAfter: an encoder that ran for so long has not failed before.
	calmAfter = time.Minute
)

func (j *job) run(ctx context.Context) {
	pause := minPause
	for ctx.Err() == nil {
		began := time.Now()
		err := j.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > calmAfter {
			pause = minPause
		}
		wait := idlePause
		var end *endedError
		switch {
		case errors.Is(err, errIdle):
			j.retire(nil)
		case errors.As(err, &end):
			j.log.Info("encoder ends", "reason", end.reason)
			j.retire(nil)
		case errors.Is(err, errEpoch), errors.Is(err, errChanged):
			j.log.Info("encoder is started anew", "reason", err)
			wait = 0
		case errors.Is(err, errLost):
			j.w.m.lost.Inc()
			j.log.Info("encoder stands by", "reason", err)
			clear(j.made) // they are the other's
			wait = lostPause
		case errors.Is(err, errBehind): // what to leave out has been decided
			j.w.m.failures.WithLabelValues("behind").Inc()
			wait = 0
		default:
			j.w.m.failures.WithLabelValues("failed").Inc()
			j.log.Warn("encoder failed: starting it again", "in", pause, "err", err)
			j.tell(schemas.EventTranscodeFailed, err.Error(), nil)
			wait, pause = pause, min(2*pause, maxPause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// session runs one encoder until it ends.
func (j *job) session(ctx context.Context) error {
	state, track, err := j.w.bus.source(ctx, j.key)
	if err != nil {
		return err
	}
	rungs := j.w.rungs(j.key, track)
	keep := map[string]bool{}
	for _, r := range rungs {
		keep[r.name] = true
	}
	j.retire(keep)
	if len(rungs) == 0 {
		return errIdle
	}
	j.w.mu.Lock()
	j.w.loads[j.key] = pixelRate(rungs, track)
	j.w.mu.Unlock()
	s := &session{w: j.w, key: j.key, log: j.log, source: track, epoch: &state.Epoch, rungs: rungs, kicked: make(chan struct{}, 1), began: time.Now(), was: maps.Clone(j.made)}
	err = s.run(ctx)
	for _, o := range s.outs {
		if st, ok := o.said(); ok {
			j.made[o.rung.name] = st
		}
	}
	if errors.Is(err, errBehind) {
		top := rungs[0].name
		j.log.Warn("encoder falls behind: its highest rung is left out", "rung", top, "for", leftOutFor, "err", err)
		j.w.leaveOut(j.key, top)
		j.tell(schemas.EventTranscodeBehind, err.Error(), map[string]string{"rendition": top})
	}
	return err
}

// retire says that nothing more is made of what was made, but for what is in keep.
func (j *job) retire(keep map[string]bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for name, st := range j.made {
		if keep[name] {
			continue
		}
		delete(j.made, name)
		st.Live = false
		if err := j.w.putState(ctx, &st); err != nil {
			j.log.Debug("end of a rendition not written", "rendition", name, "err", err) // it goes stale in 5 s
		}
	}
}

func (j *job) tell(kind schemas.EventKind, why string, detail map[string]string) {
	if len(why) > 512 {
		why = why[:512]
	}
	now := time.Now()
	j.w.bus.event(context.Background(), &schemas.Event{
		ID: fmt.Sprintf("%s/%s/%d", kind, j.key, now.UnixNano()), TimeUs: now.UnixMicro(), Kind: kind,
		App: j.key.App, Stream: j.key.Stream, Reason: why, Detail: detail,
	})
}

// putState writes a rendition's state.
func (w *Worker) putState(ctx context.Context, s *schemas.RenditionState) error {
	s.UpdatedUnixUs = time.Now().UnixMicro()
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode rendition state: %w", err)
	}
	_, err = w.bus.renditions.Put(ctx, s.App+"."+s.Stream+"."+s.Rendition, data)
	return err
}
