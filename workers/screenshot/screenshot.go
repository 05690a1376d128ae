// Package screenshot makes pictures of live streams: at an interval of each
// stream's time, the first key frame becomes a JPEG on pictures.<app>.<stream>.
//
// It promises at most one picture for each stream and interval however many
// workers run: the interval is counted on the chunk's own clock, and its number
// is the picture's message id. When the distance of a stream's key frames changes,
// so do its intervals; two pictures are half an interval apart then, too. Of three pictures in a row the last comes within
// two intervals of the first, or at the second key frame after it where key
// frames are further apart ([look.Pace]). Only chunks with a key frame are read
// in full.
//
// It remembers, for each stream, when it was pictured last; the memory is a
// saving only and is found again on the bus after a restart. It leaves out
// keeping pictures, which is the stream PICTURES and a keeper, and showing them.
package screenshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/screenshot/look"
)

// Role is the worker's role, durable consumer and dead-letter name.
const Role = "screenshot"

// Settings of the worker.
type Settings struct {
	// Interval between pictures of a stream; default 5 s.
	Interval time.Duration
	// Width of the pictures, pixels; default 320. The height keeps the shape.
	Width int
	// Of gives what a stream's settings say of pictures; nil: nothing.
	Of func(schemas.StreamKey) *schemas.PictureSettings
	// KeyFrames gives the time between a stream's key frames; nil, or 0: not known.
	KeyFrames func(schemas.StreamKey) time.Duration
	// Decoder makes the pictures; default a [Pool] with ffmpeg from PATH. [Run] closes it at its end.
	Decoder Decoder
	// AtOnce is how many pictures are made at a time; default 2.
	AtOnce int
	Logger *slog.Logger
	// Registerer counts; nil counts nothing.
	Registerer prometheus.Registerer
}

// batch is how many headers are looked at together: most have no picture due.
const batch = 64

// concurrency is how many batches are worked on at a time: a key frame that hangs
// its decoder holds up its own batch only.
const concurrency = 3

// Run makes pictures until ctx ends, as the settings of each application and
// stream say.
func Run(ctx context.Context, js jetstream.JetStream, s Settings) error {
	b, err := openBus(ctx, js)
	if err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	if s.Decoder == nil {
		s.Decoder = &Pool{}
	}
	if c, ok := s.Decoder.(interface{ Close() }); ok {
		defer c.Close()
	}
	apps := mirror.New(schemas.BucketApps, schemas.ParseAppSettings, s.Logger)
	streams := mirror.New(schemas.BucketStreams, schemas.ParseStreamState, s.Logger)
	following, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = apps.Run(following, js) }) // nil once ctx ends
	wg.Go(func() { _ = streams.Run(following, js) })
	select {
	case <-apps.Ready():
	case <-ctx.Done():
		return nil
	}
	s.Of = func(k schemas.StreamKey) *schemas.PictureSettings { return schemas.SettingsOf(k, apps.Get).Pictures }
	s.KeyFrames = func(k schemas.StreamKey) time.Duration {
		if st, ok := streams.Get(k.KVKey()); ok {
			return time.Duration(st.Stats.KeyframeMs) * time.Millisecond
		}
		return 0
	}
	h, err := New(b, s)
	if err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	return (&workers.Runner{
		JetStream: js, Handler: h, Role: Role, Stream: schemas.StreamMedia, FilterSubjects: []string{"media.>"},
		HeadersOnly: true, BatchSize: batch, BatchWait: 20 * time.Millisecond, AckWait: time.Second, MaxAckPending: 16 * batch, Concurrency: concurrency,
		Logger: s.Logger, Registerer: s.Registerer,
	}).Run(ctx)
}

// Source is what the handler reads beyond its messages.
type Source interface {
	// Chunk gives the MEDIA message at a sequence; [ErrGone] if it is no longer kept.
	Chunk(ctx context.Context, seq uint64) (workers.Message, error)
	// Init gives an init segment; [ErrGone] if there is none.
	Init(ctx context.Context, id string) ([]byte, error)
	// Last gives what is said of a stream's last picture; nil without one.
	Last(ctx context.Context, key schemas.StreamKey) (*schemas.Picture, error)
}

// ErrGone: what was asked for is not on the bus any more.
var ErrGone = errors.New("no longer on the bus")

// Handler makes pictures. Use [New].
type Handler struct {
	src Source
	s   Settings
	m   *metrics

	mu      sync.Mutex
	new     map[schemas.StreamKey]done
	old     map[schemas.StreamKey]done
	refused bool // said that there is no decoder
	hostile map[schemas.StreamKey]losses
}

// done is the key frame of which a stream was pictured last.
type done struct {
	wallUs int64
	chunk  string
	every  time.Duration // the interval it was counted in
}

// rememberedIDs is a time for which the stream PICTURES certainly knows a message id again.
const rememberedIDs = 20 * time.Second

// maxStreams bounds the memory of each of two generations.
const maxStreams = 4096

// New gives the handler.
func New(src Source, s Settings) (*Handler, error) {
	def(&s.Interval, 5*time.Second)
	def(&s.Width, 320)
	def(&s.AtOnce, 2)
	if s.Of == nil {
		s.Of = func(schemas.StreamKey) *schemas.PictureSettings { return nil }
	}
	if s.KeyFrames == nil {
		s.KeyFrames = func(schemas.StreamKey) time.Duration { return 0 }
	}
	if s.Decoder == nil {
		s.Decoder = &Pool{}
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(s.Registerer)
	return &Handler{src: src, s: s, m: m, new: map[schemas.StreamKey]done{}, hostile: map[schemas.StreamKey]losses{}}, err
}

// due is a message that a picture is to be made of.
type due struct {
	m        workers.Message
	key      schemas.StreamKey
	interval int64 // its number, by which other workers' pictures of it are recognised
	wallUs   int64
	chunk    string
	width    int
	every    time.Duration
	apart    time.Duration // the time between two pictures, which may be key frames that are further apart
}

// grid is the number of the interval that a time is in.
func (d *due) grid(wallUs int64) int64 { return wallUs / d.every.Microseconds() }

// near reports whether the picture of another key frame makes this one superfluous: in
// the same interval, or less than half an interval away. The second matters when the
// distance of key frames has changed, as each second by a millisecond that was rounded:
// intervals are counted from 1970, so that the slightest change of their length moves
// them anywhere. With one length, pictures are never so near to each other.
func (d *due) near(wallUs int64) bool {
	away := d.wallUs - wallUs
	return away != 0 && (max(away, -away) < d.every.Microseconds()/2 || d.grid(wallUs) == d.interval)
}

// Handle makes the picture of each message that has one due.
func (h *Handler) Handle(ctx context.Context, batch []workers.Message) ([]workers.Output, error) {
	work, err := h.choose(ctx, batch)
	if err != nil || len(work) == 0 {
		return nil, err
	}
	outs, errs := make([][]workers.Output, len(work)), make([]error, len(work))
	slots := make(chan struct{}, h.s.AtOnce)
	var wg sync.WaitGroup
	for i := range work {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			outs[i], errs[i] = h.picture(ctx, &work[i])
		})
	}
	wg.Wait()
	var all []workers.Output
	for i := range work {
		if errs[i] != nil {
			return nil, errs[i]
		}
		all = append(all, outs[i]...)
	}
	for i := range work {
		h.remember(work[i].key, done{work[i].wallUs, work[i].chunk, work[i].every})
	}
	return all, nil
}

// choose finds the messages that have a picture due, of each stream and interval the first.
func (h *Handler) choose(ctx context.Context, batch []workers.Message) ([]due, error) {
	var work []due
	for _, m := range batch {
		c, i, err := keyFragment(m)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			continue
		}
		d := due{m: m, key: c.Key(), chunk: c.ContentID(), wallUs: c.Fragments[i].WallUnixUs}
		taken := func(w due) bool { return w.key == d.key && d.near(w.wallUs) }
		if h.due(ctx, &d) && !slices.ContainsFunc(work, taken) {
			work = append(work, d)
		}
	}
	return work, nil
}

// keyFragment reads a message's header and finds its key frame; -1 without one.
func keyFragment(m workers.Message) (*schemas.Chunk, int, error) {
	switch kind := m.Header.Get(schemas.HeaderKind); kind {
	case schemas.KindChunk:
	case schemas.KindEpoch, schemas.KindEnd:
		return nil, -1, nil
	default:
		return nil, -1, workers.Reject(fmt.Errorf("%s is %.40q: chunk, epoch and end are known", schemas.HeaderKind, kind))
	}
	// The data is not here; what the header says is verified before it is used.
	c, err := schemas.PeekChunk([]byte(m.Header.Get(schemas.HeaderChunk)))
	if err != nil {
		return nil, -1, workers.Reject(err)
	}
	if c.Rendition != schemas.SourceRendition {
		return nil, -1, nil // the source is enough
	}
	return c, keyOf(c), nil
}

// keyOf gives the index of the first video fragment that starts with a key frame, or -1.
func keyOf(c *schemas.Chunk) int {
	for i := range c.Fragments {
		if c.Fragments[i].Track == schemas.Video && c.Fragments[i].Independent {
			return i
		}
	}
	return -1
}

// due decides by the chunk's clock alone which interval it is in, and skips
// intervals already pictured. The same chunk gets the same answer again, since
// its first picture may not have been published.
func (h *Handler) due(ctx context.Context, d *due) bool {
	d.every, d.width = h.s.Interval, h.s.Width
	if p := h.s.Of(d.key); p != nil {
		if p.Off {
			return false
		}
		if p.IntervalMs > 0 {
			d.every = time.Duration(p.IntervalMs) * time.Millisecond
		}
		if p.Width > 0 {
			d.width = p.Width
		}
	}
	if d.every < time.Millisecond || d.wallUs <= 0 || h.left(d.key, time.Now()) {
		return false
	}
	keys := h.s.KeyFrames(d.key)
	d.apart = max(d.every, keys)
	d.every = look.Pace(d.every, keys)
	d.interval = d.grid(d.wallUs)
	h.mu.Lock()
	last, known := h.new[d.key]
	if !known {
		last, known = h.old[d.key]
	}
	h.mu.Unlock()
	switch {
	case known && d.chunk == last.chunk:
		return true
	case known && (d.interval <= d.grid(last.wallUs) || d.near(last.wallUs)):
		return false
	case known && d.every == last.every && d.every < rememberedIDs:
		return true // the picture of another worker, if any, is recognised by its id
	}
	// After a restart, and of what another worker did longer ago than ids are
	// remembered or in other intervals, the bus knows. If it does not answer, it is
	// asked again once the picture is made.
	p, err := h.src.Last(ctx, d.key)
	return err != nil || p == nil || p.WallUnixUs == d.wallUs || d.grid(p.WallUnixUs) < d.interval && !d.near(p.WallUnixUs)
}

func (h *Handler) remember(k schemas.StreamKey, d done) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.new[k]; ok && last.wallUs > d.wallUs {
		return
	}
	if len(h.new) >= maxStreams {
		h.old, h.new = h.new, map[schemas.StreamKey]done{}
	}
	h.new[k] = d
}
