package origin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/leanhttp"
)

const allowedMethods = "GET, HEAD, OPTIONS"

// target is what a path names.
type target struct {
	kind      string // multivariant, playlist, dvr, init, part, segment
	key       schemas.StreamKey
	rendition string
	track     schemas.Track
	id        partID // part, segment (part is -1)
	initID    string
}

// maxPath bounds a path, bytes: three names and a file name.
const maxPath = 4*schemas.MaxNameLen + 64

// parsePath reads a path of docs/contracts.md; ok is false for any other.
func parsePath(path string) (t target, ok bool) {
	if len(path) > maxPath || len(path) == 0 || path[0] != '/' {
		return t, false
	}
	var names [5]string
	n := 0
	for rest, more := path[1:], true; more; n++ {
		if n == len(names) {
			return t, false
		}
		names[n], rest, more = strings.Cut(rest, "/")
	}
	if n != 3 && n != 5 {
		return t, false
	}
	p := names[:n]
	t.key = schemas.StreamKey{App: p[0], Stream: p[1]}
	if t.key.Check() != nil {
		return t, false
	}
	if formatPath(p, &t) {
		return t, true
	}
	if len(p) == 3 {
		t.kind = "multivariant"
		return t, p[2] == hls.MultivariantName
	}
	t.rendition, t.track = p[2], schemas.Track(p[3])
	if schemas.CheckName("rendition", t.rendition) != nil || t.track.Check() != nil {
		return t, false
	}
	file := p[4]
	switch file {
	case hls.PlaylistName:
		t.kind = "playlist"
		return t, true
	case hls.DVRName:
		t.kind = "dvr"
		return t, true
	}
	if id, isInit := strings.CutPrefix(file, "init-"); isInit {
		t.kind, t.initID = "init", strings.TrimSuffix(id, ".mp4")
		return t, schemas.CheckInitID(t.initID) == nil && file == hls.InitName(t.initID)
	}
	epoch, msn, part, err := schemas.ParseMediaFileName(file)
	if err != nil {
		return t, false
	}
	t.kind, t.id = "part", partID{epoch, msn, part}
	canonical := (&schemas.Part{Epoch: epoch, MSN: msn, Part: uint32(max(part, 0))}).FileName()
	if part < 0 {
		t.kind, canonical = "segment", schemas.SegmentFileName(epoch, msn)
	}
	return t, file == canonical // one name for one content, or caches hold it twice
}

func (o *Origin) serve(rw http.ResponseWriter, r *http.Request) {
	w := &reply{ResponseWriter: rw, o: o}
	if why := refusedConn(r.Context()); why != "" {
		o.m.turnedAway.Inc()
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusServiceUnavailable, cacheNever, why)
		return
	}
	if o.serveHealth(w, r) {
		return
	}
	t, ok := parsePath(r.URL.Path)
	defer func() {
		kind := t.kind
		if !ok {
			kind = "other"
		}
		o.m.answered(kind, w.code, w.bytes)
		o.hops.served(&t, w.code)
	}()
	h := w.Header()
	if l, ok := rw.(leanhttp.Liner); ok {
		l.Lines(everyAnswer)
	} else {
		h["Access-Control-Allow-Origin"] = valueAny
		h["Access-Control-Expose-Headers"] = valueExposed
		h["Timing-Allow-Origin"] = valueAny
	}
	h["X-Content-Type-Options"] = valueNosniff // http.Error sets it, too
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", "Range, If-Match, If-None-Match, If-Range, Content-Type, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		h.Set("Allow", allowedMethods)
		refuse(w, http.StatusMethodNotAllowed, cacheNever, "only "+allowedMethods+" are served here")
		return
	}
	if !ok {
		refuse(w, http.StatusNotFound, cacheShort, "no such path: see docs/contracts.md for the URLs of streams")
		return
	}
	aw, r, done, admitted := o.admit(w, r, &t)
	if !admitted {
		return
	}
	defer done()
	o.serveTarget(aw, r, t)
}

func (o *Origin) serveTarget(w http.ResponseWriter, r *http.Request, t target) {
	if o.serveFormat(w, r, t) {
		return
	}
	switch t.kind {
	case "multivariant":
		o.serveMultivariant(w, r, t)
	case "playlist":
		o.servePlaylist(w, r, t)
	case "dvr":
		o.serveDVR(w, r, t)
	case "init":
		o.serveInit(w, r, t)
	default:
		o.serveMedia(w, r, t)
	}
}

// goneAfter: a stream without publisher for so long is not announced any more;
// its media has left the bus.
const goneAfter = 90 * time.Second

func (o *Origin) serveMultivariant(w http.ResponseWriter, r *http.Request, t target) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	s, err := o.state(ctx, t.key)
	back := time.Duration(0) // what can still be seen of a stream that is gone
	if r.URL.Query().Get("dvr") == "1" {
		back = o.dvrWindow(t.key)
	}
	if err == nil && (len(s.Epoch.Tracks) == 0 || time.Since(time.UnixMicro(s.UpdatedUnixUs)) > max(goneAfter, back)) {
		err = errUnknown
	}
	if err != nil {
		o.fail(w, r, err)
		return
	}
	var made []*schemas.RenditionState
	if back == 0 { // the past holds them only where somebody watched
		made = o.made.Of(s, time.Now())
	}
	m := hls.FromState(s, made...)
	if back > 0 {
		m.Playlist = hls.DVRName
	}
	sendPlaylist(w, r, m.Append(nil), cacheShort)
}

func (o *Origin) serveInit(w http.ResponseWriter, r *http.Request, t target) {
	b, err := o.initBytes(r.Context(), t.initID)
	if err != nil {
		// The bus forgets init segments after a week; what was recorded has its own.
		if stored, ok := o.storedInit(r.Context(), t); ok {
			o.inits.put(t.initID, stored)
			b, err = stored, nil
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		refuse(w, http.StatusNotFound, cacheShort, "no such init segment")
		return
	case errors.Is(err, errDamagedInit):
		refuse(w, http.StatusServiceUnavailable, cacheNever, err.Error())
		return
	case err != nil:
		o.fail(w, r, err)
		return
	}
	sendMedia(w, r, t, t.initID, b, new(checksum))
}
