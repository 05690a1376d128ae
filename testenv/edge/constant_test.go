package edge_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// taker is a viewer's end of a connection: it keeps nothing but the status.
type taker struct {
	header http.Header
	code   int
}

func (w *taker) Header() http.Header         { return w.header }
func (w *taker) Write(p []byte) (int, error) { return len(p), nil }
func (w *taker) WriteHeader(code int)        { w.code = code }

// watched is an origin with a stream that goes on part by part.
type watched struct {
	t    *testing.T
	bus  *bustest.Bus
	pub  *media.Publisher
	url  string
	part int // the next, counted from the stream's first
}

const (
	firstMSN = 5
	parts    = 10 // of a segment
)

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, bus: bustest.Start(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + l.Addr().String()
	o := &origin.Origin{JetStream: w.bus.JS, Listener: l, Registerer: prometheus.NewRegistry()}
	running.Start(t, o.Run)
	w.pub = &media.Publisher{Clip: media.Load(t), Key: schemas.StreamKey{App: "live", Stream: "x"}, FirstMSN: firstMSN, Start: time.Now()}
	if err := w.pub.Announce(t.Context(), w.bus.JS); err != nil {
		t.Fatal(err)
	}
	w.push(25)
	return w
}

func (w *watched) push(n int) {
	w.t.Helper()
	for range n {
		if err := w.pub.Push(w.t.Context(), w.bus.JS); err != nil {
			w.t.Fatal(err)
		}
		w.part++
	}
}

// all has every viewer ask at once and gives the time that it took.
func all(t *testing.T, e *edge.Edge, viewers int, prefix string, path func(viewer int) string) time.Duration {
	t.Helper()
	begun := time.Now()
	var wg sync.WaitGroup
	for v := range viewers {
		wg.Go(func() {
			w := &taker{header: http.Header{}}
			p := path(v)
			e.ServeHTTP(w, httptest.NewRequest(http.MethodGet, prefix+p, nil))
			if w.code != http.StatusOK {
				t.Errorf("%s: %d", p, w.code)
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// asked is what an edge asked the origin for: while viewers joined, in all, and
// then for each part. Each has the most that it may be, whatever the number of viewers.
type asked struct{ join, maxJoin, perPart, maxPerPart float64 }

// How long an edge gives away a playlist that was asked for without directives,
// and one that was asked for with them, seconds. Who asks later makes it ask again.
const (
	freshSec   = 0.2
	versionSec = 4
)

// follow has viewers join and then follow the live edge for some parts, half of
// them one part behind the others.
func (w *watched) follow(viewers int) (a asked) {
	w.t.Helper()
	e := start(w.t, edge.Settings{Origins: []string{w.url}})
	prefix := "/t/" + sign(w.t, token.Session{SessionID: "s1", App: "live", Stream: "x"}) + "/live/x/src/video/"
	took := all(w.t, e, viewers, prefix, func(int) string { return "playlist.m3u8" })
	a.join, a.maxJoin = float64(e.Stats().OriginRequests), 1+took.Seconds()/freshSec

	const steps = parts + 1 // so that a segment ends
	before, begun := e.Stats().OriginRequests, time.Now()
	newest := func(v int) (msn, part int) {
		n := w.part - 1 - v%2
		return firstMSN + n/parts, n % parts
	}
	for range steps {
		w.part++
		pushed := make(chan error, 1)
		go func() { pushed <- w.pub.Push(w.t.Context(), w.bus.JS) }() // while they ask
		all(w.t, e, viewers, prefix, func(v int) string {
			msn, part := newest(v)
			return fmt.Sprintf("playlist.m3u8?_HLS_msn=%d&_HLS_part=%d&_HLS_skip=YES", msn, part)
		})
		if err := <-pushed; err != nil {
			w.t.Fatal(err)
		}
		all(w.t, e, viewers, prefix, func(v int) string {
			msn, part := newest(v)
			return (&schemas.Part{Epoch: 1, MSN: uint64(msn), Part: uint32(part)}).FileName()
		})
	}
	a.perPart = float64(e.Stats().OriginRequests-before) / steps
	// One playlist and one part; at the begin those of the viewers who are behind. Two
	// versions are asked for at a time, which a slow machine lets expire.
	a.maxPerPart = 2 + (2+2*time.Since(begun).Seconds()/versionSec)/steps
	if got := e.Stats().Requests; got != uint64(viewers*(1+2*steps)) {
		w.t.Errorf("the edge has answered %d requests", got)
	}
	return a
}

// An edge asks the origin once for each part and each version of a playlist,
// whether ten watch or a thousand, and while they join once for each fifth of a
// second.
func TestOriginRequestsAreConstant(t *testing.T) {
	w := watch(t)
	for _, viewers := range []int{10, 1000} {
		a := w.follow(viewers)
		t.Logf("%d viewers: %+v", viewers, a)
		if a.perPart > a.maxPerPart || a.perPart < 2 {
			t.Errorf("%d viewers: %.2f requests to the origin for each part, want 2 to %.2f", viewers, a.perPart, a.maxPerPart)
		}
		if a.join > a.maxJoin {
			t.Errorf("%d viewers: %.0f requests to the origin when they join, want %.1f at most", viewers, a.join, a.maxJoin)
		}
	}
}
