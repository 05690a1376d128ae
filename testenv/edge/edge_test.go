package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/running"
)

var signer = func() *token.Signer {
	s, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		panic(err)
	}
	return s
}()

func sign(t testing.TB, c token.Session) string {
	t.Helper()
	if c.ExpiresUnix == 0 {
		c.ExpiresUnix = time.Now().Add(time.Hour).Unix()
	}
	tok, err := signer.SignSession(c)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func start(t testing.TB, s edge.Settings) *edge.Edge {
	t.Helper()
	if s.Name == "" {
		s.Name = "a"
	}
	s.Signer = signer
	s.Registerer = prometheus.NewRegistry()
	e, err := edge.New(s)
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, e.Run)
	return e
}

func server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status int
	body   string
	header http.Header
	err    error
}

func get(url string, edit ...func(*http.Request)) answer {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return answer{err: err}
	}
	for _, f := range edit {
		f(r)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(b), res.Header, err}
}

func TestThousandWaitingReloadsAreOneOriginRequest(t *testing.T) {
	const n = 1000
	var asked atomic.Int64
	release := make(chan struct{})
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-release
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "#EXTM3U")
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	var wg sync.WaitGroup
	answers := make([]answer, n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	for i := range n {
		tok := sign(t, token.Session{SessionID: fmt.Sprint("s", i), App: "live", Stream: "x"})
		wg.Go(func() {
			// Every viewer spells the question in its own way.
			res, err := client.Get(fmt.Sprintf("%s/t/%s/live/x/src/video/playlist.m3u8?_HLS_part=1&CMCD=sid%%3D%d&_HLS_msn=7&_HLS_throughput=%d", e.URL(), tok, i, i))
			if err != nil {
				answers[i].err = err
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			answers[i] = answer{res.StatusCode, string(b), res.Header, err}
		})
	}
	await.True(t, "all sessions are seen", func() bool { return e.Stats().Viewers == n })
	close(release)
	wg.Wait()
	for i, a := range answers {
		if a.err != nil || a.status != 200 || a.body != "#EXTM3U" {
			t.Fatalf("answer %d: %+v", i, a)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("%d identical waiting requests made %d origin requests, want 1", n, asked.Load())
	}
	if s := e.Stats(); s.Hits+s.Coalesced != n-1 || s.OriginRequests != 1 {
		t.Errorf("stats %+v: want %d hits and coalesced, 1 origin request", s, n-1)
	}
}

func TestTokens(t *testing.T) {
	var paths sync.Map
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.RequestURI(), true)
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "media")
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	good := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	old := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x", ExpiresUnix: 1})
	publish, err := signer.SignPublish(token.Publish{App: "live", Stream: "x", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		status     int
		says       string
	}{
		{"valid", "/t/" + good + "/live/x/src/video/1-0.m4s", 200, "media"},
		{"none", "/live/x/src/video/1-0.m4s", 403, "token is needed"},
		{"expired", "/t/" + old + "/live/x/src/video/1-0.m4s", 403, "expired"},
		{"tampered", "/t/" + good[:len(good)-2] + "AA/live/x/src/video/1-0.m4s", 403, "signature"},
		{"garbage", "/t/x/live/x/src/video/1-0.m4s", 403, "malformed"},
		{"publish key", "/t/" + publish + "/live/x/src/video/1-0.m4s", 403, "another purpose"},
		{"other stream", "/t/" + good + "/live/y/src/video/1-0.m4s", 403, "not for live/y"},
		{"other application", "/t/" + good + "/vod/x/src/video/1-0.m4s", 403, "not for vod/x"},
		{"climbing out", "/t/" + good + "/live/x/%2e%2e/y/src/video/1-0.m4s", 404, "simplest form"},
		{"hidden query", "/t/" + good + "/live/x/src/video/1-0.m4s%3Fa=b", 404, "simplest form"},
		{"short", "/t/" + good + "/live", 404, "not /<application>"},
		{"only a token", "/t/" + good, 404, "/t/<token>/"},
		{"bad name", "/t/" + good + "/li$ve/x/y", 404, "application name"},
		{"root", "/", 404, ""},
		{"long", "/live/x/" + strings.Repeat("a", 3000), 404, "too long"},
		{"long query", "/t/" + good + "/live/x/src/video/1-0.m4s?q=" + strings.Repeat("a", 5000), 414, "query"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := get(e.URL() + c.path)
			if a.err != nil || a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("got %d %q (%v), want %d saying %q", a.status, a.body, a.err, c.status, c.says)
			}
			if a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Error("a page of another origin cannot read the answer")
			}
		})
	}
	n := 0
	paths.Range(func(k, _ any) bool {
		n++
		if k != "/live/x/src/video/1-0.m4s" {
			t.Errorf("the origin was asked for %q", k)
		}
		return true
	})
	if n != 1 {
		t.Errorf("the origin was asked for %d paths, want 1", n)
	}
}

func TestCacheKeyAndAge(t *testing.T) {
	var asked sync.Map
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := asked.LoadOrStore(r.URL.RequestURI(), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		switch {
		case strings.Contains(r.URL.Path, "nostore"):
			w.Header().Set("Cache-Control", "no-store")
		case strings.Contains(r.URL.Path, "missing"):
			w.Header().Set("Cache-Control", "max-age=5")
			w.WriteHeader(404)
		default:
			w.Header().Set("Cache-Control", "public, max-age=100")
			w.Header().Set("Age", "7")
		}
		fmt.Fprint(w, r.URL.RawQuery)
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}})
	one := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	two := sign(t, token.Session{SessionID: "s2", App: "live", Stream: "x"})
	p := "/live/x/src/video/playlist.m3u8"
	a := get(e.URL() + "/t/" + one + p + "?b=2&_HLS_msn=3&a=1&CMCD=bl%3D100")
	b := get(e.URL() + "/t/" + two + p + "?a=1&_HLS_throughput=900&b=2&_HLS_pathway=%22a%22&_HLS_msn=3")
	for i, x := range []answer{a, b} {
		if x.body != "_HLS_msn=3&a=1&b=2" || x.header.Get("Age") != "7" {
			t.Errorf("answer %d: %q, Age %q", i, x.body, x.header.Get("Age"))
		}
	}
	if a.header.Get("X-Cache") != "miss" || b.header.Get("X-Cache") != "hit" {
		t.Errorf("X-Cache %q then %q", a.header.Get("X-Cache"), b.header.Get("X-Cache"))
	}
	for _, c := range []struct {
		path string
		want int64
	}{{p + "?_HLS_msn=4", 1}, {"/live/x/nostore", 2}, {"/live/x/missing", 1}} {
		for range 2 {
			get(e.URL() + "/t/" + one + c.path)
		}
		n, ok := asked.Load(c.path)
		if !ok || n.(*atomic.Int64).Load() != c.want {
			t.Errorf("%s asked twice reached the origin %v times, want %d", c.path, n, c.want)
		}
	}
	r := get(e.URL()+"/t/"+one+p+"?a=1&b=2&_HLS_msn=3", func(r *http.Request) { r.Header.Set("Range", "bytes=1-3") })
	if r.status != 206 || r.body != "HLS" {
		t.Errorf("range: %d %q", r.status, r.body)
	}
}

func TestCacheIsBounded(t *testing.T) {
	body := strings.Repeat("x", 100<<10)
	var asked atomic.Int64
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=100")
		fmt.Fprint(w, body)
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}, CacheBytes: 1 << 20})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	for i := range 30 {
		get(fmt.Sprintf("%s/t/%s/live/x/%d", e.URL(), tok, i))
	}
	get(e.URL() + "/t/" + tok + "/live/x/29")
	if asked.Load() != 30 {
		t.Errorf("the newest object left the cache: %d origin requests, want 30", asked.Load())
	}
	get(e.URL() + "/t/" + tok + "/live/x/0")
	if asked.Load() != 31 {
		t.Error("3 MB fit into a cache of 1 MiB")
	}
}

func TestOriginDies(t *testing.T) {
	var a, b atomic.Int64
	handler := func(n *atomic.Int64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { n.Add(1); fmt.Fprint(w, r.URL.Path) }
	}
	dies, lives := server(t, handler(&a)), server(t, handler(&b))
	e := start(t, edge.Settings{Origins: []string{dies.URL, lives.URL}})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	ask := func(i int) {
		t.Helper()
		if x := get(fmt.Sprintf("%s/t/%s/live/x/%d", e.URL(), tok, i)); x.status != 200 {
			t.Fatalf("request %d: %d %s", i, x.status, x.body)
		}
	}
	for i := range 10 {
		ask(i)
	}
	if a.Load() != 5 || b.Load() != 5 {
		t.Errorf("10 requests went %d : %d to two healthy origins", a.Load(), b.Load())
	}
	dies.CloseClientConnections()
	dies.Close()
	for i := range 20 {
		ask(100 + i)
	}
	if b.Load() != 25 {
		t.Errorf("the living origin answered %d requests, want 25", b.Load())
	}
	lives.Close()
	if x := get(e.URL() + "/t/" + tok + "/live/x/999"); x.status != 502 || strings.Contains(x.body, "127.0.0.1") {
		t.Errorf("no origin: %d %q, want 502 without addresses", x.status, x.body)
	}
	back := server(t, handler(&a))
	if err := e.SetOrigins([]string{back.URL}); err != nil {
		t.Fatal(err)
	}
	ask(1000)
}

func TestRouterIsAsked(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	router := server(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, "#EXTM3U")
	})
	e := start(t, edge.Settings{Origins: []string{router.URL}, Routers: []string{router.URL}, EdgeKey: "sesame"})
	a := get(e.URL()+"/live/x/multivariant.m3u8?viewer=v1&CMCD=x", func(r *http.Request) {
		r.Header.Set("X-Spillway-Region", "eu")
		r.Header.Set("X-Spillway-CDN", "forged")
	})
	r := seen.Load()
	if a.status != 200 || r == nil {
		t.Fatalf("answer %d %q", a.status, a.body)
	}
	h := r.Header
	if h.Get("X-Spillway-CDN") != "a" || h.Get("X-Spillway-Edge-Key") != "sesame" || h.Get("X-Spillway-Region") != "eu" || r.URL.RequestURI() != "/live/x/multivariant.m3u8?viewer=v1" {
		t.Errorf("the router got %s with %v", r.URL, h)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("a playlist of one session may be stored")
	}
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	get(e.URL() + "/t/" + tok + "/live/x/multivariant.m3u8")
	if got := seen.Load().URL.RequestURI(); got != "/live/x/multivariant.m3u8?s="+tok {
		t.Errorf("with a token the router got %s", got)
	}
}

func TestNoTokenInTheLog(t *testing.T) {
	var text atomic.Value
	text.Store("")
	collector := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		text.Store(text.Load().(string) + string(b))
		w.WriteHeader(204)
	})
	e := start(t, edge.Settings{Origins: []string{"http://127.0.0.1:1"}, Routers: []string{"http://127.0.0.1:1"}, Collector: collector.URL})
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	for _, p := range []string{"multivariant.m3u8", "src/video/1-0.m4s"} {
		if a := get(e.URL() + "/t/" + tok + "/live/x/" + p); a.status != 502 {
			t.Errorf("%s: %d", p, a.status)
		}
	}
	await.True(t, "both lines are there", func() bool { return strings.Count(text.Load().(string), "\n") == 2 })
	if s := text.Load().(string); strings.Contains(s, tok) || !strings.Contains(s, "every router failed") {
		t.Errorf("log lines:\n%s", s)
	}
}

func TestPreflight(t *testing.T) {
	e := start(t, edge.Settings{Origins: []string{"http://127.0.0.1:1"}})
	r, err := http.NewRequest("OPTIONS", e.URL()+"/live/x/src/video/1-0.m4s", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Access-Control-Request-Headers", "cmcd-request")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "CMCD-Request") {
		t.Errorf("preflight: %d %v", res.StatusCode, res.Header)
	}
	if a := get(e.URL()+"/live/x/y", func(r *http.Request) { r.Method = "POST" }); a.status != 405 {
		t.Errorf("POST: %d", a.status)
	}
}

func TestFaultsFromTheBucket(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketFaults)
	if err != nil {
		t.Fatal(err)
	}
	o := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })
	e := start(t, edge.Settings{Origins: []string{o.URL}, Faults: kv})
	put := func(v string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), "a", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	tok := sign(t, token.Session{SessionID: "s1", App: "live", Stream: "x"})
	u := e.URL() + "/t/" + tok + "/live/x/y"
	put(`{"down":true}`)
	await.True(t, "the edge is down", func() bool { return get(u).err != nil })
	put(`{"down":tru`)
	put(`{"unheard_of":1}`)
	put(`{"error_rate":7}`)
	put(`{"error_rate":1}`)
	await.True(t, "bad entries are passed over and the next one counts", func() bool { return get(u).status == 503 })
	if err := kv.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the edge is healed", func() bool { return get(u).status == 200 })
}
