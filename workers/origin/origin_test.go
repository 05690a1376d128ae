package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

var key = schemas.StreamKey{App: "live", Stream: "one"}

// testOrigin is a running origin.
type testOrigin struct {
	*Origin
	url string
}

func run(t testing.TB, js jetstream.JetStream, change ...func(*Origin)) *testOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &Origin{JetStream: js, Listener: l, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	for _, c := range change {
		c(o)
	}
	running.Start(t, o.Run)
	return &testOrigin{o, "http://" + l.Addr().String()}
}

func usePackagers(o *Origin) { o.UsePackagers = true }

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func pack(t testing.TB, js jetstream.JetStream) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &packager.Packager{JetStream: js, Always: true, Registerer: prometheus.NewRegistry()}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func publisher(t testing.TB, clip *media.Clip, js jetstream.JetStream) *media.Publisher {
	t.Helper()
	p := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5, Start: time.Now()}
	if err := p.Announce(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	return p
}

func push(t testing.TB, p *media.Publisher, js jetstream.JetStream, n int) {
	t.Helper()
	for range n {
		if err := p.Push(t.Context(), js); err != nil {
			t.Fatal(err)
		}
	}
}

type answer struct {
	code   int
	header http.Header
	body   []byte
}

func get(t testing.TB, url string, header ...string) answer {
	t.Helper()
	a, err := fetch(t.Context(), http.MethodGet, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func fetch(ctx context.Context, method, url string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b}, err
}

const (
	videoPath = "/live/one/src/video/"
	audioPath = "/live/one/src/audio/"
)

func TestServesAStream(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, clip, b.JS)
	push(t, p, b.JS, 25)

	// Segments 5 and 6 are whole, five parts of 7 are there.
	a := get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=4")
	if a.code != 200 || a.header.Get("Cache-Control") != cacheVersion || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v\n%s", a.code, a.header, a.body)
	}
	t.Logf("\n%s", a.body)
	for _, want := range []string{"#EXT-X-MEDIA-SEQUENCE:5\n", "\n1-6.m4s\n", `URI="1-7.4.m4s"`, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="1-7.5.m4s"`, "../audio/playlist.m3u8"} {
		if !bytes.Contains(a.body, []byte(want)) {
			t.Errorf("playlist lacks %s", want)
		}
	}
	var parts []byte
	for i := range 10 {
		a := get(t, fmt.Sprintf("%s%s1-5.%d.m4s", o.url, videoPath, i))
		if a.code != 200 || a.header.Get("Cache-Control") != cacheMedia || a.header.Get("Content-Type") != "video/mp4" {
			t.Fatalf("part %d: %d %v", i, a.code, a.header)
		}
		parts = append(parts, a.body...)
	}
	seg := get(t, o.url+videoPath+"1-5.m4s")
	if seg.code != 200 || !bytes.Equal(seg.body, parts) {
		t.Errorf("segment: %d, %d bytes; its parts have %d", seg.code, len(seg.body), len(parts))
	}
	rng := get(t, o.url+videoPath+"1-5.m4s", "Range", "bytes=100-199")
	if rng.code != 206 || !bytes.Equal(rng.body, parts[100:200]) {
		t.Errorf("range: %d, %d bytes", rng.code, len(rng.body))
	}
	if c := get(t, o.url+videoPath+"1-5.m4s", "If-None-Match", seg.header.Get("ETag")); c.code != 304 {
		t.Errorf("conditional request: %d", c.code)
	}
	init := schemas.InitID(clip.Init(schemas.Video))
	if a := get(t, o.url+videoPath+"init-"+init+".mp4"); a.code != 200 || !bytes.Equal(a.body, clip.Init(schemas.Video)) {
		t.Errorf("init: %d, %d bytes", a.code, len(a.body))
	}
	mv := get(t, o.url+"/live/one/multivariant.m3u8")
	if mv.code != 200 || !bytes.Contains(mv.body, []byte("\nsrc/video/playlist.m3u8\n")) {
		t.Errorf("multivariant: %d\n%s", mv.code, mv.body)
	}
	for _, path := range []string{"/live/none/src/video/playlist.m3u8", "/live/one/src/video/1-99.m4s", "/live/one/src/video/1-99.0.m4s",
		"/live/one/src/video/2-7.5.m4s", "/live/one/src/video/init-0.mp4", "/live/one/720p/video/playlist.m3u8", "/live/one/x.m3u8", "/", "/live/one/src/video/01-5.m4s"} {
		if a := get(t, o.url+path); a.code != 404 {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	for _, q := range []string{"_HLS_part=1", "_HLS_msn=x", "_HLS_msn=9", "_HLS_msn=7&_HLS_part=30", "_HLS_msn=7&_HLS_msn=7", "_HLS_msn=-1"} {
		if a := get(t, o.url+videoPath+"playlist.m3u8?"+q); a.code != 400 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", q, a.code, a.body)
		}
	}
	if a, err := fetch(t.Context(), http.MethodHead, o.url+videoPath+"playlist.m3u8"); err != nil || a.code != 200 || len(a.body) != 0 || a.header.Get("Cache-Control") != cacheNone {
		t.Errorf("HEAD: %v %+v", err, a)
	}
	if a, err := fetch(t.Context(), http.MethodOptions, o.url+videoPath+"playlist.m3u8"); err != nil || a.code != 204 {
		t.Errorf("OPTIONS: %v %+v", err, a)
	}
	if a, err := fetch(t.Context(), http.MethodPost, o.url+videoPath+"playlist.m3u8"); err != nil || a.code != 405 {
		t.Errorf("POST: %v %+v", err, a)
	}
}

// A request for the hinted part and one for the playlist that lists it are both
// held until the part is there.
func TestHoldsUntilThePartExists(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12) // 5.0..5.9, 6.0, 6.1
	if a := get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=6&_HLS_part=1"); a.code != 200 {
		t.Fatalf("%d", a.code)
	}
	type result struct {
		what string
		a    answer
		err  error
	}
	ch := make(chan result, 3)
	for what, url := range map[string]string{
		"part":     o.url + videoPath + "1-6.2.m4s",
		"playlist": o.url + videoPath + "playlist.m3u8?_HLS_msn=6&_HLS_part=2",
		"audio":    o.url + audioPath + "playlist.m3u8?_HLS_msn=6&_HLS_part=2",
	} {
		go func() {
			a, err := fetch(t.Context(), http.MethodGet, url)
			ch <- result{what, a, err}
		}()
	}
	await.True(t, "three held requests", func() bool { return gauge(o.m.held) == 3 })
	push(t, p, b.JS, 2)
	for range 3 {
		r := <-ch
		if r.err != nil || r.a.code != 200 || len(r.a.body) == 0 {
			t.Errorf("%s: %v %d", r.what, r.err, r.a.code)
		}
		if r.what != "part" && !bytes.Contains(r.a.body, []byte("1-6.2.m4s")) {
			t.Errorf("%s does not list the part\n%s", r.what, r.a.body)
		}
	}
}

// With packagers expected and none there, the origin packages itself and tells it.
func TestCoversWithoutAnyPackager(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS, usePackagers)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 21)
	a := get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=0")
	if a.code != 200 || !bytes.Contains(a.body, []byte("1-7.0.m4s")) {
		t.Fatalf("%d\n%s", a.code, a.body)
	}
	push(t, p, b.JS, 3)
	a = get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=3")
	if a.code != 200 || !bytes.Contains(a.body, []byte("1-7.3.m4s")) {
		t.Fatalf("%d\n%s", a.code, a.body)
	}
	await.True(t, "the event", func() bool {
		s, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
		if err != nil {
			return false
		}
		_, err = s.GetLastMsgForSubject(t.Context(), "events.packager_covered.live.one")
		return err == nil
	})
	o2 := run(t, b.JS)
	if a2 := get(t, o2.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=3"); !bytes.Equal(a.body, a2.body) {
		t.Errorf("a later origin lists something else:\n%s\n%s", a.body, a2.body)
	}
}
