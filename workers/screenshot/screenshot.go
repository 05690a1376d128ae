// Package screenshot makes pictures of live streams: at an interval of each
// stream's time, the first key frame becomes a JPEG on pictures.<app>.<stream>.
//
// It promises at most one picture for each stream and interval however many
// workers run: the interval is counted on the chunk's own clock, and its number
// is the picture's message id. Only chunks with a key frame are read in full.
//
// It remembers, for each stream, the interval it pictured last; the memory is a
// saving only and is found again on the bus after a restart. It leaves out
// keeping pictures, which is the stream PICTURES, and showing them.
package screenshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
)

// Role is the worker's role, durable consumer and dead-letter name.
const Role = "screenshot"

// Settings of the worker.
type Settings struct {
	// Interval between pictures of a stream; default 5 s.
	Interval time.Duration
	// IntervalOf gives a stream's own interval; 0 means Interval, below 0 no pictures. Optional.
	IntervalOf func(schemas.StreamKey) time.Duration
	// Width of the pictures, pixels; default 320. The height keeps the shape.
	Width int
	// Decoder makes the pictures; default [FFmpeg] from PATH.
	Decoder Decoder
	Logger  *slog.Logger
}

// Runner gives the worker's runner.
func Runner(ctx context.Context, js jetstream.JetStream, s Settings, reg prometheus.Registerer) (*workers.Runner, error) {
	b, err := openBus(ctx, js)
	if err != nil {
		return nil, fmt.Errorf("screenshot: %w", err)
	}
	return &workers.Runner{
		JetStream: js, Handler: New(b, s), Role: Role, Stream: schemas.StreamMedia, FilterSubjects: []string{"media.>"},
		HeadersOnly: true, Concurrency: 2, Logger: s.Logger, Registerer: reg,
	}, nil
}

// Source is what the handler reads beyond its messages.
type Source interface {
	// Chunk gives the MEDIA message at a sequence; [ErrGone] if it is no longer kept.
	Chunk(ctx context.Context, seq uint64) (workers.Message, error)
	// Init gives an init segment; [ErrGone] if there is none.
	Init(ctx context.Context, id string) ([]byte, error)
	// LastPicture gives the wall-clock, Unix microseconds, of a stream's last picture; 0 without one.
	LastPicture(ctx context.Context, key schemas.StreamKey) (int64, error)
}

// ErrGone: what was asked for is not on the bus any more.
var ErrGone = errors.New("no longer on the bus")

// Handler makes pictures. Use [New].
type Handler struct {
	src Source
	s   Settings

	mu      sync.Mutex
	new     map[schemas.StreamKey]done
	old     map[schemas.StreamKey]done
	refused bool // said that there is no decoder
}

// done is the last interval a stream was pictured in, and by which chunk.
type done struct {
	interval int64
	chunk    string
}

// maxStreams bounds the memory of each of two generations.
const maxStreams = 4096

// New gives the handler.
func New(src Source, s Settings) *Handler {
	if s.Interval == 0 {
		s.Interval = 5 * time.Second
	}
	if s.Width == 0 {
		s.Width = 320
	}
	if s.Decoder == nil {
		s.Decoder = &FFmpeg{}
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{src: src, s: s, new: map[schemas.StreamKey]done{}}
}

// Handle makes the picture of each message that has one due.
func (h *Handler) Handle(ctx context.Context, batch []workers.Message) ([]workers.Output, error) {
	return workers.Each(h.one).Handle(ctx, batch)
}

func (h *Handler) one(ctx context.Context, m workers.Message) ([]workers.Output, error) {
	switch kind := m.Header.Get(schemas.HeaderKind); kind {
	case schemas.KindChunk:
	case schemas.KindEpoch, schemas.KindEnd:
		return nil, nil
	default:
		return nil, workers.Reject(fmt.Errorf("%s is %.40q: chunk, epoch and end are known", schemas.HeaderKind, kind))
	}
	// The data is not here; what the header says is verified before it is used.
	var c schemas.Chunk
	header := m.Header.Get(schemas.HeaderChunk)
	if len(header) > schemas.MaxHeaderBytes {
		return nil, workers.Reject(fmt.Errorf("chunk header has %d bytes: at most %d are allowed", len(header), schemas.MaxHeaderBytes))
	}
	if err := json.Unmarshal([]byte(header), &c); err != nil {
		return nil, workers.Reject(fmt.Errorf("decode chunk header: %w", err))
	}
	if c.Version != schemas.ChunkVersion {
		return nil, workers.Reject(fmt.Errorf("chunk header has version %d: this program reads version %d", c.Version, schemas.ChunkVersion))
	}
	if c.Rendition != schemas.SourceRendition {
		return nil, nil // the source is enough
	}
	i := keyFrame(&c)
	if i < 0 {
		return nil, nil
	}
	interval, ok := h.due(ctx, &c, c.Fragments[i].WallUnixUs)
	if !ok {
		return nil, nil
	}
	out, err := h.picture(ctx, m, interval)
	if err != nil {
		return nil, err
	}
	h.remember(c.Key(), done{interval, c.ContentID()})
	return out, nil
}

// keyFrame gives the index of the first video fragment that starts with a key frame, or -1.
func keyFrame(c *schemas.Chunk) int {
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
func (h *Handler) due(ctx context.Context, c *schemas.Chunk, wallUs int64) (int64, bool) {
	every := h.s.Interval
	if h.s.IntervalOf != nil {
		if d := h.s.IntervalOf(c.Key()); d != 0 {
			every = d
		}
	}
	if every < time.Millisecond || wallUs <= 0 {
		return 0, false
	}
	interval := wallUs / every.Microseconds()
	h.mu.Lock()
	last, known := h.new[c.Key()]
	if !known {
		last, known = h.old[c.Key()]
	}
	h.mu.Unlock()
	if known {
		return interval, interval > last.interval || interval == last.interval && c.ContentID() == last.chunk
	}
	// After a restart the bus knows. If it does not answer, a picture too many is
	// recognised by its id.
	if wall, err := h.src.LastPicture(ctx, c.Key()); err == nil && wall > 0 && wall != wallUs && wall/every.Microseconds() >= interval {
		return interval, false
	}
	return interval, true
}

func (h *Handler) remember(k schemas.StreamKey, d done) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.new[k]; ok && last.interval > d.interval {
		return
	}
	if len(h.new) >= maxStreams {
		h.old, h.new = h.new, map[schemas.StreamKey]done{}
	}
	h.new[k] = d
}

// picture makes the picture of a chunk's key frame. What cannot be pictured is
// told in an event; a stream must not stop for it.
func (h *Handler) picture(ctx context.Context, m workers.Message, interval int64) ([]workers.Output, error) {
	full := m
	if len(m.Data) == 0 {
		var err error
		if full, err = h.src.Chunk(ctx, m.Seq); errors.Is(err, ErrGone) {
			return nil, nil // too late
		} else if err != nil {
			return nil, fmt.Errorf("read chunk: %w", err)
		}
	}
	c, err := schemas.DecodeChunk([]byte(full.Header.Get(schemas.HeaderChunk)), full.Data)
	if err != nil {
		return nil, workers.Reject(err)
	}
	if want := schemas.MediaSubject(c.Key(), c.Rendition); full.Subject != want {
		return nil, workers.Reject(fmt.Errorf("chunk %s came on subject %s: its subject is %s", c.ContentID(), full.Subject, want))
	}
	i := keyFrame(c)
	if i < 0 {
		return nil, workers.Reject(fmt.Errorf("chunk %s has another header than was announced", c.ContentID()))
	}
	f := &c.Fragments[i]
	init, err := h.src.Init(ctx, f.InitID)
	if errors.Is(err, ErrGone) && m.Attempt > 3 {
		return h.failed(c, f, interval, "its init segment "+f.InitID+" is not on the bus"), nil
	} else if err != nil {
		return nil, fmt.Errorf("read init segment %s: %w", f.InitID, err)
	}
	pic, err := h.s.Decoder.Decode(ctx, init, full.Data[f.Offset:f.Offset+f.Size], h.s.Width)
	switch {
	case errors.Is(err, ErrNoDecoder):
		return h.noDecoder(c, f, err), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("decode key frame: %w", ctx.Err())
	case err != nil:
		h.s.Logger.Warn("no picture", "chunk", c.ContentID(), "err", err)
		return h.failed(c, f, interval, err.Error()), nil
	}
	head, err := json.Marshal(schemas.Picture{
		Version: schemas.ChunkVersion, App: c.App, Stream: c.Stream, WallUnixUs: f.WallUnixUs,
		ContentID: c.ContentID(), Width: pic.Width, Height: pic.Height,
	})
	if err != nil {
		return nil, fmt.Errorf("encode picture header: %w", err)
	}
	return []workers.Output{{
		Subject: schemas.PictureSubject(c.Key()), Data: pic.JPEG,
		Header: nats.Header{schemas.HeaderPicture: {string(head)}},
		MsgID:  "pic/" + c.Key().String() + "/" + strconv.FormatInt(interval, 10),
	}}, nil
}

func (h *Handler) failed(c *schemas.Chunk, f *schemas.Fragment, interval int64, why string) []workers.Output {
	return event(c, f, "picture_failed/"+c.Key().String()+"/"+strconv.FormatInt(interval, 10), why)
}

// noDecoder says once that pictures cannot be made on this machine.
func (h *Handler) noDecoder(c *schemas.Chunk, f *schemas.Fragment, err error) []workers.Output {
	h.mu.Lock()
	said := h.refused
	h.refused = true
	h.mu.Unlock()
	if said {
		return nil
	}
	h.s.Logger.Error("no pictures will be made by this worker", "err", err)
	return event(c, f, "picture_failed/decoder/"+strconv.FormatInt(f.WallUnixUs/3_600_000_000, 10), err.Error())
}

func event(c *schemas.Chunk, f *schemas.Fragment, id, why string) []workers.Output {
	if len(why) > 512 {
		why = why[:512]
	}
	e := schemas.Event{
		ID: id, TimeUs: f.WallUnixUs, Kind: schemas.EventPictureFailed, App: c.App, Stream: c.Stream, CDN: c.CDN,
		Reason: why, Detail: map[string]string{"chunk": c.ContentID()},
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return nil // a chunk with an impossible time
	}
	return []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}
}
