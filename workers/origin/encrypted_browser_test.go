package origin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/router"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// encryptedPage plays with hls.js through the edge and asks the router for keys.
const encryptedPage = `<!doctype html><video id="v" muted autoplay></video><script src="/hls.js"></script><script>
const v = document.getElementById('v'), errors = [], licences = [];
let frames = 0;
const frame = () => { frames++; v.requestVideoFrameCallback(frame); };
v.requestVideoFrameCallback(frame);
const b64 = (a) => btoa(String.fromCharCode(...a)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
const hls = new Hls({emeEnabled: true, drmSystems: {'org.w3.clearkey': {licenseUrl: %q, generateRequest: (type, initData, c) => {
  const kid = c.decryptdata.keyId;
  if (!kid) return {initDataType: 'cenc', initData};
  licences.push(b64(kid));
  return {initDataType: 'keyids', initData: new TextEncoder().encode(JSON.stringify({kids: [b64(kid)]})).buffer};
}}}});
hls.on(Hls.Events.ERROR, (_, e) => errors.push(e.type + ' ' + e.details + ' ' + e.fatal + ' ' + (e.error && e.error.message) + ' ' + (e.response && e.response.code)));
hls.loadSource(%q);
hls.attachMedia(v);
const state = () => ({time: v.currentTime, ready: v.readyState, frames, errors, keys: new Set(licences).size, audio: v.webkitAudioDecodedByteCount || 0});
</script>`

type encryptedState struct {
	Time          float64
	Ready, Frames int
	Errors        []string
	Keys          int
	Audio         int
}

// Chromium's EME plays an encrypted live stream whose key changes, through an
// edge, with keys that the router gives the session; without a token it gets
// none, and nothing plays.
func TestBrowserPlaysEncrypted(t *testing.T) {
	t.Parallel()
	page := browsertest.Start(t)
	b := bustest.Start(t)
	e := encrypted(t, 2)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{Encryption: e})
	o := run(t, b.JS, usePackagers)
	pack(t, b.JS)
	signer, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(router.Settings{JS: b.JS, Signer: signer, EdgeKey: "sesame", ViewerSalt: make([]byte, 16), Keys: &keys.Ring{}})
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, r.Run)
	ed, err := edge.New(edge.Settings{Name: "a", Origins: []string{o.url}, Routers: []string{r.URL()}, EdgeKey: "sesame", Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, ed.Run)
	bustest.Put(t, b.JS, schemas.BucketCDNs, "a", ed.Record())

	p := &media.Publisher{Clip: media.Load(t), Key: key, FirstMSN: 5, Start: time.Now().Add(-20 * time.Second), Encryption: e}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b.JS, schemas.BucketStreams, key.KVKey(), p.State(time.Now()))
	push(t, p, b.JS, 20*seconds)
	running.Start(t, func(ctx context.Context) error {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if err := p.Push(context.WithoutCancel(ctx), b.JS); err != nil {
				return err
			}
		}
	})
	<-r.Ready()
	var d schemas.Dispatch
	await.True(t, "the router has the stream", func() bool {
		a := get(t, r.URL()+"/v1/dispatch?app=live&stream=one")
		return a.code == 200 && json.Unmarshal(a.body, &d) == nil && d.ClearKey != "" && len(d.Candidates) > 0
	})
	open := func(licence string) { page.Open(hlsPage(t, fmt.Sprintf(encryptedPage, licence, d.Candidates[0].URL))) }
	var s encryptedState
	wait := func(what string, ok func() bool) {
		t.Helper()
		await.Text(t, what, func() string {
			if s = browsertest.Eval[encryptedState](page, "state()"); ok() {
				return ""
			}
			return fmt.Sprintf("%+v", s)
		})
	}
	open(d.ClearKey)
	first := 0.0
	wait("it plays 12 s with several keys", func() bool {
		if first == 0 && s.Frames > 0 {
			first = s.Time
		}
		return first > 0 && s.Time > first+12 && s.Frames > 100 && s.Keys >= 3 && s.Audio > 0
	})
	if len(s.Errors) > 0 {
		t.Errorf("hls.js reports %s", strings.Join(s.Errors, "\n"))
	}
	t.Logf("%+v", s)
	open(r.URL() + "/v1/keys/clearkey?t=forged")
	wait("the player says that it has no key", func() bool { return len(s.Errors) > 0 })
	if s.Frames > 0 || s.Time > 0 {
		t.Errorf("it plays without a key: %+v", s)
	}
}
