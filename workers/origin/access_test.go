package origin

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func TestPrivateStreamsAreForEdges(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{Private: true})
	pack(t, b.JS)
	keyed := run(t, b.JS, func(o *Origin) { o.EdgeKey = "sesame" })
	near := run(t, b.JS, func(o *Origin) { o.EdgeNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	alone := run(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	for _, path := range []string{"/live/one/multivariant.m3u8", videoPath + "playlist.m3u8", videoPath + "1-5.m4s", videoPath + "1-5.0.m4s"} {
		for _, c := range []struct {
			o      *testOrigin
			header []string
			want   int
		}{
			{keyed, nil, 403},
			{keyed, []string{schemas.HeaderEdgeKey, "guess"}, 403},
			{keyed, []string{"X-Forwarded-For", "127.0.0.1"}, 403},
			{keyed, []string{schemas.HeaderEdgeKey, "sesame"}, 200},
			{near, nil, 200},
			{alone, nil, 403},
			{alone, []string{schemas.HeaderEdgeKey, ""}, 403},
		} {
			a := get(t, c.o.url+path, c.header...)
			if a.code != c.want {
				t.Errorf("%s with %v: %d, want %d: %.100s", path, c.header, a.code, c.want, a.body)
			}
			if a.header.Get(schemas.HeaderPrivate) != "1" {
				t.Errorf("%s: edges are not told that it is private", path)
			}
			if a.code != 200 && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: the refusal may be cached: %s", path, a.header.Get("Cache-Control"))
			}
		}
	}
	bustest.Put(t, b.JS, schemas.BucketApps, key.KVKey(), schemas.AppSettings{})
	await.True(t, "the stream is public once its own settings say so", func() bool {
		a := get(t, alone.url+videoPath+"1-5.m4s")
		return a.code == 200 && a.header.Get(schemas.HeaderPrivate) == ""
	})
}

func TestShareEndsWhereverItIsServed(t *testing.T) {
	t.Parallel()
	const sharedVideo = "/pub/door/src/video/"
	b := bustest.Start(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{Private: true})
	share := schemas.Share{App: key.App, Stream: key.Stream}
	bustest.Put(t, b.JS, schemas.BucketShares, "pub.door", share)
	pack(t, b.JS)
	edge := func(o *Origin) { o.EdgeKey = "sesame" }
	origins := []*testOrigin{run(t, b.JS, edge), run(t, b.JS, edge)}
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 21)
	for _, o := range origins {
		for _, name := range []string{"playlist.m3u8", "1-5.m4s", "1-5.0.m4s"} {
			shared, private := get(t, o.url+sharedVideo+name), get(t, o.url+videoPath+name, schemas.HeaderEdgeKey, "sesame")
			if shared.code != 200 || private.code != 200 || !bytes.Equal(withoutReports(shared.body), withoutReports(private.body)) {
				t.Errorf("%s: the share is not the stream: %d with %d bytes, %d with %d", name, shared.code, len(shared.body), private.code, len(private.body))
			}
			if shared.header.Get(schemas.HeaderPrivate) != "" {
				t.Errorf("%s: the share is told to be private", name)
			}
		}
		if a := get(t, o.url+sharedVideo+"1-5.m4s"); a.header.Get("Cache-Control") != shareMaxAge {
			t.Errorf("media of a share may be cached: %s", a.header.Get("Cache-Control"))
		}
	}
	// A viewer of each origin waits for what comes next while the share is withdrawn.
	type waited struct {
		a   answer
		err error
	}
	held := make(chan waited, 2*len(origins))
	before := make([]float64, len(origins))
	for i, o := range origins {
		before[i] = gauge(o.m.held)
		for _, name := range []string{"playlist.m3u8?_HLS_msn=8&_HLS_part=0", "1-8.0.m4s"} {
			go func() {
				a, err := fetch(t.Context(), http.MethodGet, o.url+sharedVideo+name)
				held <- waited{a, err}
			}()
		}
	}
	for i, o := range origins {
		await.True(t, "the playlist is waited for", func() bool { return gauge(o.m.held) >= before[i]+1 })
	}
	share.WithdrawnUnix = time.Now().Unix()
	bustest.Put(t, b.JS, schemas.BucketShares, "pub.door", share)
	for range 2 * len(origins) {
		w := <-held
		if w.err != nil {
			t.Fatal(w.err)
		}
		// A part not announced yet may be refused before it is waited for.
		if w.a.code != http.StatusGone && w.a.code != http.StatusNotFound {
			t.Errorf("a held request: %d %.100s", w.a.code, w.a.body)
		}
	}
	for _, o := range origins {
		for _, name := range []string{"playlist.m3u8", "1-5.m4s", "1-5.0.m4s", "../../multivariant.m3u8"} {
			a := get(t, o.url+strings.Replace(sharedVideo+name, "/src/video/../..", "", 1))
			if a.code != http.StatusGone || !strings.Contains(string(a.body), "withdrawn") || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s after the withdrawal: %d %.100s", name, a.code, a.body)
			}
			if a := get(t, o.url+videoPath+strings.TrimPrefix(name, "../../multi"), schemas.HeaderEdgeKey, "sesame"); !strings.HasPrefix(name, "..") && a.code != 200 {
				t.Errorf("%s of the private stream after the withdrawal: %d", name, a.code)
			}
		}
	}
}

// A share with an end ends by itself, for requests that wait too.
func TestShareExpires(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	bustest.Put(t, b.JS, schemas.BucketShares, "pub.door", schemas.Share{App: key.App, Stream: key.Stream, UntilUnix: time.Now().Unix() + 2})
	pack(t, b.JS)
	o := run(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	if a := get(t, o.url+"/pub/door/src/video/playlist.m3u8"); a.code != 200 && a.code != http.StatusGone {
		t.Fatalf("before the end: %d %s", a.code, a.body)
	}
	a := get(t, o.url+"/pub/door/src/video/playlist.m3u8?_HLS_msn=7&_HLS_part=0")
	if a.code != http.StatusGone || !strings.Contains(string(a.body), "ended at") {
		t.Errorf("at the end: %d %s", a.code, a.body)
	}
}
