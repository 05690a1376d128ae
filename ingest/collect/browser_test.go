package collect

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
)

// A page of another origin can do everything that players and our page script
// do: post application/cmcd after its preflight, beacons as text and as JSON,
// CMCD headers, and read the clock.
func TestBrowser(t *testing.T) {
	chromium := browsertest.Start(t)
	r := newRig(t, nil)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>page</title>"))
	}))
	defer page.Close()
	script := `(async () => {
		const C = ` + "`" + r.url + "`" + `, out = [];
		const send = async (u, o) => { const a = await fetch(C + u, o); out.push(a.status); return a; };
		await send('/v1/cmcd?t=x', {method: 'POST', headers: {'Content-Type': 'application/cmcd', 'X-EPAS-Event': '1'}, body: 'e=t,sid="b",sn=0,v=2\n'});
		await send('/v1/cmcd', {method: 'POST', credentials: 'include', headers: {'Content-Type': 'application/cmcd', Authorization: 'Bearer x'}, body: 'e=t,sid="b",sn=1,v=2\n'});
		await send('/v1/cmcd', {headers: {'CMCD-Session': 'sid="b",v=2', 'CMCD-Request': 'sn=2'}});
		out.push(navigator.sendBeacon(C + '/v1/beacon', JSON.stringify({kind: 'end', sid: 'b', sn: 3})));
		out.push(navigator.sendBeacon(C + '/v1/beacon', new Blob([JSON.stringify({kind: 'end', sid: 'b', sn: 4})], {type: 'application/json'})));
		const clock = await (await send('/v1/clock')).json();
		out.push(Math.abs(clock.received_ms - Date.now()) < 60000 && clock.sent_ms >= clock.received_ms);
		const plain = new CompressionStream('gzip'), w = plain.writable.getWriter();
		w.write(new TextEncoder().encode('e=t,sid="b",sn=5,v=2\n')); w.close();
		await send('/v1/cmcd', {method: 'POST', headers: {'Content-Encoding': 'gzip', 'Content-Type': 'text/cmcd'}, body: await new Response(plain.readable).blob()});
		return out.join(' ');
	})()`
	chromium.Open(page.URL)
	got := browsertest.Eval[string](chromium, script)
	if want := "204 204 204 true true 200 true 204"; got != want {
		t.Errorf("the page got %q, want %q", got, want)
	}
	for i, x := range r.rows(6) {
		if x.Seq.V != int64(i) || x.SessionID != "b" || x.OS != "Linux" || x.Device != "desktop" {
			t.Errorf("row %d: %s of %s, seq %d, on %s %s", i, x.Source, x.SessionID, x.Seq.V, x.Device, x.OS)
		}
		if want := schemas.SourceBeacon; (i == 3 || i == 4) != (x.Source == want) {
			t.Errorf("row %d is a %s", i, x.Source)
		}
	}
	if n := r.counter("spillway_collect_requests_total", "204", "/v1/cmcd"); n < 6 { // four reports, and preflights of which the browser keeps some
		t.Errorf("%v answers for CMCD: were there no preflights?", n)
	}
}
