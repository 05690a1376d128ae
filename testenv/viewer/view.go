package viewer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

const (
	// tick is how often the player is moved on, slowTick where its buffer is seconds
	// long. Moments are exact whatever it is.
	tick, slowTick = 200 * time.Millisecond, 500 * time.Millisecond
	// As hls.js waits for a first byte, a whole playlist, a whole fragment.
	firstByteTimeout = 10 * time.Second
	playlistTimeout  = 20 * time.Second
	mediaTimeout     = 120 * time.Second
)

// buffers are what media is read into; most segments fit in two.
var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// view is one playback session.
type view struct {
	c     Config
	log   *slog.Logger
	rnd   *rand.Rand
	d     schemas.Dispatch
	rep   *reporter
	begun time.Time
	clock time.Duration // to be added to local time
	// clockBoundMs is 0 when the clock was not measured.
	clockBoundMs float64

	mu         sync.Mutex
	p          *player
	m          *multivariant // once opened only clones are added; tracks and lead stay
	tracks     []track
	lead       track
	path       *pathway
	penalty    map[string]time.Time // until when a pathway is out of use
	failures   [3]int               // in a row, on the current pathway, by kind of request
	lastOK     time.Time
	priority   []string
	anchor     *anchor
	liveSync   time.Duration
	maxRate    float64
	edge       time.Time // newest program date time listed
	throughput float64   // kbit/s
	saidDelay  bool
	lastSample time.Time
	ended      map[track]bool
	fatal      error

	latency          []time.Duration
	served           map[string]int
	requests, errors int
	switches         int
	bytes            int64
}

// anchor is a place in the stream from which both tracks are loaded; a jump
// makes a new one.
type anchor struct {
	ctx    context.Context
	cancel context.CancelFunc
	set    chan struct{} // closed once the leading track has chosen
	wall   time.Time     // program date time at base
	base   time.Duration // media time
	seek   time.Duration // playhead's distance from base
}

// run plays.
func (v *view) run(ctx context.Context) (Report, error) {
	v.rep = newReporter(v.d.Telemetry, v.c.agent(), v.c.HTTPClient)
	repCtx, stopRep := context.WithCancel(context.WithoutCancel(ctx))
	repDone := make(chan struct{})
	go func() { defer close(repDone); v.rep.run(repCtx) }()
	defer stopRep()
	v.mu.Lock()
	v.p = newPlayer(v.begun, v.c.StartAhead, v.c.ResumeAhead, v.stateChanged)
	v.stateChanged(v.begun)
	v.lastOK, v.ended = time.Now(), map[track]bool{}
	v.mu.Unlock()
	v.syncClock(ctx)
	err := v.play(ctx)
	now := time.Now()
	r := v.finish(now, err, ctx.Err() != nil)
	v.sendBeacon(ctx, &r, now)
	stopRep()
	<-repDone
	r.Events, r.EventsFailed = v.rep.sent, v.rep.lost+v.rep.waiting()
	if ctx.Err() != nil {
		err = nil
	}
	return r, err
}

func (v *view) play(ctx context.Context) error {
	if err := v.open(ctx); err != nil {
		return fmt.Errorf("multivariant playlist: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v.newAnchor(ctx)
	g, gctx := errgroup.WithContext(ctx)
	for _, t := range v.tracks {
		g.Go(func() error { return v.load(gctx, t) })
	}
	if v.m.steeringURI != "" && v.c.CDN == "" && !v.c.NoSteering {
		g.Go(func() error { v.steer(gctx); return nil })
	}
	g.Go(func() error { return v.tick(gctx) })
	err := g.Wait()
	if errors.Is(err, errEnded) {
		err = nil
	}
	return err
}

var errEnded = errors.New("the stream has ended")

// open reads the multivariant playlist; a failure is tried again for a while, as players do.
func (v *view) open(ctx context.Context) error {
	var err error
	for try := range 4 {
		var text string
		if text, err = fetchText(ctx, &v.c, v.d.URL); err == nil {
			var base *url.URL
			if base, err = url.Parse(v.d.URL); err == nil {
				v.m, err = parseMultivariant(text, base)
			}
		}
		v.mu.Lock()
		v.requests++
		if err != nil {
			v.errors++
		}
		v.mu.Unlock()
		var s *statusError
		if err == nil || errors.As(err, &s) && s.status < 500 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second << min(try, 2)):
		}
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.priority = v.m.order
	v.path = v.m.paths[v.m.first]
	if p := v.m.paths[v.c.CDN]; p != nil {
		v.path = p
	}
	if v.path.video != "" {
		v.tracks = append(v.tracks, video)
	}
	if v.path.audio != "" {
		v.tracks = append(v.tracks, audio)
	}
	v.lead = v.tracks[0]
	for _, t := range v.tracks {
		v.p.ends[t] = 0
	}
	v.maxRate = 1
	if f, err := strconv.ParseFloat(v.d.Params[schemas.ParamMaxCatchupRate], 64); err == nil && f > 1 && f <= 2 {
		v.maxRate = f
	}
	v.liveSync = v.c.LiveSync
	if d := seconds(v.d.Params[schemas.ParamLiveSyncSec]); v.liveSync == 0 && d > 0 {
		v.liveSync = d
	}
	return nil
}

// stateChanged reports the player's state at the moment it began. v.mu is held.
func (v *view) stateChanged(at time.Time) {
	v.rep.add(v.record(cmcd.EventState, at))
	if v.c.OnState != nil {
		v.c.OnState(v.p.state, at)
	}
}

// newAnchor makes both tracks start anew from the live edge. v.mu is not held.
func (v *view) newAnchor(ctx context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.anchor != nil {
		v.anchor.cancel()
	}
	a := &anchor{set: make(chan struct{}), base: v.p.pos}
	a.ctx, a.cancel = context.WithCancel(ctx)
	v.anchor = a
}

// tick moves the player on, reports at intervals, and keeps near the live edge.
func (v *view) tick(ctx context.Context) error {
	every := tick
	if v.c.WholeSegments {
		every = slowTick
	}
	t := time.NewTicker(every)
	defer t.Stop()
	nextReport := time.Now().Add(v.c.ReportEvery)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now := time.Now()
		v.mu.Lock()
		v.p.advance(now)
		wall, known := v.p.wall()
		playing := v.p.state == cmcd.StatePlaying
		if playing && known {
			v.follow(now, now.Add(v.clock).Sub(wall))
		}
		if !now.Before(nextReport) {
			nextReport = now.Add(v.c.ReportEvery)
			v.rep.add(v.record(cmcd.EventTime, now))
		}
		maxBehind := v.c.MaxBehind
		if maxBehind == 0 {
			maxBehind = v.liveSync + 14*time.Second
		}
		jump := known && v.p.state != cmcd.StateSeeking && v.liveSync > 0 && v.edge.Sub(wall) > maxBehind
		if jump {
			v.p.seek(now)
		}
		ended, fatal := v.p.state == cmcd.StateEnded, v.fatal
		v.mu.Unlock()
		switch {
		case fatal != nil:
			return fatal
		case ended:
			return errEnded
		case jump:
			v.newAnchor(ctx)
		}
	}
}

// follow samples the latency and sets the playback rate. v.mu is held.
func (v *view) follow(now time.Time, latency time.Duration) {
	if now.Sub(v.lastSample) >= time.Second {
		v.lastSample = now
		v.latency = append(v.latency, latency)
	}
	if v.maxRate == 1 {
		return
	}
	rate := v.p.rate
	behind := latency - v.liveSync
	switch {
	case behind > 300*time.Millisecond && v.p.ahead() > v.c.ResumeAhead:
		rate = v.maxRate
	case behind < 50*time.Millisecond, v.p.ahead() < v.c.ResumeAhead/2:
		rate = 1
	}
	if rate != v.p.rate {
		v.p.rate = rate
		v.rep.add(v.record(cmcd.EventRate, now))
	}
}

// finish ends the playback and sums up.
func (v *view) finish(now time.Time, err error, quit bool) Report {
	v.mu.Lock()
	defer v.mu.Unlock()
	end := "ended"
	switch {
	case quit:
		end = "quit"
		v.p.stop(cmcd.StateQuit, now)
	case err != nil:
		end = "failed"
		v.p.advance(now)
		rec := v.record(cmcd.EventError, now)
		rec.SetErrorCodes("playback_failed")
		v.rep.add(rec)
		v.p.stop(cmcd.StateFatal, now)
	}
	if v.anchor != nil {
		v.anchor.cancel()
	}
	return Report{
		SessionID: v.d.SessionID, Arms: v.d.Arms, Started: !v.p.first.IsZero(), Startup: v.p.startup,
		Played: v.p.played, Stalled: v.p.stalledNow(now), Stalls: v.p.stalls, Seeking: v.p.seeking, Seeks: v.p.seeks,
		Latency: v.latency, Served: v.served, Switches: v.switches,
		Requests: v.requests, Errors: v.errors, Bytes: v.bytes, End: end, Ahead: v.p.ahead(),
	}
}

// get fetches one object; text is kept for playlists only.
func (v *view) get(ctx context.Context, u string, timeout time.Duration, keep bool) (text string, err error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	q.Header.Set("User-Agent", v.c.agent())
	begin := time.Now()
	silence := time.AfterFunc(firstByteTimeout, cancel)
	res, err := v.c.HTTPClient.Do(q)
	silence.Stop()
	if err != nil {
		v.count(0, 0, outer.Err() == nil) // a request given up is no error
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which holds the token
		}
		return "", err
	}
	defer res.Body.Close()
	first := time.Now()
	var n int64
	if keep {
		var b []byte
		b, err = io.ReadAll(io.LimitReader(res.Body, 4<<20))
		text, n = string(b), int64(len(b))
	} else {
		buf := buffers.Get().(*[]byte)
		// The wrapper hides io.Discard's own, smaller buffer.
		n, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, v.access(ctx, res.Body), *buf)
		buffers.Put(buf)
	}
	took := time.Since(begin)
	bad := (err != nil || res.StatusCode != http.StatusOK) && outer.Err() == nil
	if keep {
		took = 0 // a held playlist says nothing about throughput
	}
	v.count(n, took, bad)
	if err == nil && res.StatusCode != http.StatusOK {
		err = &statusError{res.StatusCode, text[:min(len(text), 200)]}
	}
	if !keep && v.c.SampleResponses > 0 {
		v.sampleResponse(u, begin, first, res.StatusCode)
	}
	return text, err
}

func (v *view) count(n int64, took time.Duration, bad bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests++
	v.bytes += n
	if bad {
		v.errors++
		return
	}
	if took > 0 && n > 0 {
		kbps := float64(n) * 8 / 1000 / max(took.Seconds(), 0.0005)
		if v.throughput == 0 {
			v.throughput = kbps
		}
		v.throughput += 0.1 * (kbps - v.throughput)
	}
}

func (v *view) sampleResponse(u string, begin, first time.Time, status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.rnd.Float64() >= v.c.SampleResponses {
		return
	}
	rec := v.record(cmcd.EventResponse, begin)
	rec.URL, rec.Status = u, int64(status)
	rec.FirstByteMs, rec.LastByteMs = first.Sub(begin).Milliseconds(), time.Since(begin).Milliseconds()
	rec.Put(cmcd.URL, cmcd.RC, cmcd.TTFB, cmcd.TTLB)
	v.rep.add(rec)
}
