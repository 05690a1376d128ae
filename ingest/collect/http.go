package collect

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// allowHeaders are the request headers that players send: CMCD's four, and
// Authorization where a target has one. Names that begin with x-epas- are added
// when asked for.
const allowHeaders = "Content-Type, Content-Encoding, Authorization, CMCD-Request, CMCD-Object, CMCD-Status, CMCD-Session"

// cors allows any origin: nothing that is answered depends on cookies.
// Credentials are allowed because sendBeacon always sends them.
func cors(h http.Header, r *http.Request) {
	if o := r.Header.Get("Origin"); o != "" {
		h.Set("Access-Control-Allow-Origin", o)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Vary", "Origin")
	} else {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Access-Control-Expose-Headers", "Date")
}

func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	allow := allowHeaders
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if strings.HasPrefix(name, "x-epas-") && len(name) <= 64 && len(allow) < 1024 && schemas.CheckName("", name) == nil {
			allow += ", " + name
		}
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
	h.Set("Access-Control-Allow-Headers", allow)
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// clock answers with the time of receipt and of sending.
func (c *Collector) clock(w http.ResponseWriter, r *http.Request, received time.Time) int {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(w, "GET, HEAD, OPTIONS")
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Timing-Allow-Origin", "*")
	if r.URL.RawQuery != "" && r.URL.Query().Get("form") == "xsdate" {
		// urn:mpeg:dash:utc:http-xsdate:2014, which DASH players read.
		h.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, c.s.Now().UTC().Format("2006-01-02T15:04:05.000000Z")) // nobody to tell
		return http.StatusOK
	}
	h.Set("Content-Type", "application/json")
	b := append(make([]byte, 0, 80), `{"received_ms":`...)
	b = appendMs(b, received)
	b = append(b, `,"sent_ms":`...)
	b = appendMs(b, c.s.Now())
	b = append(b, "}\n"...)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // nobody to tell
	return http.StatusOK
}

// appendMs writes Unix milliseconds with three decimals.
func appendMs(b []byte, t time.Time) []byte {
	return strconv.AppendFloat(b, float64(t.UnixMicro())/1000, 'f', 3, 64)
}

func notAllowed(w http.ResponseWriter, allow string) int {
	w.Header().Set("Allow", allow)
	return refuse(w, http.StatusMethodNotAllowed, "this method is not allowed here: use %s", allow)
}

var errTooLarge = errors.New("body is too large")

// errEncoding is wrapped by errors of bodies that cannot be decompressed.
var errEncoding = errors.New("content encoding")

// body reads the whole body, decompressed, up to limit bytes.
func (c *Collector) body(r *http.Request, limit int64) (string, error) {
	if r.ContentLength > limit {
		return "", fmt.Errorf("%w: %d bytes, at most %d are taken", errTooLarge, r.ContentLength, limit)
	}
	var src io.Reader = r.Body
	size := r.ContentLength
	switch enc := strings.ToLower(r.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return "", fmt.Errorf("%w gzip: %w", errEncoding, err)
		}
		defer z.Close()
		src, size = z, min(4*r.ContentLength, limit)
	default:
		return "", fmt.Errorf("%w %.20q is not supported: use gzip or none", errEncoding, enc)
	}
	buf, ok := c.bodies.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	defer func() {
		if buf.Cap() <= 256<<10 {
			buf.Reset()
			c.bodies.Put(buf)
		}
	}()
	if size > 0 {
		buf.Grow(int(size) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(src, limit+1))
	switch {
	case n > limit:
		return "", fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
	case err != nil && size != r.ContentLength:
		return "", fmt.Errorf("%w gzip: %w", errEncoding, err)
	case err != nil:
		return "", fmt.Errorf("read body: %w", err)
	}
	return buf.String(), nil
}

// refuseBody answers for an error of body and counts it.
func (c *Collector) refuseBody(w http.ResponseWriter, err error) int {
	code, reason := http.StatusBadRequest, "body_unreadable"
	switch {
	case errors.Is(err, errTooLarge):
		code, reason = http.StatusRequestEntityTooLarge, "body_too_large"
	case errors.Is(err, errEncoding):
		code, reason = http.StatusUnsupportedMediaType, "body_encoding"
	}
	c.m.reject(reason, 1)
	w.Header().Set("Connection", "close") // the rest of the body is not read
	return refuse(w, code, "%v", err)
}

func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// queryArg gives a decoded query argument, or "".
func queryArg(raw, name string) string {
	for raw != "" {
		var arg string
		arg, raw, _ = strings.Cut(raw, "&")
		if k, v, ok := strings.Cut(arg, "="); ok && k == name {
			return unescape(v)
		}
	}
	return ""
}
