package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/packager"
)

const (
	// pastReads bounds the segments read from MEDIA at once.
	pastReads = 8
	// pastPatience is how long reading one may take, the wait for a place included;
	// edges give a request up after 4 s.
	pastPatience = 3 * time.Second
	// retentionSlack is how much longer than a playlist reaches MEDIA must keep
	// chunks: what is listed last must be readable until nobody asks for it.
	retentionSlack = 8 * time.Second
	// maxSources bounds the parts that are known and still to be appended.
	maxSources = 4096
)

// shorten sees to it that playlists list nothing that MEDIA may have forgotten;
// retention 0 is for ever.
func (o *Origin) shorten(retention time.Duration) {
	if retention == 0 {
		return
	}
	most := retention.Microseconds() - o.window.keepUs - retentionSlack.Microseconds()
	if o.window.listUs <= most {
		return
	}
	o.Logger.Warn("MEDIA keeps chunks for too short a time: playlists are shorter than they should be", "retention", retention, "playlist", o.PlaylistLength)
	o.window.listUs = 0 // what the other formats list is in memory
	o.reachBack()
}

// source notes on which message of MEDIA a part is. It must be called before
// the part is offered, or after it was appended.
func (t *track) source(id partID, seq uint64) {
	if !t.begun || id.after(t.last) {
		if len(t.sources) < maxSources {
			t.sources[id] = seq
		}
		return
	}
	for _, s := range slices.Backward(t.segs) {
		if s.Epoch == id.epoch && s.MSN == id.msn {
			s.source(seq)
			return
		}
	}
}

func (s *segment) source(seq uint64) {
	if !slices.Contains(s.chunks, seq) {
		s.chunks = append(s.chunks, seq)
	}
}

// release lets go of the bytes of segments that only low-latency playlists list,
// or none: players hardly ever ask for them, and MEDIA has them still.
func (t *track) release() {
	for i := t.before(t.first, t.w.heldUs) - 1; i >= 0; i-- {
		s := t.segs[i]
		if s.released {
			return // those before it are, or wait for their readers
		}
		if s.Complete && s.readers == 0 && len(s.chunks) > 0 {
			s.raw, s.data, s.released = nil, nil, true
		}
	}
}

// reads keeps a segment's bytes in memory until the function it gives is called.
func (f *feed) reads(s *segment) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.readers++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		s.readers--
	}
}

// past says where the bytes of a segment are that is not in memory.
type past struct {
	rendition string
	kind      schemas.Track
	id        partID // part is -1 for all of it
	parts     int
	chunks    []uint64
}

// past gives a released segment, or one of its parts; nil where it is not released.
func (t *track) past(id partID) *past {
	for _, s := range t.segs {
		if s.Epoch == id.epoch && s.MSN == id.msn && s.released {
			return &past{rendition: t.rendition, kind: t.kind, id: id, parts: len(s.Parts), chunks: s.chunks}
		}
	}
	return nil
}

// servePast answers a part or segment that is read from MEDIA.
func (o *Origin) servePast(w http.ResponseWriter, r *http.Request, t target, p *past) {
	data, err := o.readPast(r.Context(), t.key, p)
	switch {
	case err == nil:
		sendMedia(w, r, t, mediaName(t.id), data, new(checksum))
	case errors.Is(err, errBusy) || !o.serveStored(w, r, t):
		o.pastFailed(w, r, err)
	}
}

func (o *Origin) pastFailed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errBusy):
		refuse(w, http.StatusServiceUnavailable, cacheNever, err.Error())
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, errNotThere):
		refuse(w, http.StatusNotFound, cacheShort, "no such part or segment any longer")
	default:
		o.fail(w, r, err)
	}
}

var (
	errBusy     = errors.New("as many segments are being read from the bus as this origin may read at once: ask another, or again")
	errNotThere = errors.New("the bus holds something else by now")
)

// readPast reads the chunks of a segment again and cuts them as they were cut
// before, which gives the same bytes.
func (o *Origin) readPast(ctx context.Context, key schemas.StreamKey, p *past) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pastPatience)
	defer cancel()
	select {
	case o.reads <- struct{}{}:
		defer func() { <-o.reads }()
	case <-ctx.Done():
		return nil, errBusy
	}
	o.m.past.Inc()
	raw := make([][]byte, p.parts)
	for _, seq := range p.chunks {
		m, err := o.media.GetMsg(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("read message %d of %s: %w", seq, schemas.StreamMedia, err)
		}
		if err := o.cutPast(m, key, p, raw); err != nil {
			return nil, err
		}
		if p.id.part >= 0 && raw[p.id.part] != nil {
			return raw[p.id.part], nil
		}
	}
	if slices.ContainsFunc(raw, func(b []byte) bool { return b == nil }) {
		return nil, errNotThere
	}
	return bytes.Join(raw, nil), nil
}

// cutPast takes out of a message what belongs to the segment. What was damaged
// or is of something else, because MEDIA was made anew, has nothing of it.
func (o *Origin) cutPast(m *jetstream.RawStreamMsg, key schemas.StreamKey, p *past, raw [][]byte) error {
	c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
	if err != nil || c.Key() != key || c.Rendition != p.rendition || c.Epoch != p.id.epoch {
		return nil
	}
	for i := range c.Fragments {
		fr := &c.Fragments[i]
		if fr.Track != p.kind || fr.MSN != p.id.msn || int(fr.Part) >= len(raw) {
			continue
		}
		if c.Encryption == nil {
			_, raw[fr.Part] = packager.Part(c, m.Data, i)
			continue
		}
		key, err := o.sealer.Track(c, i)
		if err != nil {
			return err
		}
		if _, raw[fr.Part], err = packager.Sealed(c, m.Data, i, key); err != nil {
			return err
		}
	}
	return nil
}
