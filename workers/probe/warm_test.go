package probe_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
)

// first is what the first viewer of a stream at an edge asks for, and how much of it was in the cache.
type first struct {
	t     *testing.T
	base  string
	media []string // addresses
	hits  int
}

func (f *first) get(u string) (body string, hit bool) {
	f.t.Helper()
	resp, err := http.Get(u)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %s, %v", u, resp.Status, err)
	}
	return string(b), resp.Header.Get("X-Cache") == "hit"
}

// lists reads the playlists.
func (f *first) lists() {
	for _, track := range []string{"video", "audio"} {
		folder := f.base + "/live/demo/src/" + track + "/"
		var text string
		await.True(f.t, "a segment is listed", func() bool {
			text, _ = f.get(folder + "playlist.m3u8")
			return strings.Contains(text, "#EXTINF")
		})
		var segments []string
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if rest, ok := strings.CutPrefix(line, `#EXT-X-MAP:URI="`); ok {
				f.media = append(f.media, folder+strings.TrimSuffix(rest, `"`))
			} else if line != "" && line[0] != '#' {
				segments = append(segments, folder+line)
			}
		}
		f.media = append(f.media, segments[max(0, len(segments)-3):]...)
	}
}

func (f *first) fetch() {
	for _, u := range f.media {
		if _, hit := f.get(u); hit {
			f.hits++
		}
	}
}

// warms: what routers say is about to spill is in the caches of the CDN that it
// spills to before the first viewer is there; at another that viewer finds nothing.
func (w *world) warms(t *testing.T) {
	tok, err := w.sign.SignSession(token.Session{App: demo.App, Stream: demo.Stream, Keyed: true, ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	at := func(edge string) *first { return &first{t: t, base: w.edges[edge].URL() + "/t/" + tok} }
	warmed := make(chan *nats.Msg, 100)
	sub, err := w.bus.Conn.ChanSubscribe(schemas.SubjectWarmed, warmed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	wishes, err := json.Marshal([]schemas.Warm{{App: demo.App, Stream: demo.Stream, CDN: "slow"}, {App: demo.App, Stream: "unknown", CDN: "slow"}, {App: demo.App, Stream: demo.Stream, CDN: "unknown"}})
	if err != nil {
		t.Fatal(err)
	}
	limit := time.After(time.Minute)
	next := func() { // the caches hold what was listed when this was called, or later
		for looks := 0; looks < 2; {
			if err := w.bus.Conn.Publish(schemas.SubjectWarm, wishes); err != nil {
				t.Fatal(err)
			}
			select {
			case m := <-warmed:
				all, err := schemas.DecodeWarm(m.Data)
				if err != nil || len(all) != 1 || all[0].CDN != "slow" || all[0].Stream != demo.Stream {
					t.Fatalf("%s, %v", m.Data, err)
				}
				looks++
			case <-time.After(500 * time.Millisecond):
			case <-limit:
				t.Fatal("nothing is warmed")
			}
		}
	}
	cold, warm := at("errors"), at("slow")
	next()
	warm.lists()
	next()
	next() // one that was under way when the lists were read does not count
	warm.fetch()
	cold.lists()
	cold.fetch()
	t.Logf("in the cache for the first viewer: %d of %d where it was warmed, %d of %d where not", warm.hits, len(warm.media), cold.hits, len(cold.media))
	if warm.hits != len(warm.media) || 2*cold.hits > len(cold.media) {
		t.Errorf("in the cache for the first viewer: %d of %d where it was warmed, %d of %d where not", warm.hits, len(warm.media), cold.hits, len(cold.media))
	}
}
