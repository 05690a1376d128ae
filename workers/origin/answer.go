package origin

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// Values of Cache-Control (RFC 9111). Names of media are never used for two contents.
const (
	cacheMedia = "public, max-age=3600, immutable"
	// The directives in the query identify the version asked for.
	cacheVersion = "public, max-age=4"
	cacheNone    = "public, max-age=0"
	cacheShort   = "public, max-age=1"
	cacheNever   = "no-store"
)

// reply counts what is sent and does not wait for its reader for ever.
type reply struct {
	http.ResponseWriter
	o     *Origin
	code  int
	bytes int
}

func (r *reply) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// pieceBytes must be taken by a reader within Origin.SlowAfter.
const pieceBytes = 256 << 10

// Write sends b in pieces, each with a deadline of its own: a reader on a slow
// line may take as long as it needs, one that takes next to nothing is cut off.
func (r *reply) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	sent := 0
	for {
		piece := b[sent:min(sent+pieceBytes, len(b))]
		if len(b) >= 4<<10 { // less stays in the server's buffer
			// A writer that knows no deadlines (tests, benchmarks) does without.
			_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(r.o.SlowAfter))
		}
		n, err := r.ResponseWriter.Write(piece)
		sent += n
		r.bytes += n
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.o.m.slow.Inc()
			}
			return sent, err
		}
		if sent == len(b) {
			return sent, nil
		}
	}
}

func (r *reply) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Values of headers that many answers have. They are shared: nobody may change them.
var (
	valueAny      = []string{"*"}
	valueNosniff  = []string{"nosniff"}
	valueBytes    = []string{"bytes"}
	valuePlaylist = []string{hls.TypePlaylist}
	valueMP4      = []string{hls.TypeMP4}
	valueMedia    = []string{cacheMedia}
	valueVersion  = []string{cacheVersion}
	valueExposed  = []string{exposed}
)

const exposed = "Accept-Ranges, Age, Cache-Control, CMSD-Dynamic, CMSD-Static, Content-Length, Content-Range, Date, ETag, Retry-After"

// everyAnswer is the same for all of an origin's answers about streams.
const everyAnswer = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: " + exposed +
	"\r\nTiming-Allow-Origin: *\r\n"

func refuse(w http.ResponseWriter, code int, cache, why string) {
	h := w.Header()
	h.Set("Cache-Control", cache)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(why)+1))
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
	h["Content-Type"] = valuePlaylist
	if cache == cacheVersion {
		h["Cache-Control"] = valueVersion
	} else {
		h["Cache-Control"] = []string{cache}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client may be gone
	}
}

// etag is a strong validator (RFC 9110 section 8.8.3): the object's name and
// the CRC-32C of its bytes, so it is the same at every origin and differs even
// when a bus that was set up anew counts its epochs from one again.
func etag(name string, crc uint32) string {
	return `"` + name + "-" + strconv.FormatUint(uint64(crc), 16) + `"`
}

// maxRanges bounds the parts of one multipart answer; a longer Range is
// ignored, as RFC 9110 section 14.2 allows.
const maxRanges = 16

// mediaHeader writes the headers of a part, segment or init segment.
func mediaHeader(w http.ResponseWriter, r *http.Request, t target, tag string) {
	h := w.Header()
	h["Content-Type"] = valueMP4
	if t.track == schemas.Audio {
		h["Content-Type"] = []string{hls.TypeAudioMP4}
	}
	if t.track == hls.TSFolder {
		h["Content-Type"] = []string{hls.TypeTS}
	}
	h["Cache-Control"] = valueMedia
	h["Etag"] = []string{tag}
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
}

// conditional reports whether a request wants more than all of the object.
func conditional(h http.Header) bool {
	return h.Get("Range") != "" || h.Get("If-None-Match") != "" || h.Get("If-Match") != ""
}

func sendMedia(w http.ResponseWriter, r *http.Request, t target, name string, b []byte, sum *checksum) {
	mediaHeader(w, r, t, etag(name, sum.of(b)))
	if conditional(r.Header) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		return
	}
	h := w.Header()
	h["Accept-Ranges"] = valueBytes
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client may be gone
	}
}

// serveHealth answers /healthz (the process serves) and /readyz (it also
// reaches the bus and is not stopping: a balancer may send it requests).
func (o *Origin) serveHealth(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/healthz" && r.URL.Path != "/readyz" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	switch {
	case r.URL.Path == "/healthz":
	case o.stopping.Load():
		refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
		return true
	case !o.JetStream.Conn().IsConnected():
		refuse(w, http.StatusServiceUnavailable, cacheNever, "the bus is away: streams that are watched here go on from memory, others cannot be opened")
		return true
	}
	h := w.Header()
	h.Set("Cache-Control", cacheNever)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", "3")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte("ok\n")) // the client may be gone
	}
	return true
}
