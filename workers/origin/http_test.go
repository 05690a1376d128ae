package origin

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/hls/hlscheck"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// Ranges and conditions by RFC 9110 sections 13 and 14, on each kind of object.
func TestRangesAndConditions(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	push(t, publisher(t, clip, b.JS), b.JS, 25)
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=4")
	for _, name := range []string{"1-5.m4s", "1-7.3.m4s", "init-" + schemas.InitID(clip.Init(schemas.Video)) + ".mp4"} {
		t.Run(name, func(t *testing.T) {
			u := o.url + videoPath + name
			whole := get(t, u)
			n, tag := len(whole.body), whole.header.Get("ETag")
			if whole.code != 200 || n < 400 || whole.header.Get("Content-Length") != strconv.Itoa(n) || whole.header.Get("Accept-Ranges") != "bytes" {
				t.Fatalf("%d, %d bytes, %v", whole.code, n, whole.header)
			}
			if !strings.HasPrefix(tag, `"`) {
				t.Errorf("ETag %s is not strong", tag)
			}
			cr := func(a, z int) string { return fmt.Sprintf("bytes %d-%d/%d", a, z, n) }
			for _, c := range []struct {
				what    string
				header  []string
				code    int
				body    []byte
				content string
			}{
				{"first", []string{"Range", "bytes=0-99"}, 206, whole.body[:100], cr(0, 99)},
				{"open", []string{"Range", "bytes=200-"}, 206, whole.body[200:], cr(200, n-1)},
				{"suffix", []string{"Range", "bytes=-7"}, 206, whole.body[n-7:], cr(n-7, n-1)},
				{"past the end", []string{"Range", "bytes=300-99999999"}, 206, whole.body[300:], cr(300, n-1)},
				{"beyond", []string{"Range", "bytes=99999999-"}, 416, nil, fmt.Sprintf("bytes */%d", n)},
				{"other unit", []string{"Range", "pages=1-2"}, 416, nil, ""},
				{"more ranges than are served", []string{"Range", "bytes=0-0" + strings.Repeat(",2-2", 40)}, 200, whole.body, ""},
				{"If-Range matches", []string{"Range", "bytes=0-9", "If-Range", tag}, 206, whole.body[:10], cr(0, 9)},
				{"If-Range differs", []string{"Range", "bytes=0-9", "If-Range", `"x"`}, 200, whole.body, ""},
				{"If-Range is weak", []string{"Range", "bytes=0-9", "If-Range", "W/" + tag}, 200, whole.body, ""},
				{"If-None-Match", []string{"If-None-Match", tag}, 304, nil, ""},
				{"If-None-Match, list and weak", []string{"If-None-Match", `"a", W/` + tag}, 304, nil, ""},
				{"If-None-Match, any", []string{"If-None-Match", "*"}, 304, nil, ""},
				{"If-None-Match differs", []string{"If-None-Match", `"a"`}, 200, whole.body, ""},
				{"304 before 206", []string{"If-None-Match", tag, "Range", "bytes=0-9"}, 304, nil, ""},
				{"If-Match differs", []string{"If-Match", `"a"`}, 412, nil, ""},
			} {
				a := get(t, u, c.header...)
				if a.code != c.code || c.code < 400 && !bytes.Equal(a.body, c.body) {
					t.Errorf("%s: %d with %d bytes, want %d with %d", c.what, a.code, len(a.body), c.code, len(c.body))
				}
				if c.content != "" && a.header.Get("Content-Range") != c.content {
					t.Errorf("%s: Content-Range %q, want %q", c.what, a.header.Get("Content-Range"), c.content)
				}
				if c.code < 400 && (a.header.Get("ETag") != tag || a.header.Get("Cache-Control") != cacheMedia) {
					t.Errorf("%s: %v", c.what, a.header)
				}
			}
			multi(t, u, whole.body)
			h, err := fetch(t.Context(), http.MethodHead, u)
			if err != nil || h.code != 200 || len(h.body) != 0 || h.header.Get("Content-Length") != strconv.Itoa(n) || h.header.Get("ETag") != tag {
				t.Errorf("HEAD: %v %d %v", err, h.code, h.header)
			}
		})
	}
}

func multi(t *testing.T, url string, whole []byte) {
	t.Helper()
	a := get(t, url, "Range", "bytes=0-9, 50-59, -5")
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.code != 206 || err != nil || kind != "multipart/byteranges" {
		t.Fatalf("several ranges: %d %v %v", a.code, a.header, err)
	}
	r := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for _, want := range [][]byte{whole[:10], whole[50:60], whole[len(whole)-5:]} {
		p, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes", p.Header.Get("Content-Range"), err, len(got))
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last range: %v", err)
	}
}

// What caches may keep, and what pages of other sites may read.
func TestHeaders(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	push(t, publisher(t, clip, b.JS), b.JS, 25)
	for _, c := range []struct {
		path, cache string
		code        int
	}{
		{videoPath + "playlist.m3u8?_HLS_msn=7&_HLS_part=4", cacheVersion, 200},
		{videoPath + "playlist.m3u8", cacheNone, 200},
		{"/live/one/multivariant.m3u8", cacheShort, 200},
		{videoPath + "1-5.m4s", cacheMedia, 200},
		{videoPath + "1-7.0.m4s", cacheMedia, 200},
		{videoPath + "init-" + schemas.InitID(clip.Init(schemas.Video)) + ".mp4", cacheMedia, 200},
		{videoPath + "1-99.m4s", cacheShort, 404},
		{"/live/none/multivariant.m3u8", cacheShort, 404},
		{"/x", cacheShort, 404},
		{videoPath + "playlist.m3u8?_HLS_part=1", cacheNever, 400},
		{"/healthz", cacheNever, 200},
		{"/readyz", cacheNever, 200},
	} {
		a := get(t, o.url+c.path)
		if a.code != c.code || a.header.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d, Cache-Control %q; want %d, %q", c.path, a.code, a.header.Get("Cache-Control"), c.code, c.cache)
		}
		if len(a.body) == 0 || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("%s: Content-Length %q of %d", c.path, a.header.Get("Content-Length"), len(a.body))
		}
		if a.header.Get("Date") == "" {
			t.Errorf("%s has no Date", c.path)
		}
		if strings.HasSuffix(c.path, "z") {
			continue
		}
		exposed := a.header.Get("Access-Control-Expose-Headers")
		for _, h := range []string{"Age", "Date", "ETag", "Content-Range", "Retry-After", "CMSD-Static", "CMSD-Dynamic"} {
			if !strings.Contains(exposed, h) || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s does not let other sites read %s", c.path, h)
			}
		}
	}
}

// Every object of a stream is the same, byte for byte, at a second origin.
func TestEveryObjectIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	first := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 55)
	const version = "playlist.m3u8?_HLS_msn=10&_HLS_part=3"
	lists := map[string]answer{}
	for _, path := range []string{videoPath, audioPath} {
		if lists[path] = get(t, first.url+path+version); lists[path].code != 200 {
			t.Fatalf("%s: %d", path, lists[path].code)
		}
	}
	// The late origin is asked for its first time now; all that the first one
	// listed must be there with its first answers.
	late := run(t, b.JS)
	objects := 0
	for path, list := range lists {
		var c hlscheck.Checker
		if v := c.Add(list.body); len(v) > 0 {
			t.Fatalf("%s: %v", path, v)
		}
		same := func(name string) {
			t.Helper()
			x, y := get(t, first.url+path+name), get(t, late.url+path+name)
			objects++
			if x.code != 200 || y.code != 200 || !bytes.Equal(x.body, y.body) {
				t.Errorf("%s%s: %d with %d bytes, and %d with %d", path, name, x.code, len(x.body), y.code, len(y.body))
			}
			for _, h := range []string{"ETag", "Content-Type", "Cache-Control", "Content-Length"} {
				if x.header.Get(h) != y.header.Get(h) {
					t.Errorf("%s%s: %s is %q, and %q", path, name, h, x.header.Get(h), y.header.Get(h))
				}
			}
		}
		pl := c.Last()
		for i := range pl.Segments {
			s := &pl.Segments[i]
			if s.URI != "" {
				same(s.URI)
			}
			for _, part := range s.Parts {
				same(part.URI)
			}
			if s.Map != "" {
				same(s.Map)
			}
		}
		if y := get(t, late.url+path+version); !bytes.Equal(withoutReports(list.body), withoutReports(y.body)) {
			t.Errorf("%s: the playlists differ:\n%s\n%s", path, list.body, y.body)
		}
	}
	same := func(p string) {
		x, y := get(t, first.url+p), get(t, late.url+p)
		if x.code != 200 || !bytes.Equal(x.body, y.body) {
			t.Errorf("%s: %d and %d", p, x.code, y.code)
		}
	}
	same("/live/one/multivariant.m3u8")
	if objects < 60 {
		t.Errorf("only %d objects were compared", objects)
	}
}
