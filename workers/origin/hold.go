package origin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// firstSegment is how long a request without directives waits for a stream that
// has just begun: hls.js takes a playlist without a complete segment for broken.
const firstSegment = 5 * time.Second

// servePlaylist answers a media playlist, after holding it until what the
// directives ask for is listed. When that does not come, because the publisher
// is gone, the playlist is sent unchanged: an error would end playback.
func (o *Origin) servePlaylist(w http.ResponseWriter, r *http.Request, t target) {
	d, err := parseDirectives(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, cacheNever, err.Error())
		return
	}
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	defer release()
	start := time.Now()
	hold := newHold(o, r.Context())
	defer hold.end()
	for {
		if o.retired(r.Context(), t) {
			refuse(w, http.StatusNotFound, cacheShort, "rendition "+t.rendition+" is made no more: take another one of the multivariant playlist")
			return
		}
		f.mu.Lock()
		tr := f.tracks[trackName{t.rendition, t.track}]
		if why := f.lockedFor(t); why != "" {
			f.mu.Unlock()
			refuse(w, http.StatusServiceUnavailable, cacheNever, why)
			return
		}
		var wake <-chan struct{}
		var pause time.Duration
		limit := o.HoldLimit
		switch {
		case tr == nil || !tr.begun:
			wake, limit = f.added, firstSegment
			if tr != nil {
				wake = tr.changed
			} else if !f.mayHave(r.Context(), t) {
				f.mu.Unlock()
				refuse(w, http.StatusNotFound, cacheShort, "the stream has no such track")
				return
			}
		case !d.hasMSN && !tr.listed():
			wake, limit = tr.changed, firstSegment
		default:
			at, why := tr.reach(d)
			switch at {
			case tooFar:
				f.mu.Unlock()
				refuse(w, http.StatusBadRequest, cacheNever, why)
				return
			case toCome:
				wake = tr.changed
			default:
				pause = tr.early(d, time.Now())
			}
		}
		if pause > 0 {
			f.mu.Unlock()
			if !hold.wait(nil, pause) {
				refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
				return
			}
			continue
		}
		left := limit - time.Since(start)
		if wake == nil || left <= 0 {
			var b []byte
			if tr != nil && tr.begun {
				b = tr.answer(d)
			}
			f.mu.Unlock()
			switch {
			case b == nil:
				refuse(w, http.StatusNotFound, cacheShort, "the stream has not begun")
			case wake == nil && d.hasMSN:
				sendPlaylist(w, r, b, cacheVersion)
			default:
				sendPlaylist(w, r, b, cacheNone)
			}
			return
		}
		f.mu.Unlock()
		if t.rendition != schemas.SourceRendition {
			left = min(left, retiredLook)
		}
		left = min(left, keyPatience)
		if !hold.wait(wake, left) {
			// Stopping, or the client is gone; another origin has the answer.
			refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
			return
		}
	}
}

// mayHave reports whether the track may still appear. The lock is held.
func (f *feed) mayHave(_ context.Context, t target) bool {
	if _, ok := f.targets[trackName{t.rendition, t.track}]; ok {
		return true
	}
	return len(f.targets) == 0 && len(f.tracks) == 0
}

// serveMedia answers a part or a segment. One that is about to exist, as
// EXT-X-PRELOAD-HINT announces, is waited for; one that never will is 404.
func (o *Origin) serveMedia(w http.ResponseWriter, r *http.Request, t target) {
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil {
		if !o.serveStored(w, r, t) {
			o.fail(w, r, err)
		}
		return
	}
	defer release()
	start := time.Now()
	hold := newHold(o, r.Context())
	defer hold.end()
	for {
		f.mu.Lock()
		tr := f.tracks[trackName{t.rendition, t.track}]
		if tr == nil {
			f.mu.Unlock()
			if !o.serveStored(w, r, t) {
				refuse(w, http.StatusNotFound, cacheShort, "the stream has no such track")
			}
			return
		}
		data, ok, later := tr.find(t.id)
		sum, wake, begun := tr.checksum(t.id), tr.changed, tr.inProgress(t.id)
		var past *past
		if ok && data == nil {
			past = tr.past(t.id)
		}
		f.mu.Unlock()
		if past != nil {
			o.servePast(w, r, t, past)
			return
		}
		if begun != nil && r.Method == http.MethodGet && !conditional(r.Header) {
			o.serveInProgress(w, r, t, f, tr, begun, hold)
			return
		}
		switch left := o.HoldLimit - time.Since(start); {
		case ok:
			sendMedia(w, r, t, mediaName(t.id), data, sum)
			return
		case !later || left <= 0:
			if !o.serveStored(w, r, t) {
				refuse(w, http.StatusNotFound, cacheShort, "no such part or segment, or no longer")
			}
			return
		default:
			if !hold.wait(wake, left) {
				refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
				return
			}
		}
	}
}

func mediaName(id partID) string {
	if id.part < 0 {
		return schemas.SegmentBase(id.epoch, id.msn)
	}
	p := schemas.Part{Epoch: id.epoch, MSN: id.msn, Part: uint32(id.part)}
	return p.FileName()
}

// hold keeps one request waiting and counts it.
type hold struct {
	o     *Origin
	ctx   context.Context
	timer *time.Timer
	since time.Time
}

func newHold(o *Origin, ctx context.Context) *hold { return &hold{o: o, ctx: ctx} }

// timers are stopped ones, to be used again.
var timers sync.Pool

// wait returns false when the request's context ended before wake or d.
func (h *hold) wait(wake <-chan struct{}, d time.Duration) bool {
	if h.timer == nil {
		h.since = time.Now()
		if old, ok := timers.Get().(*time.Timer); ok {
			h.timer = old
			h.timer.Reset(d)
		} else {
			h.timer = time.NewTimer(d)
		}
		h.o.m.held.Inc()
	} else {
		h.timer.Reset(d)
	}
	select {
	case <-wake:
	case <-h.timer.C:
	case <-h.ctx.Done():
		return false
	}
	return true
}

func (h *hold) end() {
	if h.timer == nil {
		return
	}
	h.timer.Stop() // nothing comes from it any more (Go 1.23)
	timers.Put(h.timer)
	h.timer = nil
	h.o.m.held.Dec()
	h.o.m.holding.Observe(time.Since(h.since).Seconds())
}
