package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// worstMoment lets hls.js run with its own settings but for loaders that bring
// every playlist at the worst moment: when the newest part known has been
// loaded, and before it is parsed. That happens by itself now and then, more
// often the busier the machine. If the playlist then told of a segment's last
// part and of its end at once, hls.js would never load that part, and stall
// until the segment's parts leave the playlist ten seconds later.
const worstMoment = `
const view = window.view = {at: 0, moments: {main: 0, audio: 0}, errors: [], neglected: []};
const newest = {}, held = {}, asked = {}, open = {main: 0, audio: 0}, idle = {main: 0, audio: 0};
const release = (type) => { const f = held[type]; delete held[type]; if (f) f(); return !!f; };
const Loader = Hls.DefaultConfig.loader;
class PartLoader extends Loader {
  load(context, config, callbacks) {
    const {part, frag} = context, done = callbacks.onSuccess;
    if (!part) return super.load(context, config, callbacks);
    asked[frag.type] = part.fragment.sn + '.' + part.index;
    open[frag.type]++;
    const end = (...a) => { open[frag.type]--; done(...a); };
    super.load(context, config, {...callbacks, onSuccess: (...a) => {
      if (newest[frag.type] !== asked[frag.type]) return end(...a);
      held[frag.type] = () => end(...a);
      setTimeout(() => release(frag.type), 1000);
    }});
  }
}
class PlaylistLoader extends Loader {
  load(context, config, callbacks) {
    const done = callbacks.onSuccess, type = {level: 'main', audioTrack: 'audio'}[context.type];
    super.load(context, config, {...callbacks, onSuccess: async (...a) => {
      if (release(type)) {
        view.moments[type]++;
        // Promises of the part's loading go first; parsing it takes a worker's answer, which comes later.
        for (let i = 0; i < 50; i++) await null;
      }
      done(...a);
    }});
  }
}
const hls = window.hls = new Hls({fLoader: PartLoader, pLoader: PlaylistLoader});
const note = (type) => (_, e) => {
  const p = e.details.partList, last = p && p[p.length - 1];
  if (last) newest[type] = last.fragment.sn + '.' + last.index;
};
hls.on('hlsLevelUpdated', note('main'));
hls.on('hlsAudioTrackUpdated', note('audio'));
const video = document.getElementById('video');
let tracks = {};
hls.on('hlsBufferCreated', (_, e) => { tracks = e.tracks; });
const ranges = (b) => Array.from({length: b.length}, (_, i) => b.start(i).toFixed(3) + '-' + b.end(i).toFixed(3)).join(' ');
hls.on('hlsError', (_, e) => view.errors.push([e.details, 'at', video.currentTime.toFixed(3),
  ...Object.entries(tracks).map(([k, t]) => k + ' ' + ranges(t.buffer.buffered))].join(' ')));
// A part is neglected when it stays listed and nothing is asked for during twenty looks; a busy machine has few.
setInterval(() => {
  view.at = video.currentTime;
  for (const type of ['main', 'audio']) {
    idle[type] = asked[type] && asked[type] !== newest[type] && !open[type] ? idle[type] + 1 : 0;
    if (idle[type] === 20) view.neglected.push(type + ': ' + newest[type] + ' is listed, asked for was ' + asked[type]);
  }
}, 50);
hls.attachMedia(video);
hls.loadSource(new URLSearchParams(location.search).get('url'));
video.play();
`

// TestPlayerKeepsUpWhenPlaylistsComeAtTheWorstMoment plays through segment
// boundaries with that timing at every part.
func TestPlayerKeepsUpWhenPlaylistsComeAtTheWorstMoment(t *testing.T) {
	t.Parallel()
	u := up(t, environment(t), t.TempDir(), "--no-demo", "--only", "ingest,packager,origin,router,edge", "--cdns", "a")
	card := &publisher.Publisher{URL: u.Push + "/demo"}
	pushed := make(chan error, 1)
	go func() { pushed <- card.Run(t.Context()) }()
	t.Cleanup(func() { <-pushed })

	script, err := player.HLSJS()
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, `<!doctype html><video id="video" muted playsinline></video><script src="/hls.js"></script><script>`+worstMoment+`</script>`)
		case "/hls.js":
			w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			w.Write(script)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(page.Close)
	// From the fourth segment on: with fewer, hls.js starts at the very first picture, which is another story.
	within(t, time.Minute, "the stream has four segments", func() error {
		r, err := http.Get(u.Origins + "/live/demo/src/video/playlist.m3u8")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if n := bytes.Count(b, []byte("#EXTINF")); err == nil && n < 4 {
			err = fmt.Errorf("%s, %d segments", r.Status, n)
		}
		return err
	})
	ctx := browsertest.Start(t).Tab
	if err := chromedp.Run(ctx, chromedp.Navigate(page.URL+"/?url="+url.QueryEscape(u.HLS["a"]))); err != nil {
		t.Fatal(err)
	}
	type state struct {
		At                float64
		Moments           struct{ Main, Audio int }
		Errors, Neglected []string
	}
	var s state
	first := 0.0
	// On a busy machine the moment is hit less often, so it is the moments that are waited for.
	within(t, 4*time.Minute, "12 s are played, with ten playlists at the worst moment", func() error {
		var err error
		if s, err = browser.Evaluate[state](ctx, "view"); err != nil {
			return err
		}
		if first == 0 {
			first = s.At
		}
		if len(s.Neglected) > 0 {
			t.Fatalf("hls.js passes over a part: %+v", s)
		}
		if first == 0 || s.At < first+12 || min(s.Moments.Main, s.Moments.Audio) < 10 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	t.Logf("%+v", s)
}
