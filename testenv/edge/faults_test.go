package edge_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/edge"
)

// TestRateIsSharedFairly sends 600 kB over four connections at 2.4 Mbit/s:
// 2 s in all. Only the lower bound is a promise of the edge's; the upper one is generous.
func TestRateIsSharedFairly(t *testing.T) {
	const size, conns, bps = 150_000, 4, 2_400_000
	body := bytes.Repeat([]byte("m"), size)
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write(body)
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	u := e.URL() + "/t/" + tok + "/live/x/big"
	if a := get(u); len(a.body) != size {
		t.Fatalf("without a fault: %d bytes, %v", len(a.body), a.err)
	}
	if err := e.SetFault(schemas.Fault{RateBps: bps}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var wg sync.WaitGroup
	var half [conns]atomic.Int64 // bytes each had when the first one was through
	var got [conns]atomic.Int64
	var once sync.Once
	for i := range conns {
		wg.Go(func() {
			res, err := (&http.Client{Transport: &http.Transport{}}).Get(u)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			buf := make([]byte, 4096)
			for {
				n, err := res.Body.Read(buf)
				if got[i].Add(int64(n)) == size {
					once.Do(func() {
						for j := range conns {
							half[j].Store(got[j].Load())
						}
					})
				}
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	want := time.Duration(float64(size*conns*8) / bps * float64(time.Second))
	if took < want*8/10 || took > want*5 {
		t.Errorf("%d bytes took %v at %d bit/s, want about %v", size*conns, took, bps, want)
	}
	for i := range conns {
		if n := half[i].Load(); n < size/2 {
			t.Errorf("connection %d had %d of %d bytes when the first one was through", i, n, size)
		}
	}
}

// TestWayToOneRegion: a connection's rate of one region is met by its viewers, each
// for himself, and by nobody else. Only the lower bound of the time is a promise.
func TestWayToOneRegion(t *testing.T) {
	const size, bps = 20_000, 400_000 // 0.4 s
	body := bytes.Repeat([]byte("m"), size)
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write(body)
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	if err := e.SetFault(schemas.Fault{ConnectionRateBps: bps, Region: "us"}); err != nil {
		t.Fatal(err)
	}
	took := func(session, region string) time.Duration {
		tok := sign(t, token.Session{SessionID: session, App: "live", Stream: "x", Region: region})
		begin := time.Now()
		if a := get(e.URL() + "/t/" + tok + "/live/x/big"); len(a.body) != size {
			t.Errorf("%s: %d bytes, %v", region, len(a.body), a.err)
		}
		return time.Since(begin)
	}
	least := time.Duration(float64(size*8) / bps * float64(time.Second))
	var wg sync.WaitGroup
	for _, session := range []string{"s1", "s2", "s3", "s4"} {
		wg.Go(func() {
			if d := took(session, "us"); d < least*9/10 {
				t.Errorf("%d bytes came in %v at %d bit/s", size, d, bps)
			}
		})
	}
	wg.Wait()
	// An answer that is late beyond any rate would be the fault's: of hundreds of seconds at least.
	if err := e.SetFault(schemas.Fault{ConnectionRateBps: 800, Region: "us"}); err != nil {
		t.Fatal(err)
	}
	if d := took("s5", "eu"); d > time.Minute {
		t.Errorf("another region's viewer waited %v", d)
	}
	for _, f := range []schemas.Fault{{ConnectionRateBps: -1}, {Region: "us", Down: true}, {Region: "us", RateBps: 1000}, {Region: "us", FreezePlaylists: true}} {
		if e.SetFault(f) == nil {
			t.Errorf("fault %+v is accepted", f)
		}
	}
}

func TestHealingEndsTheQueue(t *testing.T) {
	body := bytes.Repeat([]byte("m"), 1<<20)
	o := server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) })
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	if err := e.SetFault(schemas.Fault{RateBps: 8_000}); err != nil { // 17 minutes for it all
		t.Fatal(err)
	}
	done := make(chan answer, 1)
	go func() { done <- get(e.URL() + "/t/" + tok + "/live/x/big") }()
	await.True(t, "the slow answer has begun", func() bool { return e.Stats().Bytes > 0 })
	if err := e.SetFault(schemas.Fault{}); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-done:
		if len(a.body) != len(body) {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("still slow after healing")
	}
}

func TestErrorRateAndLatency(t *testing.T) {
	o := server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("ok")) })
	e := start(t, edge.Settings{Origins: []string{o.URL}, Seed: 7})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	u := e.URL() + "/t/" + tok + "/live/x/y"
	if err := e.SetFault(schemas.Fault{ErrorRate: 0.3}); err != nil {
		t.Fatal(err)
	}
	bad := 0
	for range 300 {
		switch a := get(u); a.status {
		case 503:
			bad++
		case 200:
		default:
			t.Fatalf("%+v", a)
		}
	}
	if bad < 60 || bad > 120 { // 90 expected, 8 is one standard deviation; the seed makes it repeatable
		t.Errorf("%d of 300 answers failed at a rate of 0.3", bad)
	}
	if err := e.SetFault(schemas.Fault{LatencyMs: 150}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if a := get(u); a.status != 200 || time.Since(begin) < 150*time.Millisecond {
		t.Errorf("%d after %v with 150 ms of latency", a.status, time.Since(begin))
	}
	for _, f := range []schemas.Fault{{RateBps: -1}, {ErrorRate: 1.5}, {LatencyMs: -1}} {
		if e.SetFault(f) == nil {
			t.Errorf("fault %+v is accepted", f)
		}
	}
}

func TestGoingDownEndsWaitingRequests(t *testing.T) {
	asked := make(chan struct{}, 8)
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	done := make(chan answer, 1)
	go func() { done <- get(e.URL() + "/t/" + tok + "/live/x/src/video/playlist.m3u8?_HLS_msn=9") }()
	<-asked
	if err := e.SetFault(schemas.Fault{Down: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-done:
		if a.err == nil {
			t.Errorf("a dead edge answered %d", a.status)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a request outlived its edge")
	}
	if a := get(e.URL() + "/t/" + tok + "/live/x/y"); a.err == nil {
		t.Errorf("a dead edge answered %d", a.status)
	}
}

func TestLogLines(t *testing.T) {
	var mu sync.Mutex
	var lines []schemas.CDNLogLine
	var away atomic.Bool
	away.Store(true)
	collector := server(t, func(w http.ResponseWriter, r *http.Request) {
		if away.Load() || r.URL.Path != "/v1/cdnlog" || r.Header.Get("X-Spillway-Edge-Key") != "sesame" {
			w.WriteHeader(503)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		d := json.NewDecoder(r.Body)
		for {
			var l schemas.CDNLogLine
			if err := d.Decode(&l); err == io.EOF {
				break
			} else if err != nil {
				t.Error(err)
				return
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			lines = append(lines, l)
		}
		w.WriteHeader(204)
	})
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write([]byte("media"))
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}, Collector: collector.URL, EdgeKey: "sesame"})
	tok := sign(t, token.Session{SessionID: "s1", ViewerID: "v", App: "live", Stream: "x", Arms: "e=b", Region: "eu", ISP: "i"})
	u := e.URL() + "/t/" + tok + "/live/x/src/video/1-0.m4s"
	get(u + "?CMCD=bl%3D%281200%29%2Csid%3D%22s1%22")
	get(u, func(r *http.Request) {
		r.Header.Set("CMCD-Request", "bl=(900)")
		r.Header.Set("CMCD-Session", `sid="s1"`)
	})
	get(e.URL() + "/live/x/src/video/1-0.m4s")
	away.Store(false)
	await.True(t, "the collector has three lines", func() bool { mu.Lock(); defer mu.Unlock(); return len(lines) >= 3 })
	mu.Lock()
	defer mu.Unlock()
	a, b, c := lines[0], lines[1], lines[2]
	for i, l := range lines[:3] {
		if l.Seq != uint64(i+1) || l.CDN != "a" || l.Path != "/live/x/src/video/1-0.m4s" || "http://"+l.Server != e.URL() || l.Boot == "" {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if a.CMCD != `bl=(1200),sid="s1"` || a.Status != 200 || a.Bytes != 5 || a.CacheHit || a.SessionID != "s1" || a.ViewerID != "v" || a.Arms != "e=b" || a.Region != "eu" || a.ISP != "i" || a.App != "live" || a.Stream != "x" {
		t.Errorf("first line %+v", a)
	}
	if !b.CacheHit || b.CMCDHeaders != `bl=(900),sid="s1"` || b.CMCD != "" {
		t.Errorf("second line %+v", b)
	}
	if c.Status != 403 || c.SessionID != "" || c.Reason == "" {
		t.Errorf("third line %+v", c)
	}
	await.True(t, "the edge has counted the collector's answer", func() bool {
		s := e.Stats()
		return s.LogLinesSent == 3 && s.LogLinesDropped == 0
	})
}

func TestLogLinesAreBounded(t *testing.T) {
	o := server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("ok")) })
	e := start(t, edge.Settings{Origins: []string{o.URL}, Collector: "http://127.0.0.1:1", MaxLogLines: 20})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	for range 50 {
		get(e.URL() + "/t/" + tok + "/live/x/y")
	}
	await.True(t, "lines beyond the bound are counted", func() bool { n := e.Stats().LogLinesDropped; return n >= 30 && n <= 35 })
}
