package origin

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// feed reads one watched stream from the bus and keeps its tracks.
type feed struct {
	o   *Origin
	key schemas.StreamKey

	lastUse atomic.Int64 // Unix ns of the last request
	users   atomic.Int64 // requests in progress
	ready   chan struct{}
	started time.Time
	cancel  context.CancelFunc
	err     error // why it could not start; read after ready

	mu       sync.Mutex
	tracks   map[trackName]*track
	added    chan struct{} // closed when a track appears
	targets  map[trackName]int64
	overdue  []*due // chunks seen on MEDIA whose parts have not all come, oldest first
	live     bool   // history has been read
	covering bool   // a goroutine packages what is late
	marks    int    // epoch and end messages being fetched
}

type trackName struct {
	rendition string
	kind      schemas.Track
}

// due is a chunk some of whose parts have not been seen.
type due struct {
	seq      uint64 // in MEDIA
	name     string // content id
	epoch    uint32
	frags    []schemas.Fragment
	rend     string
	at       time.Time // when to package it here
	attempts int
	old      bool // found when history was read
}

// maxTracks bounds the playlists of one stream; maxOverdue the chunks waited for.
const (
	maxTracks  = 32
	maxOverdue = 2048
)

// errUnknown: nothing of the stream is on the bus and nobody publishes it.
var errUnknown = errors.New("no such stream")

// errFull: too many streams are watched at once.
var errFull = errors.New("too many streams are watched at this origin")

func (f *feed) run(ctx context.Context) {
	parts, media, err := f.open(ctx)
	if err != nil {
		f.err = err
		close(f.ready)
		return
	}
	defer parts.Stop()
	defer media.Stop()
	t := time.NewTicker(startTick)
	defer t.Stop()
	for ready := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if f.tick(ctx, time.Now()) && !ready {
			ready = true
			close(f.ready)
			t.Reset(liveTick)
		}
	}
}

// How often a feed looks for what is late: at the start a request waits for it.
const (
	startTick = 5 * time.Millisecond
	liveTick  = 50 * time.Millisecond
)

// readTargets learns each track's part target, which is not in the parts.
func (f *feed) readTargets(ctx context.Context, state *schemas.StreamState) {
	if state != nil {
		for _, t := range state.Epoch.Tracks {
			f.targets[trackName{orSource(state.Epoch.Rendition), t.Track}] = t.PartTargetUs
		}
	}
	if pos, err := f.o.position(ctx, f.key); err == nil {
		for t, us := range pos.PartTargetUs {
			if name := (trackName{schemas.SourceRendition, t}); f.targets[name] == 0 {
				f.targets[name] = us
			}
		}
	}
}

func orSource(rendition string) string {
	if rendition == "" {
		return schemas.SourceRendition
	}
	return rendition
}

// track gives a track, made when missing; nil if there are too many. The lock is held.
func (f *feed) track(name trackName) *track {
	if t := f.tracks[name]; t != nil {
		return t
	}
	if len(f.tracks) >= maxTracks {
		return nil
	}
	target := f.targets[name]
	if target <= 0 || target > 10_000_000 {
		target = schemas.DefaultPartTargetUs
	}
	t := newTrack(name.rendition, name.kind, f.o.window, target)
	f.tracks[name] = t
	close(f.added)
	f.added = make(chan struct{})
	return t
}

// part takes one PARTS message.
func (f *feed) part(m jetstream.Msg) {
	p, err := schemas.DecodePart([]byte(m.Headers().Get(schemas.HeaderPart)), m.Data())
	if err != nil {
		f.o.m.corrupt.Inc()
		f.o.Logger.Warn("part passed over", "subject", m.Subject(), "err", err)
		return
	}
	if p.Subject() != m.Subject() {
		f.o.m.corrupt.Inc()
		return
	}
	f.o.m.received.Inc()
	f.offer(p, m.Data(), false)
}

func (f *feed) offer(p *schemas.Part, data []byte, gap bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.track(trackName{p.Rendition, p.Track})
	if t == nil {
		return
	}
	now := time.Now()
	f.moved(t, func() {
		t.offer(&piece{id: partID{p.Epoch, p.MSN, int(p.Part)}, h: *p, data: data, gap: gap}, now)
	})
	if f.live && p.ReceivedUnixUs > 0 && t.last == (partID{p.Epoch, p.MSN, int(p.Part)}) {
		f.o.m.delay.Observe(max(0, now.Sub(time.UnixMicro(p.ReceivedUnixUs)).Seconds()))
	}
}

// moved runs f and, if it moved t on, notes where the other tracks stand at
// that moment: what a playlist says of the others then depends on the order of
// the bus alone. The lock is held.
func (f *feed) moved(t *track, do func()) {
	before := t.last
	wasClosed := t.closed
	reports := make([]hls.Report, 0, len(f.tracks))
	for name, other := range f.tracks {
		if other != t && other.begun {
			reports = append(reports, hls.Report{
				URI:     hls.ReportURI(t.rendition, name.rendition, name.kind),
				LastMSN: other.last.msn, LastPart: other.last.part,
			})
		}
	}
	sortReports(reports)
	do()
	if t.last != before || t.closed != wasClosed {
		t.reports = reports
	}
}

// chunk takes one MEDIA message, header only.
func (f *feed) chunk(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		return
	}
	key, rendition, err := schemas.ParseMediaSubject(m.Subject())
	if err != nil || key != f.key {
		return
	}
	now := time.Now()
	switch m.Headers().Get(schemas.HeaderKind) {
	case schemas.KindChunk:
		// The checksum covers the payload, which is not here. What the header says
		// is only a hint of what to wait for; nothing is served on its word.
		var c schemas.Chunk
		if err := json.Unmarshal([]byte(m.Headers().Get(schemas.HeaderChunk)), &c); err != nil || c.Version != schemas.ChunkVersion ||
			c.Key() != key || c.Rendition != rendition || len(c.Fragments) > schemas.MaxFragments {
			return
		}
		f.expect(&c, md, now)
	case schemas.KindEpoch, schemas.KindEnd:
		// Their payload is small, but this consumer has headers only.
		f.mu.Lock()
		f.marks++
		f.mu.Unlock()
		f.o.fetches.Go(func() { f.mark(md.Sequence.Stream, rendition) })
	}
}

func (f *feed) expect(c *schemas.Chunk, md *jetstream.MsgMetadata, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	missing := false
	for i := range c.Fragments {
		fr := &c.Fragments[i]
		if fr.Track.Check() != nil {
			continue
		}
		t := f.track(trackName{c.Rendition, fr.Track})
		if t == nil {
			continue
		}
		if t.expect(partID{c.Epoch, fr.MSN, int(fr.Part)}, fr.SegmentStart, c.ContentID()) {
			missing = true
		}
		if len(t.pending) > 0 {
			f.moved(t, func() { t.advance(now) })
		}
	}
	if missing && len(f.overdue) < maxOverdue {
		d := &due{seq: md.Sequence.Stream, name: c.ContentID(), epoch: c.Epoch, frags: c.Fragments, rend: c.Rendition, at: now.Add(f.o.CoverAfter)}
		if !f.live {
			// History lacks it: made here at once, and nothing is answered before.
			d.at, d.old = md.Timestamp.Add(f.o.CoverAfter), true
		}
		f.overdue = append(f.overdue, d)
	}
}

// epochMark is what epoch and end messages have in common.
type epochMark struct {
	Epoch uint32 `json:"epoch"`
}

func (f *feed) mark(seq uint64, rendition string) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.marks--
	}()
	ctx, cancel := context.WithTimeout(f.o.work, 5*time.Second)
	defer cancel()
	m, err := f.o.media.GetMsg(ctx, seq)
	if err != nil {
		return // the next chunk says it too, and impatience does the rest
	}
	var e epochMark
	if json.Unmarshal(m.Data, &e) != nil || e.Epoch == 0 {
		return
	}
	end := m.Header.Get(schemas.HeaderKind) == schemas.KindEnd
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, t := range f.tracks {
		if name.rendition != rendition {
			continue
		}
		f.moved(t, func() {
			if end {
				t.sawEnd(e.Epoch, time.Now())
			} else {
				t.sawEpoch(e.Epoch, time.Now())
			}
		})
	}
}
