package leanhttp

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// together is how much of an answer is put into one write, bytes.
	together = 32 << 10
	// unannounced is how much of a body whose length was not announced is kept to
	// count it; more is sent in chunks (RFC 9112 section 7.1).
	unannounced = 2 << 10
)

// writer is the http.ResponseWriter. It is used again for the connection's next request.
type writer struct {
	c      *conn
	header http.Header
	head   bool // no body is sent: the request was HEAD
	close  bool // the connection ends with this answer

	code    int
	out     *[]byte // what is yet to be sent
	bodyAt  int     // where the body begins in out, while its length is not decided
	framing framing
	left    int64 // of the announced length; less than 0: what was written without one
	limited bool  // a deadline for this answer is set
	lines   string
	err     error
}

// framing says how the end of a body is told.
type framing uint8

const (
	undecided framing = iota
	counted           // by Content-Length
	chunked
	none // there is no body
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

func (w *writer) begin(r *http.Request) {
	clear(w.header)
	*w = writer{c: w.c, header: w.header, head: r.Method == http.MethodHead, close: r.Close || w.c.s.stopping.Load()}
}

func (w *writer) free() {
	if w.out != nil && cap(*w.out) <= 2*together {
		*w.out = (*w.out)[:0]
		buffers.Put(w.out)
	}
	w.out = nil
}

// Header is sent with the first call of WriteHeader or Write.
func (w *writer) Header() http.Header { return w.header }

// Lines adds lines of a header that many answers have, each with its line break,
// as they are: names that Header does not get. It must come before WriteHeader.
func (w *writer) Lines(lines string) { w.lines = lines }

// Liner is a writer of this package, which takes lines as they are.
type Liner interface{ Lines(lines string) }

// WriteHeader takes the header as it is now; only its first call counts.
func (w *writer) WriteHeader(code int) {
	if w.code != 0 || code < 200 { // there is no interim answer to a GET without Expect
		return
	}
	w.code = code
	if w.out == nil {
		w.out = buffers.Get().(*[]byte)
	}
	b := append(appendStatus(*w.out, code), w.lines...)
	w.framing = undecided
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.framing = none
	}
	for name, values := range w.header {
		switch name {
		case "Content-Length":
			n, err := strconv.ParseInt(values[0], 10, 64)
			if w.framing == none || err != nil || n < 0 {
				continue
			}
			w.framing, w.left = counted, n
		case "Transfer-Encoding":
			continue
		case "Connection":
			w.close = w.close || strings.EqualFold(values[0], "close")
			continue
		}
		for _, v := range values {
			b = append(append(append(b, name...), ": "...), oneLine(v)...)
			b = append(b, "\r\n"...)
		}
	}
	if _, ok := w.header["Date"]; !ok {
		b = append(b, dateLine(time.Now())...)
	}
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	if w.framing != undecided {
		b = append(b, "\r\n"...)
	}
	w.bodyAt = len(b)
	*w.out = b
}

// oneLine keeps a value from being read as more than one.
func oneLine(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		return strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
	}
	return v
}

func appendStatus(b []byte, code int) []byte {
	if code == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(code), 10)
	return append(append(append(b, ' '), http.StatusText(code)...), "\r\n"...)
}

// Write sends b, or keeps it until it can be sent together with what follows. It
// returns http.ErrContentLength beyond the length that was announced.
func (w *writer) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.framing == none && !w.head:
		return 0, http.ErrBodyNotAllowed
	case w.framing == counted && int64(len(b)) > w.left:
		w.close = w.close || !w.head // nobody knows what the handler meant
		return 0, http.ErrContentLength
	}
	w.left -= int64(len(b))
	if w.head || len(b) == 0 {
		return len(b), nil
	}
	if w.framing == undecided {
		if len(*w.out)-w.bodyAt+len(b) <= unannounced {
			*w.out = append(*w.out, b...)
			return len(b), nil
		}
		w.chunk()
	}
	if w.framing == chunked {
		*w.out = append(strconv.AppendInt(*w.out, int64(len(b)), 16), "\r\n"...)
	}
	if len(*w.out)+len(b) <= together {
		*w.out = append(*w.out, b...)
	} else if !w.send(b) {
		return 0, w.err
	}
	if w.framing == chunked {
		*w.out = append(*w.out, "\r\n"...)
	}
	return len(b), nil
}

// chunk ends the header of an answer in chunks; what is kept of the body becomes the first.
func (w *writer) chunk() {
	w.framing = chunked
	b := *w.out
	kept := string(b[w.bodyAt:])
	b = append(b[:w.bodyAt], "Transfer-Encoding: chunked\r\n\r\n"...)
	if kept != "" {
		b = append(strconv.AppendInt(b, int64(len(kept)), 16), "\r\n"...)
		b = append(append(b, kept...), "\r\n"...)
	}
	*w.out = b
}

// FlushError sends what is kept.
func (w *writer) FlushError() error {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.framing == undecided && w.head:
		w.framing = none
		*w.out = append(*w.out, "\r\n"...)
	case w.framing == undecided:
		w.chunk()
	}
	w.send(nil)
	return w.err
}

// Flush is for http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // the next Write tells

// SetWriteDeadline is for http.ResponseController; see the package's comment for how exact it is.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.allow(time.Until(t))
	w.limited = true
	return nil
}

func (w *writer) allow(d time.Duration) {
	w.c.writeBy = later(w.c.writeBy, time.Now(), d, w.c.Conn.SetWriteDeadline)
}

// send writes what is kept, then b.
func (w *writer) send(b []byte) bool {
	if w.err != nil {
		return false
	}
	if !w.limited {
		w.allow(w.c.s.Rest.WriteTimeout)
	}
	switch {
	case len(b) == 0 && len(*w.out) == 0:
	case len(b) == 0:
		_, w.err = w.c.Conn.Write(*w.out)
	case len(*w.out) == 0:
		_, w.err = w.c.Conn.Write(b)
	default:
		all := net.Buffers{*w.out, b}
		_, w.err = all.WriteTo(w.c.Conn)
	}
	*w.out = (*w.out)[:0]
	return w.err == nil
}

// finish sends what is left and reports whether the connection can be used on.
func (w *writer) finish() bool {
	defer w.free()
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.framing == undecided && w.head && (w.left == 0 || w.left < -unannounced):
		*w.out = append(*w.out, "\r\n"...)
	case w.framing == undecided && w.head:
		*w.out = append(strconv.AppendInt(append(*w.out, "Content-Length: "...), -w.left, 10), "\r\n\r\n"...)
	case w.framing == undecided:
		b := *w.out
		body := string(b[w.bodyAt:])
		b = strconv.AppendInt(append(b[:w.bodyAt], "Content-Length: "...), int64(len(body)), 10)
		*w.out = append(append(b, "\r\n\r\n"...), body...)
	case w.framing == chunked:
		*w.out = append(*w.out, "0\r\n\r\n"...)
	case w.framing == counted && w.left > 0 && !w.head:
		w.close = true // whoever counts sees that something is missing
	}
	return w.send(nil) && !w.close
}

// dated is the Date line of one second.
type dated struct {
	unix int64
	line []byte
}

var date atomic.Pointer[dated]

func dateLine(now time.Time) []byte {
	d := date.Load()
	if s := now.Unix(); d == nil || d.unix != s {
		d = &dated{s, []byte("Date: " + now.UTC().Format(http.TimeFormat) + "\r\n")}
		date.Store(d)
	}
	return d.line
}
