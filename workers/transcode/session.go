package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// session is one encoder at work on one epoch of a stream.
type session struct {
	w      *Worker
	key    schemas.StreamKey
	log    *slog.Logger
	source *schemas.TrackInfo
	epoch  *schemas.EpochOpen
	rungs  []rung
	outs   []*output
	read   *reader
	proc   *process

	lastOut atomic.Int64 // Unix ns when the encoder last gave a frame
	kicked  chan struct{}
	began   time.Time
	was     map[string]schemas.RenditionState // what was made before, by rung
	ended   atomic.Bool                       // the source has; what is in the encoder comes out
	outputs sync.WaitGroup                    // rungs at work
}

// output is one rung of a session.
type output struct {
	s      *session
	i      int
	rung   rung
	outlet *outlet
	cutter cutter
	join   join
	joined bool

	mu    sync.Mutex
	state schemas.RenditionState // Live once a chunk is out
	rate  rate
}

// errBehind: the encoder cannot keep up.
var errBehind = errors.New("the encoder falls behind real time")

// errChanged: the rungs to be made are others now.
var errChanged = errors.New("the ladder has changed")

// ended: the source's publisher has left.
type endedError struct{ reason string }

func (e *endedError) Error() string { return "the source has ended: " + e.reason }

// run encodes until ctx ends or something changes; the error says what.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	init, err := s.w.bus.init(ctx, s.source.InitID)
	if err != nil {
		return err
	}
	for i, r := range s.rungs {
		o, err := openOutlet(ctx, s.w.bus, s.key, r.name)
		if err != nil {
			return err
		}
		s.outs = append(s.outs, &output{s: s, i: i, rung: r, outlet: o})
	}
	if s.read, err = s.w.bus.read(gctx, s.key, s.epoch.Epoch, s.source.InitID); err != nil {
		return err
	}
	have, b, err := s.gather(gctx)
	if err != nil {
		return err
	}
	for i, o := range s.outs {
		o.join = b.joins[i]
	}
	have = slices.Clone(have[b.chunk:])
	have[0] = have[0].trimmed(b.part)
	for i := range s.outs { // parts are counted from what is left
		if j := &s.outs[i].join; j.seq == have[0].chunk.Seq {
			j.part = max(0, j.part-b.part)
		}
	}
	if s.proc, err = s.w.Encoder.start(gctx, init, s.source, s.rungs); err != nil {
		return err
	}
	defer s.proc.kill()
	s.lastOut.Store(time.Now().UnixNano())
	s.log.Info("encoder runs", "epoch", s.epoch.Epoch, "rungs", len(s.rungs), "from_seq", have[0].chunk.Seq, "joins", fmt.Sprint(b.joins))
	s.outputs.Add(len(s.outs))
	g.Go(func() error { return s.feed(gctx, have) })
	for _, o := range s.outs {
		g.Go(func() error {
			defer s.outputs.Done()
			return o.run(gctx)
		})
	}
	g.Go(func() error { s.keep(gctx); return nil })
	g.Go(func() error { return s.watch(gctx) })
	// Whoever fails first says why; the process must die for the others to notice.
	g.Go(func() error {
		<-gctx.Done()
		s.proc.kill()
		return nil
	})
	return g.Wait()
}

// gather reads until it is known where to begin.
func (s *session) gather(ctx context.Context) ([]*planned, beginning, error) {
	after := make([]*uint64, len(s.outs))
	for i, o := range s.outs {
		if o.outlet.had && o.outlet.epoch == s.epoch.Epoch {
			after[i] = &o.outlet.seq
		}
	}
	var have []*planned
	past := s.read.past
	for {
		select {
		case it := <-s.read.items:
			switch {
			case it.err != nil:
				return nil, beginning{}, it.err
			case it.ended != "":
				return nil, beginning{}, &endedError{it.ended}
			}
			have = append(have, it.plan)
			if len(have) > maxUnread {
				have = slices.Delete(have, 0, len(have)-maxUnread)
			}
			if past != nil {
				continue
			}
		case <-past:
			past = nil
		case <-ctx.Done():
			return nil, beginning{}, ctx.Err()
		}
		if len(s.read.items) > 0 {
			continue
		}
		if b, ok := begin(have, after); ok {
			now := time.Now()
			for _, p := range have {
				p.arrived = now // what lay on the bus is not what the encoder is late with
			}
			return have, b, nil
		}
	}
}

// feed gives the encoder the source's fragments.
func (s *session) feed(ctx context.Context, have []*planned) error {
	var m marker
	var buf []byte
	marked := make([]bool, len(s.outs))
	announce := func(p *planned) error {
		joint := false
		for i, o := range s.outs {
			if !marked[i] && p.chunk.Seq >= o.join.seq {
				marked[i] = true
				joint = joint || !o.join.fresh
			}
		}
		m.plan(p, joint)
		for _, o := range s.outs {
			if err := o.cutter.expect(p); err != nil {
				return err
			}
		}
		return nil
	}
	write := func(p *planned) error {
		for i := range p.parts {
			buf = appendInput(buf[:0], p.parts[i].samples, func(pts int64) bool { return m.force[pts] })
			if _, err := s.proc.in.Write(buf); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("feed the encoder: %w", errors.Join(err, s.proc.failure()))
			}
		}
		return nil
	}
	for _, p := range have { // all of it is known before the first frame goes: see marker
		if err := announce(p); err != nil {
			return err
		}
	}
	for _, p := range have {
		if err := write(p); err != nil {
			return err
		}
	}
	for {
		var it item
		select {
		case it = <-s.read.items:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case it.err != nil:
			return it.err
		case it.ended != "":
			// What is in the encoder comes out first; then its outputs end.
			s.finish(ctx, it.ended)
			return &endedError{it.ended}
		}
		if err := announce(it.plan); err != nil {
			return err
		}
		if err := write(it.plan); err != nil {
			return err
		}
	}
}

// finish lets what is in the encoder come out and ends the renditions' epoch.
func (s *session) finish(ctx context.Context, reason string) {
	s.ended.Store(true)
	s.proc.in.Close()
	out := make(chan struct{})
	go func() { s.outputs.Wait(); close(out) }()
	select {
	case <-out:
	case <-time.After(3 * time.Second):
		return // an end that comes with the next epoch
	case <-ctx.Done():
		return
	}
	for _, o := range s.outs {
		if o.joined {
			if err := o.outlet.end(ctx, s.epoch.Epoch, reason); err != nil {
				s.log.Debug("end of epoch not published", "rendition", o.rung.name, "err", err)
			}
		}
	}
}

// restartFor is how long a rendition counts as made while its encoder is started anew.
const restartFor = 10 * time.Second

// keep writes the renditions' states while they are made.
func (s *session) keep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kicked:
		case <-t.C:
		}
		for _, o := range s.outs {
			st, ok := o.said()
			if was, before := s.was[o.rung.name]; !ok && before && time.Since(s.began) < restartFor {
				st, ok = was, true // it goes on in a moment, with another epoch perhaps
			}
			if ok {
				put, cancel := context.WithTimeout(ctx, 2*time.Second)
				if err := s.w.putState(put, &st); err != nil && ctx.Err() == nil {
					s.log.Debug("rendition state not written", "rendition", o.rung.name, "err", err)
				}
				cancel()
			}
		}
	}
}

// said gives the rendition's state; ok is false while nothing of it is on the bus.
func (o *output) said() (schemas.RenditionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.state
	st.AverageBps, st.PeakBps = o.rate.average(), o.rate.peak
	return st, st.Live
}

// run publishes what the encoder makes for one rung.
func (o *output) run(ctx context.Context) error {
	src := o.s.proc.source(o.i)
	var track schemas.TrackInfo
	var init []byte
	for {
		f, err := src.next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if errors.Is(err, io.EOF) && o.s.ended.Load() {
				return nil
			}
			return fmt.Errorf("rendition %s: %w", o.rung.name, errors.Join(err, o.s.proc.failure()))
		}
		now := time.Now()
		o.s.lastOut.Store(now.UnixNano())
		if init == nil {
			if track, init, err = src.track(o.s.source); err != nil {
				return err
			}
			if _, err := o.s.w.bus.inits.Put(ctx, track.InitID, init); err != nil {
				return fmt.Errorf("store init segment: %w", err)
			}
		}
		done, err := o.cutter.frame(f)
		if err != nil {
			return fmt.Errorf("rendition %s: %w", o.rung.name, err)
		}
		for i := range done {
			if err := o.publish(ctx, &done[i], &track); err != nil {
				return err
			}
		}
	}
}

func (o *output) publish(ctx context.Context, r *rendered, track *schemas.TrackInfo) error {
	if !o.joined {
		if !o.mayJoin(r, track) {
			return nil
		}
		o.joined = true
		if err := o.open(ctx, r, track); err != nil {
			return fmt.Errorf("rendition %s: %w", o.rung.name, err)
		}
	}
	c, payload, err := r.chunk(o.rung.name, track.InitID)
	if err != nil {
		return fmt.Errorf("rendition %s: %w", o.rung.name, err)
	}
	if err := o.outlet.chunk(ctx, c, payload); err != nil {
		return fmt.Errorf("rendition %s: %w", o.rung.name, err)
	}
	m := o.s.w.m
	m.chunks.Inc()
	m.delay.Observe(time.Since(r.arrived).Seconds())
	o.mu.Lock()
	defer o.mu.Unlock()
	whole := !o.join.fresh
	for i := range c.Fragments {
		o.rate.add(c.Fragments[i].Size, c.Fragments[i].DurationUs())
		whole = whole || c.Fragments[i].SegmentEnd
	}
	// Players take a playlist without a whole segment for broken: it is announced with one.
	if !o.state.Live && whole {
		o.state.Live = true
		select {
		case o.s.kicked <- struct{}{}:
		default:
		}
	}
	return nil
}

// mayJoin tells whether the rung goes on with this chunk; it leaves out the parts
// before the one it begins with.
func (o *output) mayJoin(r *rendered, track *schemas.TrackInfo) bool {
	seq := r.planned.chunk.Seq
	if seq < o.join.seq {
		return false
	}
	from := 0
	if seq == o.join.seq {
		from = o.join.part
	}
	same := o.outlet.initID == track.InitID
	for ; from < len(r.parts); from++ {
		// In the middle of a segment only what decodes with the segment's own init segment.
		if r.parts[from][0].key && (r.planned.parts[from].frag.SegmentStart || !o.join.fresh && same) {
			break
		}
	}
	if from == len(r.parts) {
		o.join.fresh = true // too late for the joint: with the next segment
		return false
	}
	r.planned, r.parts = r.planned.trimmed(from), r.parts[from:]
	return true
}

// open publishes the rendition's epoch, unless it goes on in one that another worker opened.
func (o *output) open(ctx context.Context, r *rendered, track *schemas.TrackInfo) error {
	e := *o.s.epoch
	track.FirstMSN = r.planned.parts[0].frag.MSN
	e.Rendition, e.Protocol, e.Encoder = o.rung.name, "transcode", "ffmpeg libx264 "+o.s.w.Encoder.Preset
	e.OpenedUnixUs = time.Now().UnixMicro()
	old := o.outlet.known
	if old != nil && old.Epoch.Epoch == e.Epoch {
		track.FirstMSN, e.OpenedUnixUs = old.Epoch.Tracks[0].FirstMSN, old.Epoch.OpenedUnixUs
	}
	e.Tracks = []schemas.TrackInfo{*track}
	o.mu.Lock()
	o.state = schemas.RenditionState{App: o.s.key.App, Stream: o.s.key.Stream, Rendition: o.rung.name, Epoch: e}
	o.rate = rate{peak: o.rung.bps}
	o.mu.Unlock()
	if o.outlet.had && o.outlet.epoch == e.Epoch && o.outlet.initID == track.InitID {
		return nil
	}
	return o.outlet.open(ctx, &e)
}

// Bounds on an encoder.
const (
	stuckAfter = 10 * time.Second // frames go in and none comes out
	watchEvery = 250 * time.Millisecond
)

// watch ends the session when the encoder hangs or falls behind, or when other
// rungs are to be made.
func (s *session) watch(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var behindSince time.Time
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now = <-t.C:
		}
		if !slices.Equal(s.w.rungs(s.key, s.source), s.rungs) {
			return errChanged
		}
		behind := s.behind()
		s.w.m.behind.Set(behind.Seconds())
		busHeld := now.UnixNano()-s.w.bus.held.Load() < int64(busPatience)
		switch {
		case behind < s.w.MaxBehind || busHeld:
			behindSince = time.Time{}
		case behindSince.IsZero():
			behindSince = now
		case now.Sub(behindSince) > s.w.MaxBehind:
			return fmt.Errorf("%w: by %v for %v", errBehind, behind.Round(time.Millisecond), s.w.MaxBehind)
		}
		if behind > 0 && !busHeld && now.UnixNano()-s.lastOut.Load() > int64(stuckAfter) && s.read.newest.Load() > s.lastOut.Load() {
			return fmt.Errorf("the encoder has given nothing for %v", stuckAfter)
		}
	}
}

// behind is how much of what was read has not come out, by its time of arrival.
func (s *session) behind() time.Duration {
	newest := time.Unix(0, s.read.newest.Load())
	var d time.Duration
	for _, o := range s.outs {
		if at := o.cutter.oldest(); !at.IsZero() {
			d = max(d, newest.Sub(at))
		}
	}
	return d
}

// rate measures a rendition's bitrate over its own time.
type rate struct {
	bytes, us int64
	seconds   []int64 // bits per second of the last seconds, newest last
	peak      int64   // highest second; the target at first
}

func (r *rate) add(bytes int, us int64) {
	r.bytes, r.us = r.bytes+int64(bytes), r.us+us
	if r.us < 1_000_000 {
		return
	}
	bps := r.bytes * 8 * 1_000_000 / r.us
	r.bytes, r.us = 0, 0
	r.peak = max(r.peak, bps)
	if r.seconds = append(r.seconds, bps); len(r.seconds) > 10 {
		r.seconds = slices.Delete(r.seconds, 0, 1)
	}
}

func (r *rate) average() int64 {
	if len(r.seconds) == 0 {
		return r.peak
	}
	var n int64
	for _, s := range r.seconds {
		n += s
	}
	return n / int64(len(r.seconds))
}
