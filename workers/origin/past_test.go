package origin

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// What is listed but no longer in memory is read from MEDIA, and is what it was,
// in every format, also where it is encrypted and where a packager made it.
func TestThePastIsReadFromTheBus(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	for _, c := range []struct {
		name   string
		p      media.Publisher
		change func(*Origin)
		plain  bool
	}{
		{name: "cut here", change: func(*Origin) {}, plain: true},
		{name: "cut by packagers", change: usePackagers, plain: true},
		{name: "encrypted", p: media.Publisher{Encryption: encrypted(t, 3)}, change: func(*Origin) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			o := run(t, b.JS, c.change)
			pack(t, b.JS)
			p := c.p
			p.Clip, p.Key, p.FirstMSN, p.Start = clip, key, 5, time.Now()
			if err := p.Announce(t.Context(), b.JS); err != nil {
				t.Fatal(err)
			}
			paths := []string{videoPath + "1-5.m4s", videoPath + "1-5.3.m4s", audioPath + "1-6.m4s", audioPath + "1-6.8.m4s"}
			if c.plain {
				paths = append(paths, videoPath+"1-5.key.m4s", "/live/one/src/ts/1-5.ts")
			}
			push(t, &p, b.JS, 4*media.SegmentParts+1)
			both := func(o *testOrigin, name string) func() bool {
				return func() bool {
					v, a := get(t, o.url+videoPath+"playlist.m3u8"), get(t, o.url+audioPath+"playlist.m3u8")
					return bytes.Contains(v.body, []byte("\n"+name)) && bytes.Contains(a.body, []byte("\n"+name))
				}
			}
			await.True(t, "the first segments are listed", both(o, "1-7.m4s"))
			was := map[string]answer{}
			for _, path := range paths {
				if was[path] = get(t, o.url+path); was[path].code != 200 || len(was[path].body) == 0 {
					t.Fatalf("%s: %d", path, was[path].code)
				}
			}
			if gauge(o.m.past) != 0 {
				t.Error("what is new was read back")
			}
			push(t, &p, b.JS, 17*media.SegmentParts)
			late := run(t, b.JS)
			for _, origin := range []*testOrigin{o, late} {
				await.True(t, "the segments after them are listed", both(origin, "1-24.m4s"))
				for _, path := range paths {
					a := get(t, origin.url+path)
					if a.code != 200 || !bytes.Equal(a.body, was[path].body) || a.header.Get("Etag") != was[path].header.Get("Etag") {
						t.Errorf("%s: %d with %d bytes and %s, it was %d and %s", path, a.code, len(a.body), a.header.Get("Etag"), len(was[path].body), was[path].header.Get("Etag"))
					}
				}
				if n := gauge(origin.m.past); n < float64(len(paths)) {
					t.Errorf("%v reads of the bus for %d objects", n, len(paths))
				}
			}
			if err := purgeMedia(t, b.JS); err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				if a := get(t, o.url+path); a.code != 404 {
					t.Errorf("%s: %d when the bus has forgotten it", path, a.code)
				}
			}
			if a := get(t, o.url+videoPath+"1-24.m4s"); a.code != 200 {
				t.Errorf("a new segment: %d", a.code)
			}
		})
	}
}

func purgeMedia(t *testing.T, js jetstream.JetStream) error {
	t.Helper()
	s, err := js.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		return err
	}
	return s.Purge(t.Context())
}

// Where MEDIA keeps little, playlists list only what is in memory.
func TestPlaylistsAreShorterWhereTheBusKeepsLittle(t *testing.T) {
	for retention, long := range map[time.Duration]bool{0: true, 90 * time.Second: true, 56 * time.Second: true, 55 * time.Second: false, 30 * time.Second: false} {
		t.Run(fmt.Sprint(retention), func(t *testing.T) {
			o := &Origin{JetStream: struct{ jetstream.JetStream }{}, Listener: struct{ net.Listener }{}}
			if err := o.defaults(); err != nil {
				t.Fatal(err)
			}
			o.shorten(retention)
			if got := o.window.listUs > 0; got != long {
				t.Errorf("playlists are long: %t", got)
			}
			if want := retention.Microseconds(); long && want > 0 && o.window.listUs+o.window.keepUs > want {
				t.Errorf("%d us can be asked for", o.window.listUs+o.window.keepUs)
			}
		})
	}
}
