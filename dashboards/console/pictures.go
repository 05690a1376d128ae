package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Limits of the history of one stream.
const (
	maxHistory     = 720
	defaultHistory = time.Hour
	historyTimeout = 5 * time.Second
	maxHistories   = 8 // at once; each is a consumer on the bus
	maxCacheBytes  = 32 << 20
)

// pictures reads the stream PICTURES. Pictures are cached by sequence, so that
// a hundred browsers cost the bus one read.
type pictures struct {
	js    jetstream.JetStream
	slots chan struct{}

	mu    sync.Mutex
	cache map[uint64]picture
	bytes int
}

type picture struct {
	key  schemas.StreamKey
	ref  pictureRef
	jpeg []byte
}

var errNoPicture = errors.New("there is no such picture: it may be older than what the bus keeps")

func newPictures(js jetstream.JetStream) *pictures {
	return &pictures{js: js, slots: make(chan struct{}, maxHistories), cache: map[uint64]picture{}}
}

func (p *pictures) stream(ctx context.Context) (jetstream.Stream, error) {
	s, err := p.js.Stream(ctx, schemas.StreamPictures)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", schemas.StreamPictures, err)
	}
	return s, nil
}

// get gives the picture at a sequence, which must be one of the stream k.
func (p *pictures) get(ctx context.Context, k schemas.StreamKey, seq uint64) (picture, error) {
	p.mu.Lock()
	pic, ok := p.cache[seq]
	p.mu.Unlock()
	if !ok {
		s, err := p.stream(ctx)
		if err != nil {
			return picture{}, err
		}
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return picture{}, notFound(err)
		}
		if pic, err = p.keep(m); err != nil {
			return picture{}, err
		}
	}
	if pic.key != k {
		return picture{}, errNoPicture
	}
	return pic, nil
}

// latest gives the newest picture of k. hint is its sequence if known, else 0.
func (p *pictures) latest(ctx context.Context, k schemas.StreamKey, hint uint64) (picture, error) {
	if hint != 0 {
		if pic, err := p.get(ctx, k, hint); err == nil {
			return pic, nil
		}
	}
	s, err := p.stream(ctx)
	if err != nil {
		return picture{}, err
	}
	m, err := s.GetLastMsgForSubject(ctx, schemas.PictureSubject(k))
	if err != nil {
		return picture{}, notFound(err)
	}
	return p.keep(m)
}

func notFound(err error) error {
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return errNoPicture
	}
	return fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
}

// keep checks a message and caches it; a full cache starts anew with the newest.
func (p *pictures) keep(m *jetstream.RawStreamMsg) (picture, error) {
	k, err := schemas.ParsePictureSubject(m.Subject)
	if err != nil {
		return picture{}, errNoPicture
	}
	ref, ok := refOf(m.Header, m.Sequence)
	if !ok || len(m.Data) < 4 || m.Data[0] != 0xFF || m.Data[1] != 0xD8 {
		return picture{}, fmt.Errorf("message %d of %s is not a picture", m.Sequence, schemas.StreamPictures)
	}
	pic := picture{k, ref, m.Data}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+len(m.Data) > maxCacheBytes {
		clear(p.cache)
		p.bytes = 0
	}
	if _, ok := p.cache[m.Sequence]; !ok {
		p.cache[m.Sequence] = pic
		p.bytes += len(m.Data)
	}
	return pic, nil
}

// history lists the pictures of k whose frame is in [from, to], oldest first.
func (p *pictures) history(ctx context.Context, k schemas.StreamKey, from, to time.Time) ([]pictureRef, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := p.stream(ctx)
	if err != nil {
		return nil, err
	}
	// A picture is stored after its frame was shot, so none of the range is stored before it.
	cons, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: schemas.PictureSubject(k), DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, HeadersOnly: true, InactiveThreshold: 10 * time.Second, Replicas: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.DeleteConsumer(ctx, cons.CachedInfo().Name) // it ends by itself otherwise
	}()
	batch, err := cons.FetchNoWait(maxHistory)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	out := []pictureRef{}
	for m := range batch.Messages() {
		md, err := m.Metadata()
		if err != nil {
			continue
		}
		ref, ok := refOf(m.Headers(), md.Sequence.Stream)
		if ok && ref.TimeMs >= from.UnixMilli() && ref.TimeMs <= to.UnixMilli() {
			out = append(out, ref)
		}
	}
	if err := batch.Error(); err != nil {
		return nil, fmt.Errorf("read stream %s: %w", schemas.StreamPictures, err)
	}
	slices.SortFunc(out, func(a, b pictureRef) int { return int(a.TimeMs - b.TimeMs) })
	return out, nil
}

// mayShow keeps pictures of private streams to those who have the admin token, or the
// cookie of who has shown it, and out of every cache that would not ask again.
func (c *Console) mayShow(w http.ResponseWriter, r *http.Request, k schemas.StreamKey) bool {
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	if err := c.access.Wait(ctx); err != nil {
		refuse(w, http.StatusServiceUnavailable, "which streams are private is not known yet: "+plain(err))
		return false
	}
	if !c.access.Of(k, time.Now()).Private {
		return true
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	return c.hasPictureKey(r) || c.admin(w, r)
}

// serveLatest answers GET /<app>/<stream>/picture.jpg.
func (c *Console) serveLatest(w http.ResponseWriter, r *http.Request, app, stream string) {
	k := schemas.StreamKey{App: app, Stream: stream}
	if err := k.Check(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if !c.mayShow(w, r, k) {
		return
	}
	c.st.mu.Lock()
	hint := c.st.pictures[k].Seq
	if !c.st.bus.OK {
		hint = 0
	}
	c.st.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	pic, err := c.pics.latest(ctx, k, hint)
	servePicture(w, r, pic, err, "max-age=2")
}

func servePicture(w http.ResponseWriter, r *http.Request, pic picture, err error, caching string) {
	if errors.Is(err, errNoPicture) {
		refuse(w, http.StatusNotFound, err.Error())
		return
	}
	if err != nil {
		w.Header().Set("Retry-After", "2")
		refuse(w, http.StatusServiceUnavailable, "the bus gives no picture now: "+plain(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", caching)
	}
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Spillway-Picture-Time-Ms", strconv.FormatInt(pic.ref.TimeMs, 10))
	tag := `"` + strconv.FormatUint(pic.ref.Seq, 10) + `"`
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(pic.jpeg)))
	w.Write(pic.jpeg)
}

// serveOne answers GET /v1/pictures/<app>/<stream>/<seq>.jpg; a sequence never changes its picture.
func (c *Console) serveOne(w http.ResponseWriter, r *http.Request) {
	k := schemas.StreamKey{App: r.PathValue("app"), Stream: r.PathValue("stream")}
	name, ok := strings.CutSuffix(r.PathValue("picture"), ".jpg")
	seq, err := strconv.ParseUint(name, 10, 64)
	if !ok || err != nil || k.Check() != nil {
		refuse(w, http.StatusBadRequest, "give /v1/pictures/<application>/<stream>/<sequence>.jpg as the list has them")
		return
	}
	if !c.mayShow(w, r, k) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	pic, err := c.pics.get(ctx, k, seq)
	servePicture(w, r, pic, err, "private, max-age=3600, immutable")
}

type historyAnswer struct {
	App      string       `json:"app"`
	Stream   string       `json:"stream"`
	Pictures []historyRow `json:"pictures"`
}

type historyRow struct {
	pictureRef
	URL string `json:"url"`
}

// serveHistory answers GET /v1/pictures/<app>/<stream>?from=&to=.
func (c *Console) serveHistory(w http.ResponseWriter, r *http.Request) {
	k := schemas.StreamKey{App: r.PathValue("app"), Stream: r.PathValue("stream")}
	if err := k.Check(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if !c.mayShow(w, r, k) {
		return
	}
	now := time.Now()
	to, err := timeParam(r.URL.Query(), "to", now)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	from, err := timeParam(r.URL.Query(), "from", to.Add(-defaultHistory))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	refs, err := c.pics.history(ctx, k, from, to)
	if err != nil {
		w.Header().Set("Retry-After", "2")
		refuse(w, http.StatusServiceUnavailable, "the bus gives no history now: "+plain(err))
		return
	}
	a := historyAnswer{App: k.App, Stream: k.Stream, Pictures: make([]historyRow, len(refs))}
	for i, ref := range refs {
		a.Pictures[i] = historyRow{ref, "/v1/pictures/" + k.String() + "/" + strconv.FormatUint(ref.Seq, 10) + ".jpg"}
	}
	answer(w, a)
}

// timeParam reads RFC 3339 or Unix milliseconds.
func timeParam(q url.Values, name string, def time.Time) (time.Time, error) {
	s := q.Get(name)
	if s == "" {
		return def, nil
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 && ms < 1e14 {
		return time.UnixMilli(ms), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%s=%.40q is neither Unix milliseconds nor a time like 2026-01-31T12:00:00Z", name, s)
	}
	return t, nil
}
