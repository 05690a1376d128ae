package transcode

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// page plays at the lowest level and does not go up by itself.
const page = `<!doctype html><video id=v muted autoplay playsinline width=320></video><script src=/hls.js></script><script>
const v = document.getElementById('v'), s = window.seen = {stalls: 0, errors: [], levels: []};
const hls = window.hls = new Hls({startLevel: 0, abrBandWidthUpFactor: 1e-6, lowLatencyMode: true});
hls.on(Hls.Events.ERROR, (_, d) => { s.errors.push(d.details + (d.fatal ? ' fatal' : '')); if (d.details == 'bufferStalledError') s.stalls++; });
hls.on(Hls.Events.LEVEL_SWITCHED, (_, d) => s.levels.push(d.level));
hls.loadSource('%s'); hls.attachMedia(v);
</script>`

// hls.js changes levels up and down without a stall, and leaves a rendition
// that is made no more by itself.
func TestPlayerChangesLevels(t *testing.T) {
	chromium := browsertest.Start(t)
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, (&origin.Origin{JetStream: b.JS, Listener: l}).Run)
	pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond})

	// Asking for a media playlist is what makes a stream watched.
	base := "http://" + l.Addr().String() + "/" + key.String()
	await.True(t, "both renditions are listed", func() bool {
		get(t, base+"/src/video/playlist.m3u8")
		m := get(t, base+"/multivariant.m3u8")
		return strings.Contains(m, "144p/video/playlist.m3u8") && strings.Contains(m, "90p/video/playlist.m3u8")
	})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hls.js" {
			http.ServeFile(w, r, "../../dashboards/player/static/vendor/hls-1.7.4.min.js")
			return
		}
		fmt.Fprintf(w, page, base+"/multivariant.m3u8")
	}))
	t.Cleanup(web.Close)
	chromium.Open(web.URL)
	// eval gives the value's JSON.
	eval := func(js string) string {
		t.Helper()
		return string(browsertest.Eval[json.RawMessage](chromium, js))
	}
	plays := func(what, height string) {
		t.Helper()
		await.True(t, what+" ("+eval("window.seen")+")", func() bool { return eval("v.videoHeight") == height })
		eval("window.from = v.currentTime")
		await.True(t, what+" goes on ("+eval("window.seen")+")", func() bool { return eval("v.currentTime > from + 1.5") == "true" })
	}
	plays("the lowest level", "90")
	eval("(seen.stalls = 0, hls.nextLevel = 2)")
	plays("the publisher's own", "180")
	eval("hls.nextLevel = 1")
	plays("the middle level", "144")
	eval("hls.nextLevel = 0")
	plays("the lowest level again", "90")
	if n := eval("seen.stalls"); n != "0" {
		t.Errorf("%s stalls while levels changed: %s", n, eval("seen"))
	}
	eval("hls.nextLevel = -1") // the player decides; it has no reason to go up
	setLadder(t, b.JS, key.App, []schemas.Rung{ladder[0]})
	await.True(t, "the player leaves the rendition that ended", func() bool { return eval("v.videoHeight != 90") == "true" })
	eval("window.from = v.currentTime")
	await.True(t, "it plays on", func() bool { return eval("v.currentTime > from + 1.5") == "true" })
	t.Logf("at the end: %s", eval("seen"))
	if strings.Contains(eval("seen.errors"), "fatal") {
		t.Errorf("a fatal error: %s", eval("seen"))
	}
}

func get(t testing.TB, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
