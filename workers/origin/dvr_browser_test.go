package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

const hlsJS = "../../dashboards/player/static/vendor/hls-1.7.4.min.js"

const dvrPage = `<!DOCTYPE html><meta charset="utf-8"><video id="v" muted autoplay width="320"></video>
<script src="/hls.js"></script><script>
const v = document.getElementById('v');
const seen = {errors: [], loaded: [], reloads: 0, skipped: 0};
const hls = new Hls({lowLatencyMode: true});
// "aborted" is what hls.js itself does to a load in progress when the viewer seeks.
hls.on('hlsError', (_, e) => { if (e.fatal || e.details !== 'aborted') seen.errors.push(e.details + (e.fatal ? ' (fatal)' : '')); });
hls.on('hlsFragLoaded', (_, e) => { if (e.frag.type === 'main') seen.loaded.push(e.frag.sn); });
hls.on('hlsLevelUpdated', (_, e) => { seen.reloads++; if (e.details.skippedSegments > 0) seen.skipped++; });
hls.loadSource(%q);
hls.attachMedia(v);
const state = () => ({
  time: v.currentTime, start: v.seekable.length ? v.seekable.start(0) : 0, end: v.seekable.length ? v.seekable.end(0) : 0,
  ready: v.readyState, seeking: v.seeking, date: hls.playingDate ? hls.playingDate.getTime() : 0, ...seen});
</script>`

type dvrState struct {
	Time, Start, End float64
	Ready            int
	Seeking          bool
	Date             int64
	Errors           []string
	Loaded           []any
	Reloads, Skipped int
}

// hlsPage serves a page and the hls.js it asks for, and gives its address.
func hlsPage(t *testing.T, html string) string {
	t.Helper()
	lib, err := os.ReadFile(hlsJS)
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hls.js" {
			_, _ = w.Write(lib)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, html)
	}))
	t.Cleanup(site.Close)
	return site.URL
}

// hls.js in Chromium plays what is live, goes back more than a minute, into
// what only the object store has, and plays there.
func TestBrowserSeeksBack(t *testing.T) {
	t.Parallel()
	page := browsertest.Start(t)
	b := bustest.Start(t)
	objects := shelfOf(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 600})
	record(t, b.JS, objects)
	o := run(t, b.JS, func(o *Origin) { o.Store = objects })
	pack(t, b.JS)
	// 110 s of the past at once, then as time goes by.
	const past = 110
	p := &media.Publisher{Clip: media.Load(t), Key: key, FirstMSN: 5, Start: time.Now().Add(-past * time.Second)}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p, b.JS, past*seconds)
	ctx, stop := context.WithCancel(context.Background())
	pushed := make(chan error, 1)
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				pushed <- nil
				return
			case <-tick.C:
			}
			if err := p.Push(t.Context(), b.JS); err != nil {
				pushed <- err
				return
			}
		}
	}()
	defer func() {
		stop()
		if err := <-pushed; err != nil {
			t.Error(err)
		}
	}()
	await.True(t, "the past is recorded", func() bool { return recordedVideo(t, objects) >= past/2-1 })

	page.Open(hlsPage(t, fmt.Sprintf(dvrPage, o.url+"/live/one/multivariant.m3u8?dvr=1")))
	var s dvrState
	wait := func(what string, ok func() bool) {
		t.Helper()
		await.Text(t, what, func() string {
			if s = browsertest.Eval[dvrState](page, "state()"); ok() {
				return ""
			}
			return fmt.Sprintf("%+v", s)
		})
	}
	wait("it plays near live", func() bool { return s.Ready >= 3 && s.Date > 0 && s.Time > s.End-30 && s.End-s.Start > 80 })
	live, liveTime := s.Date, s.Time
	reads := gauge(o.m.storeReads)
	browsertest.Eval[float64](page, "v.currentTime -= 75")
	wait("it plays 75 s further back", func() bool { return !s.Seeking && s.Ready >= 3 && s.Time > liveTime-75+3 && s.Time < liveTime-30 })
	if back := live - s.Date; back < 60_000 || back > 75_000 {
		t.Errorf("the playing date went back by %d ms", back)
	}
	if n := gauge(o.m.storeReads); n <= reads {
		t.Error("nothing was read from the object store")
	}
	wait("the playlist is kept up by delta updates", func() bool { return s.Skipped >= 2 })
	if len(s.Errors) > 0 {
		t.Errorf("hls.js reports %v", s.Errors)
	}
	t.Logf("%d reloads, %d of them delta updates, segments %v, %.0f read from the store", s.Reloads, s.Skipped, s.Loaded, gauge(o.m.storeReads))
}
