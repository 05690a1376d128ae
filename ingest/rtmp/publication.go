package rtmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

const (
	// startWithin is the longest wait for configurations and the first key frame.
	startWithin = 10 * time.Second
	// announcedUs and unannouncedUs are how much media of one track is kept for the other's
	// configuration: where onMetaData announced it, and where nothing was announced.
	announcedUs, unannouncedUs = 3_000_000, 500_000
	maxPending                 = 1024
	maxPendingBytes            = 8 << 20
	maxMalformed               = 30
)

// publication is one publisher's stay on one stream: one or more epochs.
type publication struct {
	n     *conn
	s     *Server
	key   schemas.StreamKey
	peer  netip.Addr
	cdn   string
	log   *slog.Logger
	demux demux
	begun time.Time

	pending      []taken // before the first epoch
	pendingBytes int
	firstUs      int64

	out   *outlet
	done  chan struct{} // the last message is published, or never will be
	jumps *rate.Limiter

	mu     sync.Mutex // cutter and what follows; held while the bus holds us back
	cutter *cut.Cutter
	num    *numbering
	open   *schemas.EpochOpen
	timer  *time.Timer
	due    int64 // of timer, Unix microseconds
	over   bool
	fixed  uint64 // repairs of earlier epochs and of this one, as counted in the metric

	video, audio *cut.Track
	malformed    int
	keyless      time.Time

	stats     stats
	lastStats atomic.Pointer[schemas.PublisherStats]
	taken     atomic.Bool // another publisher owns the stream now
	kick      chan struct{}
	kept      chan struct{} // the keeper has written its last live state
}

func newPublication(n *conn) *publication {
	p := &publication{
		n: n, s: n.s, key: n.target.key, peer: n.peer, cdn: n.target.cdn, begun: time.Now(),
		log:  n.s.log.With("stream", n.target.key.String(), "peer", n.peer.String()),
		done: make(chan struct{}), jumps: rate.NewLimiter(rate.Every(6*time.Second), 10), kick: make(chan struct{}, 1), kept: make(chan struct{}),
	}
	p.timer = time.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	return p
}

// run reads until the publication ends.
func (p *publication) run(ctx context.Context) {
	err := p.readAll(ctx)
	reason := p.finish(err)
	var r *refusedError
	switch {
	case errors.As(err, &r):
		p.n.refuse(r.code, r.reason, "NetStream.Publish.Rejected", false)
	case p.n.closing.Load() != nil || errors.Is(err, cut.ErrTooLarge):
		p.n.farewell("NetStream.Publish.Rejected", reason)
	}
}

var errEnded = errors.New("the publisher ended the stream")

func (p *publication) readAll(ctx context.Context) error {
	for {
		m, now, err := p.n.next()
		if err != nil {
			return readError(err)
		}
		t, err := p.demux.take(m, now)
		switch {
		case errors.Is(err, cut.ErrBitstream):
			if p.malformed++; p.malformed > maxMalformed {
				return &refusedError{"bitstream", fmt.Sprintf("%d video frames in a row are malformed: %v", p.malformed, err)}
			}
			continue
		case err != nil:
			return err
		case t.end:
			return errEnded
		case t.video:
			p.malformed = 0
		}
		if p.out == nil {
			err = p.before(ctx, t, now)
		} else {
			err = p.during(t, now)
		}
		if err != nil {
			return err
		}
	}
}

// before collects what comes until the tracks are known.
func (p *publication) before(ctx context.Context, t taken, now time.Time) error {
	if t.video || t.audio {
		if len(p.pending) == 0 {
			p.firstUs = t.frame.DTSUs
		}
		p.pending = append(p.pending, t)
		p.pendingBytes += len(t.frame.Data)
	}
	d := &p.demux
	haveV, haveA := d.videoCfg != nil, d.audioCfg != nil
	media := int64(0)
	if len(p.pending) > 0 {
		media = max(0, p.pending[len(p.pending)-1].frame.DTSUs-p.firstUs)
	}
	ready := haveV && haveA
	if d.meta && !ready {
		ready = (haveV || haveA) && (haveV || !d.wantVideo) && (haveA || !d.wantAud) || (haveV || haveA) && media >= announcedUs
	} else if !ready {
		ready = (haveV || haveA) && media >= unannouncedUs
	}
	if !ready && (len(p.pending) >= maxPending || p.pendingBytes >= maxPendingBytes) {
		ready = haveV || haveA
	}
	if !ready || len(p.pending) == 0 {
		if now.Sub(p.begun) > startWithin {
			return &refusedError{"no_media", fmt.Sprintf("no media within %s", startWithin)}
		}
		return nil
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	pending := p.pending
	p.pending = nil
	for _, t := range pending {
		t.config = false // all configurations so far are in the first epoch
		if err := p.during(t, now); err != nil {
			return err
		}
	}
	return nil
}

// start takes the stream over, continues its numbering and opens the first epoch.
func (p *publication) start(ctx context.Context) error {
	if err := p.tracks(); err != nil {
		return err
	}
	p.s.claim(p)
	num, err := p.numbering(ctx)
	if err != nil {
		p.s.release(p)
		return err
	}
	out := newOutlet(p.s.bus, schemas.MediaSubject(p.key, schemas.SourceRendition), num.lastSeq)
	out.log, out.limit, out.pool = p.log, p.s.s.BusTimeout, &p.s.pool
	for t, v := range num.nextMSN {
		out.pos.NextMSN[t] = v
	}
	for t, v := range num.targetUs {
		out.pos.PartTargetUs[t] = v
	}
	out.onTrap = p.trapped
	out.onFail = func(reason string) {
		p.taken.Store(reason == errTaken.Error())
		p.n.interrupt(reason)
	}
	out.onSent = func(_ *schemas.Chunk, n int) {
		p.s.metrics.chunks.Inc()
		p.s.metrics.bytes.Add(float64(n))
		p.stats.chunk()
	}
	out.onOpen = p.opened
	p.out, p.num = out, num
	p.keyless = time.Now()
	go out.run(ctx)
	go p.keep(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openEpoch()
}

// numbering asks the bus where the stream's numbers stand, again and again while it is away.
func (p *publication) numbering(ctx context.Context) (*numbering, error) {
	deadline := time.Now().Add(p.s.s.BusTimeout)
	for told := false; ; {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		n, err := p.s.bus.load(try, p.key)
		cancel()
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, &refusedError{"bus", fmt.Sprintf("the bus could not be asked for the stream's numbering: %v", err)}
		}
		if !told {
			told = true
			p.trapped(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// tracks makes tracks of the configurations.
func (p *publication) tracks() error {
	d, part := &p.demux, p.s.s.PartUs
	bad := func(err error) error { return &refusedError{"codec", err.Error()} }
	var video, audio *cut.Track
	var err error
	if d.videoCfg != nil {
		c := *d.videoCfg
		c.FPS = d.fps
		if video, err = cut.NewVideoTrack(&c, part); err != nil {
			return bad(err)
		}
	}
	if d.audioCfg != nil {
		if audio, err = cut.NewAudioTrack(d.audioCfg, part); err != nil {
			return bad(err)
		}
	}
	p.video, p.audio = video, audio
	return nil
}

// openEpoch begins the epoch p.num says. mu is held.
func (p *publication) openEpoch() error {
	n := p.num
	p.open = &schemas.EpochOpen{
		Version: schemas.ChunkVersion, App: p.key.App, Stream: p.key.Stream, Rendition: schemas.SourceRendition,
		Epoch: n.epoch, DiscontinuitySeq: n.dseq, CDN: p.cdn, OpenedUnixUs: time.Now().UnixMicro(),
		Encoder: p.demux.encoder, Protocol: "rtmp",
	}
	inits := map[string][]byte{}
	for _, t := range []*cut.Track{p.video, p.audio} {
		if t == nil {
			continue
		}
		t.Info.FirstMSN = n.firstMSN(t.Info.Track)
		if us, ok := n.targetUs[t.Info.Track]; ok && us > 0 {
			t.Info.PartTargetUs = us
		}
		inits[t.Info.InitID] = t.Init
		p.open.Tracks = append(p.open.Tracks, t.Info)
	}
	c, err := cut.New(cut.Settings{
		App: p.key.App, Stream: p.key.Stream, Rendition: schemas.SourceRendition, CDN: p.cdn,
		Epoch: n.epoch, DiscontinuitySeq: n.dseq, Discontinuity: n.continues,
		Video: p.video, Audio: p.audio, PartUs: p.s.s.PartUs,
		Emit: func(ch *schemas.Chunk, data []byte) {
			p.out.push(item{kind: schemas.KindChunk, chunk: ch, data: data})
		},
		Buffer: p.buffer,
	})
	if err != nil {
		return err
	}
	p.cutter, p.fixed = c, 0
	p.stats.newEpoch()
	open := *p.open // the keeper reads p.open, the outlet its own copy
	p.out.push(item{kind: schemas.KindEpoch, open: &open, inits: inits})
	return nil
}

func (p *publication) buffer(n int) []byte {
	b := *p.s.pool.Get().(*[]byte)
	if cap(b) < n {
		b = make([]byte, 0, n+n/4)
	}
	return b[:0]
}

// reopen ends the epoch and begins the next one, in the same connection.
func (p *publication) reopen(why string) error {
	if !p.jumps.Allow() {
		return &refusedError{"unsteady", fmt.Sprintf("the stream changes too often: %s", why)}
	}
	old := p.cutter
	old.Finish()
	next := &numbering{epoch: p.num.epoch + 1, dseq: p.num.dseq, continues: p.num.continues, nextMSN: p.num.nextMSN, targetUs: p.num.targetUs}
	for t, v := range old.NextMSN() {
		next.nextMSN[t] = v
	}
	for _, t := range p.open.Tracks {
		next.targetUs[t.Track] = t.PartTargetUs
	}
	if old.Seq() > 0 {
		next.dseq++
		next.continues = true
	}
	p.num = next
	p.keyless = time.Now()
	p.log.Info("new epoch", "reason", why, "epoch", next.epoch)
	return p.openEpoch()
}

// during takes a frame of the running publication.
func (p *publication) during(t taken, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.config {
		if err := p.tracks(); err != nil {
			return err
		}
		if err := p.reopen("codec configuration changed"); err != nil {
			return err
		}
	}
	if !t.video && !t.audio || t.audio && p.audio == nil || t.video && p.video == nil {
		return nil
	}
	p.stats.frame(&t)
	err := p.cut(&t)
	var jump *cut.JumpError
	if errors.As(err, &jump) {
		p.stats.jump()
		if err := p.reopen(jump.Error()); err != nil {
			return err
		}
		err = p.cut(&t)
	}
	if errors.Is(err, cut.ErrTooLarge) {
		return &refusedError{"too_large", err.Error()}
	}
	if err != nil {
		return err
	}
	if !p.cutter.Started() {
		if now.Sub(p.keyless) > startWithin {
			return &refusedError{"no_key_frame", fmt.Sprintf("no key frame (IDR) within %s: set a key frame interval of 2 s", startWithin)}
		}
	}
	p.arm()
	return nil
}

func (p *publication) cut(t *taken) error {
	if t.video {
		return p.cutter.Video(t.frame)
	}
	return p.cutter.Audio(t.frame)
}

// arm sets the timer for what the cutter must let go. mu is held.
func (p *publication) arm() {
	if c := p.cutter.Counters(); c.Dropped+c.Repaired > p.fixed {
		p.s.metrics.fixed.Add(float64(c.Dropped + c.Repaired - p.fixed))
		p.fixed = c.Dropped + c.Repaired
	}
	d := p.cutter.Deadline()
	if d == 0 || d == p.due {
		return // a timer set for what has gone already does no harm
	}
	p.due = d
	p.timer.Reset(time.Duration(d-time.Now().UnixMicro())*time.Microsecond + time.Millisecond)
}

func (p *publication) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.cutter == nil {
		return
	}
	p.due = 0
	p.cutter.Tick(time.Now().UnixMicro())
	p.arm()
}

// stop ends the publication from outside.
func (p *publication) stop(reason string) { p.n.interrupt(reason) }

// finish publishes what is held, then tells state and event of the end. It gives the reason.
func (p *publication) finish(err error) string {
	reason := ""
	var r *refusedError
	switch {
	case errors.As(err, &r):
		reason = r.reason
	case errors.Is(err, errEnded):
		reason = errEnded.Error()
	default:
		reason = p.n.endReason(err)
	}
	defer close(p.done)
	if p.out == nil || p.cutter == nil {
		if p.out != nil {
			p.out.close()
		}
		p.log.Info("publisher left before media began", "reason", reason)
		return reason
	}
	p.mu.Lock()
	p.over = true
	p.timer.Stop()
	p.cutter.Finish()
	epoch := p.open.Epoch
	p.mu.Unlock()
	if errors.Is(err, errEnded) {
		data, err := json.Marshal(map[string]any{"epoch": epoch, "reason": reason})
		if err == nil {
			p.out.push(item{kind: schemas.KindEnd, data: data})
		}
	}
	p.out.close()
	<-p.out.done
	<-p.kept
	p.s.release(p)
	p.log.Info("publisher left", "reason", reason, "epoch", epoch, "seconds", int(time.Since(p.begun).Seconds()))
	p.s.report.Event(schemas.Event{
		ID: "ended/" + p.key.String() + "/" + strconv.FormatUint(uint64(epoch), 10), Kind: schemas.EventStreamEnded,
		App: p.key.App, Stream: p.key.Stream, CDN: p.cdn, Reason: reason,
		Detail: map[string]string{"epoch": strconv.FormatUint(uint64(epoch), 10), "protocol": "rtmp"},
	})
	if !p.taken.Load() && !p.replaced() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := p.out.savePosition(ctx); err != nil {
			p.log.Warn("position not saved", "err", err)
		}
		p.putState(ctx, false, reason)
	}
	return reason
}

// replaced tells whether a newer publication of this server has the stream.
func (p *publication) replaced() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	q := p.s.active[p.key]
	return q != nil && q != p
}

// opened is called when an epoch's opening is on the bus.
func (p *publication) opened(e *schemas.EpochOpen) {
	p.s.metrics.epochs.Inc()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	detail := map[string]string{"epoch": strconv.FormatUint(uint64(e.Epoch), 10), "protocol": "rtmp", "encoder": e.Encoder, "peer": p.peer.String()}
	for _, t := range e.Tracks {
		detail[string(t.Track)] = t.Codec
	}
	p.log.Info("epoch opened", "epoch", e.Epoch, "dseq", e.DiscontinuitySeq, "cdn", e.CDN, "encoder", e.Encoder)
	p.s.report.Event(schemas.Event{
		ID: "started/" + p.key.String() + "/" + detail["epoch"], Kind: schemas.EventStreamStarted,
		App: p.key.App, Stream: p.key.Stream, CDN: p.cdn, Detail: detail,
	})
}

// trapped reports that the bus does not take media; once for each incident.
func (p *publication) trapped(cause error) {
	p.s.metrics.traps.Inc()
	p.log.Error("the bus does not take media: the publisher is held back", "cause", cause.Error())
	p.s.report.Event(schemas.Event{
		Kind: schemas.EventBackPressure, App: p.key.App, Stream: p.key.Stream, CDN: p.cdn, Reason: cause.Error(),
		Detail: map[string]string{"protocol": "rtmp"},
	})
}
