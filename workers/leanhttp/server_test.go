package leanhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
)

// running is a server with its connections counted.
type running struct {
	addr         string
	taken, ended atomic.Int64
	stop         func(context.Context) error
}

func rest(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute, WriteTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

func start(t testing.TB, h http.Handler, change ...func(*http.Server)) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{addr: l.Addr().String()}
	s := &Server{Rest: rest(h), Logger: slog.New(slog.DiscardHandler), Closed: func(net.Conn) { r.ended.Add(1) }}
	s.Rest.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { r.taken.Add(1); return ctx }
	for _, c := range change {
		c(s.Rest)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	once := sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return s.Shutdown(ctx)
	})
	r.stop = func(context.Context) error { return once() }
	t.Cleanup(func() {
		if err := once(); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		await.True(t, "every connection is told closed once", func() bool { return r.ended.Load() == r.taken.Load() })
	})
	return r
}

// variety answers in every way that a handler can.
func variety(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Seen", fmt.Sprintf("%s %s %s %q", r.Method, r.URL, r.Host, r.Header.Get("X-Ask")))
	if l, ok := w.(Liner); ok {
		l.Lines("X-Line: a\r\n")
	} else {
		h.Set("X-Line", "a")
	}
	h.Set("Content-Type", "text/plain")
	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	flush := http.NewResponseController(w).Flush
	switch r.URL.Path {
	case "/nothing":
	case "/empty":
		w.WriteHeader(http.StatusNoContent)
	case "/short":
		fmt.Fprint(w, "not announced")
	case "/counted":
		h.Set("Content-Length", "3")
		fmt.Fprint(w, "abc")
	case "/large":
		h.Set("Content-Length", fmt.Sprint(len(big)))
		_, _ = w.Write(big)
	case "/unannounced":
		for range 3 {
			_, _ = w.Write(big)
			fmt.Fprint(w, "-")
		}
	case "/streamed":
		for i := range 5 {
			fmt.Fprintf(w, "piece %d\n", i)
			_ = flush()
		}
	case "/flushed":
		_ = flush()
	case "/object":
		h.Set("Etag", `"tag"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(big))
	case "/split":
		h.Set("X-Split", "a\r\nSet-Cookie: b")
		http.Error(w, "teapot", http.StatusTeapot)
		w.WriteHeader(http.StatusOK) // comes too late
	case "/more":
		h.Set("Content-Length", "3")
		_, _ = w.Write([]byte("abc"))
		if _, err := w.Write([]byte("d")); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	case "/less":
		h.Set("Content-Length", "30")
		fmt.Fprint(w, "abc")
	case "/close":
		h.Set("Connection", "close")
		fmt.Fprint(w, "bye")
	case "/broken":
		fmt.Fprint(w, "x")
		_ = flush()
		panic(http.ErrAbortHandler)
	case "/panic":
		panic("on purpose")
	default:
		http.NotFound(w, r)
	}
}

// outcome is what came back over one connection.
type outcome struct{ answers, end string }

// exchange sends bytes and reads answers, one for each request, until all are
// there or the connection ends.
func exchange(t testing.TB, addr, in string, methods ...string) (o outcome) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, in); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	var b strings.Builder
	for _, m := range methods {
		resp, err := http.ReadResponse(r, &http.Request{Method: m})
		if err != nil {
			o.end = "no answer"
			break
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Date") == "" && resp.StatusCode != 400 && resp.StatusCode != 431 && resp.StatusCode != 505 {
			t.Errorf("%.60q: no Date", in)
		}
		resp.Header.Del("Date")
		fmt.Fprintf(&b, "%s %v length %d %v close %t body %d %.60q %v\n", resp.Status, resp.Header, resp.ContentLength, resp.TransferEncoding, resp.Close, len(body), body, err)
		if resp.Close || err != nil {
			_, err := r.ReadByte()
			o.end = fmt.Sprintf("closed: %t", err != nil)
			break
		}
	}
	o.answers = b.String()
	return o
}

// Every exchange is answered as net/http alone answers it.
func TestAnswersAsNetHTTPDoes(t *testing.T) {
	t.Parallel()
	own := start(t, http.HandlerFunc(variety))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	std := rest(http.HandlerFunc(variety))
	go func() { _ = std.Serve(l) }()
	t.Cleanup(func() { _ = std.Close() })

	type try struct {
		in      string
		methods []string
	}
	var tries []try
	for _, path := range []string{"nothing", "empty", "short", "counted", "large", "unannounced", "streamed", "flushed", "object", "split", "more", "less", "close", "broken", "panic", "none"} {
		for _, method := range []string{"GET", "HEAD"} {
			one := method + " /" + path + " HTTP/1.1\r\nHost: h\r\nX-Ask: q\r\n\r\n"
			tries = append(tries, try{one + one, []string{method, method}})
		}
	}
	for _, h := range []string{
		"Range: bytes=5-9", "Range: bytes=0-1,4-5", "Range: bytes=-3", "Range: bytes=999999999-", `If-None-Match: "tag"`, `If-Match: "x"`, "Range: bytes=0-0\r\nIf-Range: \"tag\"",
	} {
		one := "GET /object HTTP/1.1\r\nHost: h\r\n" + h + "\r\n\r\n"
		if strings.Contains(h, ",") {
			continue // boundaries are random
		}
		tries = append(tries, try{one + "GET /short HTTP/1.1\r\nHost: h\r\n\r\n", []string{"GET", "GET"}})
	}
	const next = "GET /counted HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, in := range []string{
		next + "GET /short HTTP/1.0\r\n\r\n",
		next + "GET /short HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + next,
		next + "POST /short HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + next,
		next + "POST /short HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + next,
		next + "GET /short HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next,
		next + "GET /sh%6frt HTTP/1.1\r\nHost: h\r\n\r\n" + next,
		next + "GET http://h/short HTTP/1.1\r\nHost: h\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\nHost: a\n\n" + next,
		"GET /short HTTP/1.1\nHost: a\nConnection: close\n\n",
		next + "GET /short HTTP/1.1\r\nHost: a\nConnection: close\n\r\n",
		next + "GET /short HTTP/1.1\r\nHost: a\r\nX-Ask: b\r\n c\r\n\r\n" + next,
		next + "GET /short HTTP/1.1\r\nHost: a\r\nX-Ask: " + strings.Repeat("x", maxHead) + "\r\n\r\n" + next,
		next + "nonsense\r\n\r\n" + next,
		next + "GET /short HTTP/3.0\r\nHost: a\r\n\r\n" + next,
		strings.Repeat(next, 200),
	} {
		n := max(3, strings.Count(in, "HTTP/1.1\r\n"))
		methods := make([]string, 0, n)
		for range n {
			methods = append(methods, "GET")
		}
		tries = append(tries, try{in, methods[:min(n, max(2, strings.Count(in, "HTTP/")))]})
	}
	// net/http answers 431 and resets the connection, which may overtake the answer.
	long := next + "GET /short HTTP/1.1\r\nHost: a\r\nX-Ask: " + strings.Repeat("x", 64<<10) + "\r\n\r\n" + next
	if got := exchange(t, own.addr, long, "GET", "GET", "GET"); !strings.HasPrefix(got.answers, "200") || strings.Count(got.answers, "200 OK") > 1 {
		t.Errorf("a long head: %s", got.answers)
	}
	for _, c := range tries {
		got, want := exchange(t, own.addr, c.in, c.methods...), exchange(t, l.Addr().String(), c.in, c.methods...)
		if got != want {
			t.Errorf("%.160q:\n%s%s\nnet/http:\n%s%s", c.in, got.answers, got.end, want.answers, want.end)
		}
	}
}

// A head that comes byte by byte is read, and one that does not come is not waited for.
func TestHeadsTrickleIn(t *testing.T) {
	t.Parallel()
	s := start(t, http.HandlerFunc(variety), func(r *http.Server) { r.ReadHeaderTimeout, r.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond })
	for _, c := range []struct{ name, first, then string }{
		{"nothing comes", "", ""},
		{"half a head", "GET /short HT", ""},
		{"idle after an answer", "GET /short HTTP/1.1\r\nHost: h\r\n\r\n", ""},
		{"half a head after an answer", "GET /short HTTP/1.1\r\nHost: h\r\n\r\n", "GET"},
	} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, c.first)
		r := bufio.NewReader(conn)
		if strings.HasSuffix(c.first, "\r\n\r\n") {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_, _ = io.WriteString(conn, c.then)
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		conn.Close()
	}
	slow := start(t, http.HandlerFunc(variety))
	conn, err := net.Dial("tcp", slow.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, head := range []string{"GET /short HTTP/1.1\r\nHost: h\r\n\r\n", "GET /short HTTP/1.1\nHost: h\n\n"} {
		for i := range head {
			if _, err := io.WriteString(conn, head[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%q byte by byte: %v", head, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// At the end idle connections are closed, held requests are answered, whether
// they are served here or by net/http, and nothing is left.
func TestShutdown(t *testing.T) {
	t.Parallel()
	var held atomic.Int64
	release := make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			held.Add(1)
			<-release
		}
		fmt.Fprint(w, "done")
	}))
	open := func(head string) (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	ask := func(r *bufio.Reader) *http.Response {
		t.Helper()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "done" {
			t.Errorf("%q %v", b, err)
		}
		return resp
	}
	_, idle := open("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	ask(idle)
	_, here := open("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
	_, there := open("GET /held HTTP/1.1\r\nHost: h\r\nPragma: x\r\n\r\n")
	await.True(t, "both are held", func() bool { return held.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(t.Context()) }()
	if _, err := idle.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection: %v", err)
	}
	select {
	case err := <-stopped:
		t.Errorf("it did not wait for what is held: %v", err)
	default:
	}
	close(release)
	ask(here)
	ask(there)
	if _, err := here.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("shut down: %v", err)
	}
}

// A reader that takes nothing is cut off within its time, and not sooner.
func TestWritersHaveDeadlines(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<40))
		out := http.NewResponseController(w)
		for b := make([]byte, 256<<10); ; {
			if err := out.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				failed <- err
				return
			}
			if _, err := w.Write(b); err != nil {
				failed <- err
				return
			}
		}
	}))
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if err := <-failed; !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("the write ended with %v", err)
	}
}

// What a handler leaves in its request does not meet the next one.
func TestRequestsDoNotInheritForms(t *testing.T) {
	t.Parallel()
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %t", r.FormValue("who"), r.Body == http.NoBody)
		r.Body = http.MaxBytesReader(w, r.Body, 1)
	}))
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	for _, who := range []string{"a", "b"} {
		fmt.Fprintf(c, "GET /?who=%s HTTP/1.1\r\nHost: h\r\n\r\n", who)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != fmt.Sprintf("%q true", who) {
			t.Errorf("%s was answered %s, %v", who, b, err)
		}
	}
}

// A connection that is accepted while the server stops is closed at once, so
// that nothing begins behind Shutdown's back.
func TestAcceptedWhileStopping(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	closed := 0
	s := &Server{Rest: rest(http.NotFoundHandler()), Logger: slog.New(slog.DiscardHandler), Closed: func(net.Conn) { closed++ }}
	s.conns = map[*conn]struct{}{}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.took(t.Context(), rw); closed != 1 || len(s.conns) != 0 {
		t.Errorf("told closed %d times, %d connections are served", closed, len(s.conns))
	}
}
