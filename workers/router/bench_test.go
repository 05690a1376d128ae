package router_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/router"
)

// sink is a response that nobody reads.
type sink struct {
	h    http.Header
	code int
	n    int
}

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) WriteHeader(code int)        { s.code = code }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }

// benchRouter answers for 20 CDNs and viewers of 200 places; places gives a request of each.
func benchRouter(b *testing.B) (h http.Handler, places func(path string) []*http.Request) {
	bus := bustest.Start(b)
	for i := range 20 {
		c := cdn(fmt.Sprint("cdn", i+1), i, 0)
		c.BaseURL, c.CapacityViewers = "https://"+c.Name+".example", 100_000_000
		c.RegionCapacity = map[string]schemas.Capacity{"region1": {Viewers: 100_000_000}, "region2": {Bps: 1e15}}
		put(b, bus.JS, schemas.BucketCDNs, c.Name, c)
	}
	s := state(key, "cdn1")
	s.UpdatedUnixUs = time.Now().Add(time.Hour).UnixMicro()
	put(b, bus.JS, schemas.BucketStreams, key.KVKey(), s)
	r := start(b, bus.JS, func(s *router.Settings) { s.Policy, s.PublicURL = "quality", "http://router.example" })
	return r.Handler(), func(path string) []*http.Request {
		var out []*http.Request
		for i := range 200 {
			q := httptest.NewRequest("GET", path, nil)
			q.RemoteAddr = "127.0.0.1:9"
			q.Header.Set("X-Spillway-Region", fmt.Sprint("region", i/20))
			q.Header.Set("X-Spillway-ISP", fmt.Sprint("isp", i%20))
			out = append(out, q)
		}
		return out
	}
}

// Answers of the router, without HTTP. cpu-ns/op is of the thread that answers:
// decisions are made and queued in it; the bus and what is read back from it is in
// ns/op only, as far as it holds the answers up.
func BenchmarkAnswers(b *testing.B) {
	h, places := benchRouter(b)
	path := "/v1/dispatch?" + url.Values{"app": {key.App}, "stream": {key.Stream}, "viewer": {"bench"}}.Encode()
	ask := func(b *testing.B, requests []*http.Request) {
		w := &sink{h: http.Header{}}
		b.ReportAllocs()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		from := threadCPU(b)
		for i := 0; b.Loop(); i++ {
			clear(w.h)
			w.code = 200
			if h.ServeHTTP(w, requests[i%len(requests)]); w.code != 200 {
				b.Fatal(w.code)
			}
		}
		b.ReportMetric(float64((threadCPU(b)-from).Nanoseconds())/float64(b.N), "cpu-ns/op") // whatever else the machine does
		b.ReportMetric(float64(w.n)/float64(b.N), "bytes/op")
	}
	b.Run("dispatch", func(b *testing.B) { ask(b, places(path)) })
	b.Run("steering", func(b *testing.B) {
		var requests []*http.Request
		for i, q := range places(path) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, q)
			tok := tokenIn(b, w.Body.Bytes())
			s := places("/v1/steering?s=" + tok + "&_HLS_pathway=cdn1&_HLS_throughput=5000000")[i]
			requests = append(requests, s)
		}
		ask(b, requests)
	})
}

// threadCPU is the CPU that this thread has had.
func threadCPU(b *testing.B) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func tokenIn(b *testing.B, body []byte) string {
	var d schemas.Dispatch
	if err := json.Unmarshal(body, &d); err != nil || d.Token == "" {
		b.Fatal(string(body))
	}
	return d.Token
}
