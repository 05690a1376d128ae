package whip_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/need"
)

// publishing is a page that publishes Chromium's fake camera and microphone by WHIP.
const publishing = `<!DOCTYPE html><script>
const offered = () => RTCRtpSender.getCapabilities('video').codecs.map(c => c.mimeType + ' ' + (c.sdpFmtpLine || ''));
async function go(url, codec) {
  const media = await navigator.mediaDevices.getUserMedia({video: {width: 320, height: 240, frameRate: 20}, audio: true});
  const pc = window.pc = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const t = pc.addTransceiver(track, {direction: 'sendonly', streams: [media]});
    if (track.kind === 'video') {
      t.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(c => c.mimeType === codec));
    }
  }
  await pc.setLocalDescription();
  const answer = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
  const text = await answer.text();
  if (answer.status !== 201) return answer.status + ' ' + text;
  await pc.setRemoteDescription({type: 'answer', sdp: text});
  window.session = new URL(answer.headers.get('Location'), url).href;
  return 'published';
}
const leave = async () => (await fetch(window.session, {method: 'DELETE'})).status;
</script>`

// TestChromium: a browser is the publisher.
func TestChromium(t *testing.T) {
	e := start(t, nil)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, publishing)
	}))
	defer page.Close()
	tab := browsertest.Start(t, browser.Flag{Name: "use-fake-device-for-media-stream", Value: true},
		browser.Flag{Name: "use-fake-ui-for-media-stream", Value: true}, browser.Flag{Name: "allow-loopback-in-peer-connection", Value: true})
	tab.Open(page.URL)
	can := browsertest.Eval[[]string](tab, "offered()")
	t.Log(strings.Join(can, "; "))
	if got := browsertest.Eval[string](tab, fmt.Sprintf("go(%q, 'video/VP8')", e.srv.URL()+"live/demo")); !strings.HasPrefix(got, "406") || !strings.Contains(got, "VP8") {
		t.Errorf("VP8: %s", got)
	}
	if !strings.Contains(strings.Join(can, " "), "video/H264") {
		need.Missing(t, "this Chromium does not encode H.264: Debian's does")
	}
	if got := browsertest.Eval[string](tab, fmt.Sprintf("go(%q, 'video/H264')", e.srv.URL()+"live/demo")); got != "published" {
		t.Fatal(got)
	}
	segments := func() uint64 {
		st, _ := publishtest.State(t, e.bus.JS, demo)
		return st.Stats.Chunks
	}
	await.True(t, "eight seconds are published", func() bool { return segments() >= 40 })
	if got := browsertest.Eval[int](tab, "leave()"); got != http.StatusOK {
		t.Errorf("DELETE: %d", got)
	}
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	frames := map[schemas.Track]int{}
	for _, o := range r.Opens {
		for k, n := range r.Decode(t, o) {
			frames[k] += n
		}
	}
	last := r.Chunks[len(r.Chunks)-1]
	t.Logf("%d epochs, %d pictures, %d sounds, clock %s; %+v", len(r.Opens), frames[schemas.Video], frames[schemas.Audio], last.Clock, r.Opens[0].Tracks)
	if len(r.Opens[0].Tracks) != 2 || frames[schemas.Video] < 20 || frames[schemas.Audio] < 200 {
		t.Errorf("epochs %+v, frames %v", r.Opens, frames)
	}
	if v := r.Check.Tracks[schemas.Video]; v.Keys < 3 {
		t.Errorf("%d key frames in %s: browsers send them when asked only", v.Keys, time.Duration(8)*time.Second)
	}
}
