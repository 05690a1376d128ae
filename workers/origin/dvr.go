package origin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/store"
)

// dvr is what an origin knows of recorded streams.
type dvr struct {
	o     *Origin
	apps  *mirror.Table[*schemas.AppSettings]
	reads chan struct{} // one place for each object being read
	away  atomic.Bool

	mu      sync.Mutex
	shelves map[archive.Track]*shelf
}

func (o *Origin) openDVR(ctx context.Context) error {
	if o.Store == nil {
		return nil
	}
	o.dvr = &dvr{
		o: o, apps: mirror.New(schemas.BucketApps, schemas.ParseAppSettings, o.Logger), reads: make(chan struct{}, o.StoreReads),
		shelves: map[archive.Track]*shelf{},
	}
	o.fetches.Go(func() { _ = o.dvr.apps.Run(o.work, o.JetStream) }) // nil once the context ends
	select {
	case <-o.dvr.apps.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dvrWindow is how far back a stream can be seen; 0: the live window only.
func (o *Origin) dvrWindow(k schemas.StreamKey) time.Duration {
	if o.dvr == nil {
		return 0
	}
	return time.Duration(schemas.SettingsOf(k, o.dvr.apps.Get).DVRSec) * time.Second
}

// shelfIdle is how long the list of a track is kept after its last use.
const shelfIdle = 10 * time.Minute

func (d *dvr) dropIdle(now time.Time) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for t, s := range d.shelves {
		if now.Sub(time.Unix(0, s.used.Load())) > shelfIdle {
			delete(d.shelves, t)
		}
	}
}

// shelf gives what is recorded of t's track; nil when nothing is to be.
func (o *Origin) shelf(t target) *shelf {
	window := o.dvrWindow(t.key)
	if window == 0 {
		return nil
	}
	d := o.dvr
	d.mu.Lock()
	defer d.mu.Unlock()
	name := archive.Track{Class: archive.ClassDVR, Key: t.key, Rendition: t.rendition, Track: t.track}
	s := d.shelves[name]
	if s == nil {
		if len(d.shelves) >= o.MaxStreams*maxTracks {
			return nil
		}
		s = &shelf{d: d, track: name}
		d.shelves[name] = s
	}
	s.window.Store(int64(window))
	s.used.Store(time.Now().UnixNano())
	return s
}

// serveDVR answers the playlist that reaches back. A request for a segment that
// is still to come is held, as on the live playlist.
func (o *Origin) serveDVR(w http.ResponseWriter, r *http.Request, t target) {
	d, err := parseDirectives(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, cacheNever, err.Error())
		return
	}
	s := o.shelf(t)
	if s == nil {
		refuse(w, http.StatusNotFound, cacheShort, "nothing of this stream is kept to seek back to")
		return
	}
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil && !errors.Is(err, errUnknown) {
		o.fail(w, r, err)
		return
	}
	cache := cacheShort
	var live []hls.DVRSegment
	if err == nil { // otherwise the publisher is long gone, but what was recorded can be seen
		defer release()
		reach, why, ok := o.waitSegment(r, f, t, d)
		switch {
		case !ok:
			refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
			return
		case why != "":
			refuse(w, http.StatusBadRequest, cacheNever, why)
			return
		case reach && d.hasMSN:
			cache = cacheVersion
		}
		live = f.complete(t)
	}
	s.refresh(r.Context())
	b := s.playlist(live, d.skip)
	if b == nil {
		refuse(w, http.StatusNotFound, cacheShort, "the stream has no such track, or has not begun")
		return
	}
	sendPlaylist(w, r, b, cache)
}

// mpdReachUs is timeShiftBufferDepth, microseconds: as far back as the leading
// track is recorded. Segments of a run are named by numbers, so the MPD itself
// stays as short as it was.
func (o *Origin) mpdReachUs(ctx context.Context, t target, f *feed) int64 {
	f.mu.Lock()
	lead := f.leading()
	f.mu.Unlock()
	if lead == nil {
		return o.window.us
	}
	t.rendition, t.track = lead.rendition, lead.kind
	s := o.shelf(t)
	if s == nil {
		return o.window.us
	}
	s.refresh(ctx)
	// Whole tens of seconds, so that versions and origins seldom differ in it alone.
	reach := s.reach(f.complete(t)).Truncate(10 * time.Second)
	return max(o.window.us, reach.Microseconds())
}

// waitSegment holds a request until the segment it names is complete. reached is
// false after HoldLimit; why says what is wrong with the request; ok is false
// when it ended.
func (o *Origin) waitSegment(r *http.Request, f *feed, t target, d directives) (reached bool, why string, ok bool) {
	start := time.Now()
	hold := newHold(o, r.Context())
	defer hold.end()
	for {
		f.mu.Lock()
		tr := f.tracks[trackName{t.rendition, t.track}]
		if tr == nil || !d.hasMSN || !tr.begun || d.msn <= tr.lastMSN() {
			f.mu.Unlock()
			return true, "", true
		}
		last, wake := tr.lastMSN(), tr.changed
		f.mu.Unlock()
		if d.msn > last+2 {
			return false, "_HLS_msn is more than two beyond the last segment", true
		}
		left := o.HoldLimit - time.Since(start)
		if left <= 0 {
			return false, "", true
		}
		if !hold.wait(wake, left) {
			return false, "", false
		}
	}
}

// complete gives the complete segments of a track that are in memory.
func (f *feed) complete(t target) []hls.DVRSegment {
	f.mu.Lock()
	defer f.mu.Unlock()
	tr := f.tracks[trackName{t.rendition, t.track}]
	if tr == nil {
		return nil
	}
	var out []hls.DVRSegment
	for _, s := range tr.segs {
		if s.Complete {
			out = append(out, hls.DVRSegment{
				Epoch: s.Epoch, MSN: s.MSN, InitID: s.InitID, KID: s.KID, DiscontinuitySeq: s.DiscontinuitySeq, Discontinuity: s.Discontinuity,
				WallUnixUs: s.WallUnixUs, DurationUs: s.DurationUs(), Gap: hasGap(s),
			})
		}
	}
	return out
}

// serveStored answers a segment that has left memory from the object store. It
// reports whether it answered.
func (o *Origin) serveStored(w http.ResponseWriter, r *http.Request, t target) bool {
	if t.kind != "segment" {
		return false
	}
	s := o.shelf(t)
	if s == nil {
		return false
	}
	seg, ok := s.find(r.Context(), t.id)
	if !ok {
		return false
	}
	release, ok := o.readPlace(r.Context())
	if !ok {
		refuse(w, http.StatusServiceUnavailable, cacheNever, "as many objects are being read as this origin may read at once: ask another, or again")
		return true
	}
	defer release()
	body := &object{ctx: r.Context(), store: o.Store, key: s.track.Object(&seg), size: seg.Bytes}
	defer body.close()
	if !conditional(r.Header) {
		if err := body.open(); err != nil {
			o.storeFailed(w, r, err)
			return true
		}
	}
	o.m.storeReads.Inc()
	mediaHeader(w, r, t, etag(mediaName(t.id), seg.CRC))
	http.ServeContent(w, r, "", time.Time{}, body)
	if body.err != nil && r.Context().Err() == nil {
		o.m.storeFails.Inc()
		o.Logger.Warn("answer from the object store broke off", "path", r.URL.Path, "err", body.err)
	}
	return true
}

// placePatience is how long a request waits for a place to read; edges give a
// request up after 4 s.
const placePatience = 3 * time.Second

func (o *Origin) readPlace(ctx context.Context) (release func(), ok bool) {
	t := time.NewTimer(placePatience)
	defer t.Stop()
	select {
	case o.dvr.reads <- struct{}{}:
	case <-t.C:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
	o.m.storeReading.Inc()
	return func() { <-o.dvr.reads; o.m.storeReading.Dec() }, true
}

func (o *Origin) storeFailed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, store.ErrNotFound) {
		refuse(w, http.StatusNotFound, cacheShort, "the segment is no longer kept")
		return
	}
	o.m.storeFails.Inc()
	o.Logger.Debug("read the object store", "path", r.URL.Path, "err", err)
	refuse(w, http.StatusServiceUnavailable, cacheNever, "the object store does not answer; live goes on")
}

// maxInit bounds an init segment read from the store, bytes.
const maxInit = 1 << 20

// storedInit reads an init segment that the bus no longer has.
func (o *Origin) storedInit(ctx context.Context, t target) ([]byte, bool) {
	s := o.shelf(t)
	if s == nil {
		return nil, false
	}
	key, ok := s.initKey(ctx, t.initID)
	if !ok {
		return nil, false
	}
	b, err := store.Get(ctx, o.Store, key, maxInit)
	if err != nil || schemas.InitID(b) != t.initID {
		o.m.storeFails.Inc()
		return nil, false
	}
	o.m.storeReads.Inc()
	return b, true
}

// object reads one object of the store as it is sent: no more of it is in
// memory than the piece under way.
type object struct {
	ctx   context.Context
	store store.Objects
	key   string
	size  int64
	at    int64 // what is read next
	body  io.ReadCloser
	from  int64 // where body stands
	err   error
}

func (b *object) open() error {
	b.close()
	b.from = b.at
	b.body, b.err = b.store.Open(b.ctx, b.key, b.at, -1)
	return b.err
}

func (b *object) close() {
	if b.body != nil {
		b.body.Close()
		b.body = nil
	}
}

// Read is for http.ServeContent.
func (b *object) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	if b.body == nil || b.from != b.at {
		if err := b.open(); err != nil {
			return 0, err
		}
	}
	n, err := b.body.Read(p)
	b.at += int64(n)
	b.from = b.at
	if err == io.EOF && b.at < b.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// Seek is for http.ServeContent, which asks for the size in this way, too: what
// is open stays so until something else is read.
func (b *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	b.at = offset
	return offset, nil
}
