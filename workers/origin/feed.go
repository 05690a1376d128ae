package origin

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/packager"
)

// feed follows one watched stream on the bus and keeps its tracks.
type feed struct {
	o   *Origin
	key schemas.StreamKey

	lastUse atomic.Int64 // Unix ns of the last request
	users   atomic.Int64 // requests in progress
	ready   chan struct{}
	cancel  context.CancelFunc
	err     error // why it could not start; read after ready

	reading sync.Mutex // held while messages are taken, which happens in the order of the bus
	at      map[string]place
	heard   atomic.Int64 // Unix ns of the last message, or of the last look for one
	subs    []*nats.Subscription
	dropped uint64 // messages the client library has dropped, counted so far

	mu      sync.Mutex
	tracks  map[trackName]*track
	added   chan struct{} // closed when a track appears
	targets map[trackName]int64
	overdue []*due       // chunks that wait for their parts, oldest first
	past    bool         // what the bus held at the start has been read
	locked  []lockedPart // parts that are to be encrypted and have no key yet, in the order of the bus
}

type trackName struct {
	rendition string
	kind      schemas.Track
}

// place is the last message taken from a subject of MEDIA.
type place struct {
	seq uint64
	at  time.Time
}

// due is a chunk whose parts a packager is to send.
type due struct {
	c    *schemas.Chunk
	data []byte
	at   time.Time // when it is packaged here instead
	kept time.Time // when the bus stored it
}

// maxTracks bounds the playlists of one stream; maxOverdue the chunks waited for.
const (
	maxTracks  = 32
	maxOverdue = 256
)

// What may wait between the bus and a feed; what is beyond is dropped and read
// from MEDIA when the feed gets there.
const (
	maxWaitingMessages = 4096
	maxWaitingBytes    = 64 << 20
)

// errUnknown: nothing of the stream is on the bus and nobody publishes it.
var errUnknown = errors.New("no such stream")

// errFull: too many streams are watched at once.
var errFull = errors.New("too many streams are watched at this origin")

func (f *feed) run(ctx context.Context) {
	f.err = f.open(ctx)
	defer func() {
		for _, s := range f.subs {
			// Without a connection there is nothing to end.
			_ = s.Unsubscribe()
		}
	}()
	close(f.ready)
	if f.err != nil {
		return
	}
	f.say()
	t := time.NewTicker(silence)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			f.countDropped()
			if now.Sub(time.Unix(0, f.heard.Load())) >= silence {
				f.catchUp(ctx)
			}
		}
	}
}

// say tells whoever works only for watched streams that this one is.
func (f *feed) say() {
	nc := f.o.JetStream.Conn()
	err := demand.Say(nc, f.key)
	if f.o.UsePackagers {
		err = errors.Join(err, demand.SayParts(nc, f.key))
	}
	if err != nil {
		f.o.Logger.Debug("say who is watched", "stream", f.key.String(), "err", err)
	}
}

// silence is how long nothing must have come before the bus is asked whether
// something was missed: the gap behind a lost message shows at the next one,
// which the last message of a publisher does not have.
const silence = 2 * time.Second

// tick is how often feeds look for what is late.
const tick = 50 * time.Millisecond

func (f *feed) countDropped() {
	var n uint64
	for _, s := range f.subs {
		if d, err := s.Dropped(); err == nil && d > 0 {
			n += uint64(d)
		}
	}
	f.o.m.dropped.Add(float64(n - f.dropped))
	f.dropped = n
}

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

// maxTargetUs is the longest part target that is believed.
const maxTargetUs = 10_000_000

// track gives a track, made when missing; nil if there are too many. The lock is held.
func (f *feed) track(name trackName) *track {
	if t := f.tracks[name]; t != nil {
		return t
	}
	if len(f.tracks) >= maxTracks {
		return nil
	}
	target := f.targets[name]
	if target == 0 { // what is made of the publisher's rendition has the same parts
		target = f.targets[trackName{schemas.SourceRendition, name.kind}]
	}
	if target <= 0 || target > maxTargetUs {
		target = schemas.DefaultPartTargetUs
	}
	t := newTrack(name.rendition, name.kind, f.o.window, target)
	f.tracks[name] = t
	close(f.added)
	f.added = make(chan struct{})
	return t
}

// part takes one message of a packager.
func (f *feed) part(m *nats.Msg) {
	p, err := schemas.DecodePart([]byte(m.Header.Get(schemas.HeaderPart)), m.Data)
	if err == nil && (p.Subject() != m.Subject || p.Key() != f.key) {
		err = errors.New("it is for another subject")
	}
	if err != nil {
		f.o.m.corrupt.Inc()
		f.o.Logger.Warn("part passed over", "subject", m.Subject, "err", err)
		return
	}
	f.o.m.received.Inc()
	f.reading.Lock() // not before the past has been read: the first part listed must be the window's
	defer f.reading.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offer(p, m.Data, false)
}

// chunk takes one chunk: its parts are cut here, or waited for. Both in the
// order of the bus, so that every origin comes to the same playlists.
func (f *feed) chunk(m *message) {
	c, err := schemas.DecodeChunk([]byte(m.header.Get(schemas.HeaderChunk)), m.data)
	if err == nil && (c.Key() != f.key || schemas.MediaSubject(c.Key(), c.Rendition) != m.subject) {
		err = errors.New("it is for another subject")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.giveUp(m, err)
		return
	}
	missing := f.expect(c, m.seq)
	switch {
	case !missing:
	case f.o.UsePackagers && f.past && len(f.overdue) < maxOverdue:
		f.overdue = append(f.overdue, &due{c: c, data: m.data, at: time.Now().Add(f.o.CoverAfter), kept: m.at})
	default:
		f.cut(c, m.data)
	}
}

// cut makes the parts of a chunk. The lock is held.
func (f *feed) cut(c *schemas.Chunk, data []byte) {
	for i := range c.Fragments {
		if c.Encryption != nil {
			f.seal(c, data, i)
			continue
		}
		p, b := packager.Part(c, data, i)
		if len(b) < len(data)/4 {
			b = bytes.Clone(b) // sound would keep a whole chunk's memory when the picture has let go of it
		}
		f.offer(&p, b, false)
	}
}

// expect notes the parts of a chunk, which is message seq of MEDIA, and reports
// whether one is missing. The lock is held.
func (f *feed) expect(c *schemas.Chunk, seq uint64) (missing bool) {
	now, name := time.Now(), c.ContentID()
	for i := range c.Fragments {
		fr := &c.Fragments[i]
		t := f.track(trackName{c.Rendition, fr.Track})
		if t == nil {
			continue
		}
		id := partID{c.Epoch, fr.MSN, int(fr.Part)}
		if t.expect(id, fr.SegmentStart, name) {
			missing = true
		}
		t.source(id, seq)
		if len(t.pending) > 0 {
			f.moved(t, func() { t.advance(now) })
		}
	}
	return missing
}

// offer gives a part to its track. The lock is held.
func (f *feed) offer(p *schemas.Part, data []byte, gap bool) {
	t := f.track(trackName{p.Rendition, p.Track})
	if t == nil {
		return
	}
	now := time.Now()
	id := partID{p.Epoch, p.MSN, int(p.Part)}
	f.moved(t, func() { t.offer(&piece{id: id, h: *p, data: data, gap: gap}, now) })
	if f.past && p.DoneUnixUs > 0 && t.last == id {
		f.o.m.delay.Observe(max(0, now.Sub(time.UnixMicro(p.DoneUnixUs)).Seconds()))
	}
	if f.past && t.last == id {
		f.o.hops.packaged(p, gap, now)
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
		// Of a rendition that ended there is nothing to switch to.
		ended := name.rendition != schemas.SourceRendition && f.o.made.Retired(f.key, name.rendition, time.Now())
		if other != t && other.begun && !ended {
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
