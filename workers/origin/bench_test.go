package origin

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchStream(b *testing.B) (*testOrigin, *media.Publisher, *bustest.Bus) {
	bus := bustest.Start(b)
	o := run(b, bus.JS, func(o *Origin) { o.HoldLimit = 50 * time.Second })
	pack(b, bus.JS)
	p := publisher(b, media.Load(b), bus.JS)
	push(b, p, bus.JS, 25)
	if a := get(b, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=4"); a.code != 200 {
		b.Fatalf("%d", a.code)
	}
	return o, p, bus
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkPart is the origin's own work for one part, without the network.
func BenchmarkPart(b *testing.B) {
	o, _, _ := benchStream(b)
	r := httptest.NewRequest(http.MethodGet, videoPath+"1-6.3.m4s", nil)
	b.ReportAllocs()
	for b.Loop() {
		o.serve(&discard{http.Header{}}, r)
	}
}

// BenchmarkPartHTTP is the whole way over loopback HTTP/1.1; CPU is that of
// server and client together.
func BenchmarkPartHTTP(b *testing.B) {
	o, _, _ := benchStream(b)
	c, err := net.Dial("tcp", o.url[len("http://"):])
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	start, n := cpu(b), 0
	for b.Loop() {
		fmt.Fprintf(c, "GET %s1-6.3.m4s HTTP/1.1\r\nHost: x\r\n\r\n", videoPath)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(err, resp)
		}
		if _, err := r.Discard(int(resp.ContentLength)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(n), "cpu-us/req")
}

// BenchmarkBlockedReload holds a thousand reloads of one playlist until the next
// part comes, without the network.
func BenchmarkBlockedReload(b *testing.B) {
	o, p, bus := benchStream(b)
	const waiters = 1000
	part := 25
	start, n := cpu(b), 0
	for b.Loop() {
		url := fmt.Sprintf("%splaylist.m3u8?_HLS_msn=%d&_HLS_part=%d", videoPath, 5+part/10, part%10)
		var wg sync.WaitGroup
		for range waiters {
			wg.Go(func() {
				o.serve(&discard{http.Header{}}, httptest.NewRequest(http.MethodGet, url, nil))
			})
		}
		for gauge(o.m.held) < waiters {
			time.Sleep(time.Millisecond)
		}
		push(b, p, bus.JS, 1)
		wg.Wait()
		part++
		n += waiters
	}
	b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(n), "cpu-ns/reload")
}

// BenchmarkPipeline is the CPU of bus, packager and origin for one chunk of a
// watched stream, without ingest and readers.
func BenchmarkPipeline(b *testing.B) {
	o, p, bus := benchStream(b)
	part := 25
	start, n := cpu(b), 0
	for b.Loop() {
		push(b, p, bus.JS, 1)
		if a := get(b, fmt.Sprintf("%s%splaylist.m3u8?_HLS_msn=%d&_HLS_part=%d", o.url, videoPath, 5+part/10, part%10)); a.code != 200 {
			b.Fatalf("%d", a.code)
		}
		part++
		n++
	}
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(n), "cpu-us/chunk")
}
