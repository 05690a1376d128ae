package origin

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// Values of Cache-Control. Names of media are never used for two contents.
const (
	cacheMedia = "public, max-age=3600, immutable"
	// The directives in the query identify the version asked for.
	cacheVersion = "public, max-age=4"
	cacheNone    = "public, max-age=0"
	cacheShort   = "public, max-age=1"
	cacheNever   = "no-store"
)

const allowedMethods = "GET, HEAD, OPTIONS"

// target is what a path names.
type target struct {
	kind      string // multivariant, playlist, init, part, segment
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
	p := strings.Split(path[1:], "/")
	if len(p) != 3 && len(p) != 5 {
		return t, false
	}
	t.key = schemas.StreamKey{App: p[0], Stream: p[1]}
	if t.key.Check() != nil {
		return t, false
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
	if file == hls.PlaylistName {
		t.kind = "playlist"
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

// recorder counts what is sent.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += n
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (o *Origin) serve(rw http.ResponseWriter, r *http.Request) {
	w := &recorder{ResponseWriter: rw}
	t, ok := parsePath(r.URL.Path)
	defer func() {
		kind := t.kind
		if !ok {
			kind = "other"
		}
		o.m.requests.WithLabelValues(kind, strconv.Itoa(w.code)).Inc()
		o.m.bytes.Add(float64(w.bytes))
	}()
	h := w.Header()
	h["Access-Control-Allow-Origin"] = []string{"*"}
	h["Access-Control-Expose-Headers"] = []string{"Age, Date, Content-Length, Content-Range, ETag, Retry-After, CMSD-Static, CMSD-Dynamic"}
	h["Timing-Allow-Origin"] = []string{"*"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", "Range, If-None-Match, If-Range, Content-Type, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status")
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
	switch t.kind {
	case "multivariant":
		o.serveMultivariant(w, r, t)
	case "playlist":
		o.servePlaylist(w, r, t)
	case "init":
		o.serveInit(w, r, t)
	default:
		o.serveMedia(w, r, t)
	}
}

func refuse(w http.ResponseWriter, code int, cache, why string) {
	h := w.Header()
	h.Set("Cache-Control", cache)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if code == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_, _ = w.Write([]byte(why + "\n")) // the client may be gone
}

// fail answers an error of watch or of the bus.
func (o *Origin) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errUnknown), errors.Is(err, jetstream.ErrKeyNotFound):
		refuse(w, http.StatusNotFound, cacheShort, "no such stream")
	case errors.Is(err, errFull):
		refuse(w, http.StatusServiceUnavailable, cacheNever, err.Error())
	case r.Context().Err() != nil:
		refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
	default:
		o.Logger.Warn("request", "path", r.URL.Path, "err", err)
		refuse(w, http.StatusServiceUnavailable, cacheNever, "the bus does not answer")
	}
}

func sendPlaylist(w http.ResponseWriter, r *http.Request, b []byte, cache string) {
	h := w.Header()
	h["Content-Type"] = []string{hls.TypePlaylist}
	h["Cache-Control"] = []string{cache}
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client may be gone
	}
}

// goneAfter: a stream without publisher for so long is not announced any more;
// its media has left the bus.
const goneAfter = 90 * time.Second

func (o *Origin) serveMultivariant(w http.ResponseWriter, r *http.Request, t target) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	s, err := o.state(ctx, t.key)
	if err == nil && (len(s.Epoch.Tracks) == 0 || time.Since(time.UnixMicro(s.UpdatedUnixUs)) > goneAfter) {
		err = errUnknown
	}
	if err != nil {
		o.fail(w, r, err)
		return
	}
	m := hls.FromState(s)
	sendPlaylist(w, r, m.Append(nil), cacheShort)
}

func (o *Origin) serveInit(w http.ResponseWriter, r *http.Request, t target) {
	b, ok := o.inits.get(t.initID)
	if !ok {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		e, err := o.initsKV.Get(ctx, t.initID)
		if err != nil {
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				refuse(w, http.StatusNotFound, cacheShort, "no such init segment")
				return
			}
			o.fail(w, r, err)
			return
		}
		b = e.Value()
		if schemas.InitID(b) != t.initID {
			o.m.corrupt.Inc()
			o.Logger.Error("init segment is damaged", "init", t.initID)
			refuse(w, http.StatusServiceUnavailable, cacheNever, "the init segment is damaged")
			return
		}
		o.inits.put(t.initID, b)
	}
	sendMedia(w, r, t, t.initID, b)
}

func sendMedia(w http.ResponseWriter, r *http.Request, t target, name string, b []byte) {
	h := w.Header()
	h["Content-Type"] = []string{hls.TypeMP4}
	if t.track == schemas.Audio {
		h["Content-Type"] = []string{hls.TypeAudioMP4}
	}
	h["Cache-Control"] = []string{cacheMedia}
	h["Etag"] = []string{`"` + name + `"`}
	if r.Header.Get("Range") == "" && r.Header.Get("If-None-Match") == "" && r.Header.Get("If-Match") == "" {
		h["Accept-Ranges"] = []string{"bytes"}
		h["Content-Length"] = []string{strconv.Itoa(len(b))}
		w.WriteHeader(http.StatusOK)
		if r.Method != http.MethodHead {
			_, _ = w.Write(b) // the client may be gone
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}
