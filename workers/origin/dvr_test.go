package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/recorder"
	"github.com/spillway-live/spillway/workers/store"
	"github.com/spillway-live/spillway/workers/store/storetest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func record(t testing.TB, js jetstream.JetStream, o store.Objects) {
	t.Helper()
	r := &recorder.Recorder{JetStream: js, Store: o, PutTimeout: time.Second, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	running.Start(t, r.Run)
}

func shelfOf(t testing.TB) *store.Folder {
	t.Helper()
	f, err := store.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// listed waits until a playlist is there: pushed at once, the stream is some
// time ahead of its origins, which refuse a version that is too far ahead.
func listed(t testing.TB, o *testOrigin, version string) {
	t.Helper()
	await.True(t, version, func() bool { return get(t, o.url+videoPath+version).code == 200 })
}

const seconds = 5 // chunks

// recordedVideo counts the recorded segments of the video track.
func recordedVideo(t testing.TB, o store.Objects) int {
	t.Helper()
	tr := archive.Track{Class: archive.ClassDVR, Key: key, Rendition: schemas.SourceRendition, Track: schemas.Video}
	l, err := o.List(t.Context(), tr.Prefix(), "", 10_000)
	if err != nil {
		return -1
	}
	n := 0
	for _, i := range l {
		if _, ok := tr.Parse(i.Key); ok {
			n++
		}
	}
	return n
}

// A viewer who joined late can have what happened a minute ago, at any origin:
// the same bytes under the same validator as when they were new.
func TestSeekBack(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	objects := shelfOf(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 120})
	record(t, b.JS, objects)
	withStore := func(o *Origin) { o.Store = objects }
	o := run(t, b.JS, withStore)
	slow := &slowStore{Objects: objects, held: make(chan struct{}, 8), free: make(chan struct{})}
	hindered := run(t, b.JS, func(o *Origin) { o.Store, o.StoreReads = slow, 1 })
	pack(t, b.JS)
	clip := media.Load(t)
	p := publisher(t, clip, b.JS)
	push(t, p, b.JS, 12*seconds) // segments 5 to 10
	listed(t, o, "playlist.m3u8?_HLS_msn=10")
	young := get(t, o.url+videoPath+"1-5.m4s")
	if young.code != 200 {
		t.Fatalf("%d", young.code)
	}
	push(t, p, b.JS, 68*seconds+1) // up to 44, and the beginning of 45
	await.True(t, "everything is recorded", func() bool { return recordedVideo(t, objects) >= 40 })
	listed(t, o, "playlist.m3u8?_HLS_msn=45&_HLS_part=0")
	t.Run("slow store", func(t *testing.T) { slow.holdsUpNothingElse(t, hindered) })

	dvr := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=44")
	if dvr.code != 200 || dvr.header.Get("Cache-Control") != cacheVersion {
		t.Fatalf("%d %v %s", dvr.code, dvr.header, dvr.body)
	}
	for _, want := range []string{"#EXT-X-MEDIA-SEQUENCE:5\n", "\n1-5.m4s\n", "\n1-44.m4s\n", "#EXT-X-MAP:URI=\"init-"} {
		if !bytes.Contains(dvr.body, []byte(want)) {
			t.Errorf("the playlist lacks %q", want)
		}
	}
	for _, not := range []string{"EXT-X-PART", "EXT-X-GAP", "DISCONTINUITY\n", "PRELOAD"} {
		if bytes.Contains(dvr.body, []byte(not)) {
			t.Errorf("the playlist has %q", not)
		}
	}
	delta := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=44&_HLS_skip=YES")
	if !bytes.Contains(delta.body, []byte("#EXT-X-SKIP:SKIPPED-SEGMENTS=28\n")) || len(delta.body) > len(dvr.body)/2 {
		t.Errorf("delta update of %d bytes, all of it has %d:\n%s", len(delta.body), len(dvr.body), delta.body)
	}
	// The low-latency playlist is as short as ever.
	if live := get(t, o.url+videoPath+"playlist.m3u8"); bytes.Contains(live.body, []byte("\n1-20.m4s\n")) || !bytes.Contains(live.body, []byte("EXT-X-PART:")) {
		t.Errorf("the low-latency playlist:\n%s", live.body)
	}
	late := run(t, b.JS, withStore)
	if x := get(t, late.url+videoPath+"dvr.m3u8?_HLS_msn=44"); !bytes.Equal(x.body, dvr.body) {
		t.Errorf("another origin lists something else:\n%s\n%s", dvr.body, x.body)
	}
	without := run(t, b.JS)
	for _, o := range []*testOrigin{o, late} {
		old := get(t, o.url+videoPath+"1-5.m4s")
		if old.code != 200 || !bytes.Equal(old.body, young.body) || old.header.Get("ETag") != young.header.Get("ETag") ||
			old.header.Get("Content-Type") != young.header.Get("Content-Type") || old.header.Get("Cache-Control") != cacheMedia {
			t.Errorf("%d with %d bytes, %v; when it was new %d bytes, %v", old.code, len(old.body), old.header, len(young.body), young.header)
		}
		rng := get(t, o.url+videoPath+"1-5.m4s", "Range", "bytes=1000-1999", "If-Range", young.header.Get("ETag"))
		if rng.code != 206 || !bytes.Equal(rng.body, young.body[1000:2000]) {
			t.Errorf("range: %d with %d bytes", rng.code, len(rng.body))
		}
		multi(t, o.url+videoPath+"1-5.m4s", young.body)
		if a := get(t, o.url+videoPath+"1-5.m4s", "If-None-Match", young.header.Get("ETag")); a.code != 304 {
			t.Errorf("conditional: %d", a.code)
		}
		if a, err := fetch(t.Context(), http.MethodHead, o.url+videoPath+"1-5.m4s"); err != nil || a.code != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(young.body)) {
			t.Errorf("HEAD: %v %d %v", err, a.code, a.header)
		}
	}
	if n := gauge(late.m.storeReads); n < 4 {
		t.Errorf("%.0f objects were read from the store", n)
	}
	for path, code := range map[string]int{"1-5.m4s": 404, "dvr.m3u8": 404} {
		if a := get(t, without.url+videoPath+path); a.code != code {
			t.Errorf("without a store, %s: %d", path, a.code)
		}
	}
	mv := get(t, o.url+"/live/one/multivariant.m3u8?dvr=1")
	if !bytes.Contains(mv.body, []byte("src/video/dvr.m3u8")) || !bytes.Contains(mv.body, []byte(`src/audio/dvr.m3u8"`)) {
		t.Errorf("multivariant:\n%s", mv.body)
	}
	// DASH players count back from live: the MPD says how far they may.
	if m := get(t, o.url+"/live/one/manifest.mpd"); !bytes.Contains(m.body, []byte(` timeShiftBufferDepth="PT80S"`)) || !bytes.Contains(m.body, []byte(`media="src/video/1-$Number$.m4s" startNumber="5"`)) {
		t.Errorf("MPD of 80 s that are recorded: %d\n%s", m.code, m.body)
	}
	for _, path := range []string{"1-999.m4s", "2-5.m4s", "1-5.0.m4s"} {
		if a := get(t, o.url+videoPath+path); a.code != 404 {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	if a := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=60"); a.code != 400 {
		t.Errorf("far ahead: %d", a.code)
	}
	// The window is as long as the settings say, and no longer.
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 30})
	await.True(t, "the shorter window", func() bool { return o.dvrWindow(key) == 30*time.Second })
	push(t, p, b.JS, 2*seconds)
	a := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=45")
	if !bytes.Contains(a.body, []byte("#EXT-X-MEDIA-SEQUENCE:31\n")) {
		t.Errorf("a window of 30 s of segments of 2 s up to 45 begins\n%.300s", a.body)
	}
	// The bus forgets the stream; what was recorded can still be seen.
	media, err := b.JS.Stream(t.Context(), schemas.StreamMedia)
	if err == nil {
		err = media.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.PutState(t.Context(), b.JS, false); err != nil {
		t.Fatal(err)
	}
	if err := purgeParts(t, b.JS); err != nil {
		t.Fatal(err)
	}
	after := run(t, b.JS, withStore)
	if a := get(t, after.url+videoPath+"dvr.m3u8"); a.code != 200 || !bytes.Contains(a.body, []byte("\n1-44.m4s\n")) {
		t.Errorf("after the end: %d\n%s", a.code, a.body)
	}
	if a := get(t, after.url+videoPath+"1-40.m4s"); a.code != 200 {
		t.Errorf("a segment after the end: %d", a.code)
	}
	init := schemas.InitID(clip.Init(schemas.Video))
	inits, err := b.JS.KeyValue(t.Context(), schemas.BucketInits)
	if err == nil {
		err = inits.Delete(t.Context(), init)
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := get(t, after.url+videoPath+"init-"+init+".mp4"); a.code != 200 || !bytes.Equal(a.body, clip.Init(schemas.Video)) {
		t.Errorf("an init segment that the bus has forgotten: %d", a.code)
	}
}

// purgeParts empties the stream of parts where there is one.
func purgeParts(t testing.TB, js jetstream.JetStream) error {
	t.Helper()
	s, err := js.Stream(t.Context(), "PARTS")
	if err != nil {
		return nil
	}
	return s.Purge(t.Context())
}

// The object store is away: live goes on, what is further back says so; when it
// is back, so is the past. What never was recorded is a gap.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	svc := storetest.Start(t)
	objects := svc.Store("")
	b := bustest.Start(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 600})
	record(t, b.JS, objects)
	o := run(t, b.JS, func(o *Origin) { o.Store = objects })
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 80*seconds+1)
	await.True(t, "everything is recorded", func() bool { return recordedVideo(t, objects) >= 40 })
	listed(t, o, "playlist.m3u8?_HLS_msn=45&_HLS_part=0")
	if a := get(t, o.url+videoPath+"dvr.m3u8"); a.code != 200 || !bytes.Contains(a.body, []byte("\n1-5.m4s\n")) {
		t.Fatalf("%d %s", a.code, a.body)
	}
	svc.Kill()
	push(t, p, b.JS, 2*seconds)
	listed(t, o, "playlist.m3u8?_HLS_msn=46&_HLS_part=0")
	if a := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=45"); a.code != 200 || !bytes.Contains(a.body, []byte("\n1-5.m4s\n")) || !bytes.Contains(a.body, []byte("\n1-45.m4s\n")) {
		t.Errorf("the list that is known: %d\n%s", a.code, a.body)
	}
	if a := get(t, o.url+videoPath+"1-5.m4s"); a.code != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "object store") {
		t.Errorf("a segment of the store: %d %s", a.code, a.body)
	}
	await.True(t, "it is said that the store is away", func() bool {
		get(t, o.url+videoPath+"dvr.m3u8")
		return gauge(o.m.storeAway) == 1
	})
	svc.Run()
	if a := get(t, o.url+videoPath+"1-5.m4s"); a.code != 200 {
		t.Errorf("the store is back: %d", a.code)
	}
	await.True(t, "all is recorded again", func() bool { return recordedVideo(t, objects) >= 41 })
	await.True(t, "it is said that the store is back", func() bool {
		get(t, o.url+videoPath+"dvr.m3u8")
		return gauge(o.m.storeAway) == 0
	})

	// Two segments are not in the store.
	tr := archive.Track{Class: archive.ClassDVR, Key: key, Rendition: schemas.SourceRendition, Track: schemas.Video}
	l, err := objects.List(t.Context(), tr.Prefix(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range l {
		if s, ok := tr.Parse(i.Key); ok && (s.MSN == 10 || s.MSN == 11) {
			if err := objects.Delete(t.Context(), i.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	late := run(t, b.JS, func(o *Origin) { o.Store = objects })
	a := get(t, late.url+videoPath+"dvr.m3u8")
	if a.code != 200 || strings.Count(string(a.body), "#EXT-X-GAP\n") != 2 ||
		!strings.Contains(string(a.body), "#EXT-X-GAP\n#EXTINF:2.0,\n1-10.m4s\n") || !strings.Contains(string(a.body), "#EXT-X-GAP\n#EXTINF:2.0,\n1-11.m4s\n") {
		t.Errorf("%d\n%s", a.code, a.body)
	}
	if a := get(t, late.url+videoPath+"1-10.m4s"); a.code != 404 {
		t.Errorf("a gap: %d", a.code)
	}
}

// slowStore gives nothing until it is let go.
type slowStore struct {
	store.Objects
	held chan struct{} // one for each read that waits
	free chan struct{}
}

func (s *slowStore) Open(ctx context.Context, k string, offset, n int64) (io.ReadCloser, error) {
	s.held <- struct{}{}
	select {
	case <-s.free:
		return s.Objects.Open(ctx, k, offset, n)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// holdsUpNothingElse: a store that is slow takes up the places for reading from it, of which this origin has one, and
// nothing else.
func (s *slowStore) holdsUpNothingElse(t *testing.T, o *testOrigin) {
	listed(t, o, "playlist.m3u8?_HLS_msn=45&_HLS_part=0")
	first := make(chan answer, 1)
	go func() {
		a, err := fetch(t.Context(), http.MethodGet, o.url+videoPath+"1-5.m4s")
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	<-s.held
	if a := get(t, o.url+videoPath+"1-6.m4s"); a.code != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("no place to read: %d %s", a.code, a.body)
	}
	for _, path := range []string{"playlist.m3u8", "dvr.m3u8", "1-44.m4s"} {
		if a := get(t, o.url+videoPath+path); a.code != 200 {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	close(s.free)
	if a := <-first; a.code != 200 || len(a.body) == 0 {
		t.Errorf("the read that waited: %d", a.code)
	}
	if a := get(t, o.url+videoPath+"1-6.m4s"); a.code != 200 {
		t.Errorf("afterwards: %d", a.code)
	}
}
