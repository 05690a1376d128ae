package router_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	m3u8 "github.com/bluenviron/gohlslib/v2/pkg/playlist"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// steeringList is a steering answer as players read it.
type steeringList struct {
	TTL      int      `json:"TTL"`
	Reload   string   `json:"RELOAD-URI"`
	Priority []string `json:"PATHWAY-PRIORITY"`
	Clones   []struct {
		Base string `json:"BASE-ID"`
		ID   string `json:"ID"`
		URI  struct {
			Host         string            `json:"HOST"`
			PerVariant   map[string]string `json:"PER-VARIANT-URIS"`
			PerRendition map[string]string `json:"PER-RENDITION-URIS"`
		} `json:"URI-REPLACEMENT"`
	} `json:"PATHWAY-CLONES"`
}

// steer asks a steering address.
func (r instance) steer(t testing.TB, address, query string) steeringList {
	t.Helper()
	a := r.get(t, address+query)
	var s steeringList
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || a.status != 200 {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return s
}

// steeringAddress finds the address in a manifest.
func steeringAddress(t testing.TB, manifest string) string {
	t.Helper()
	i := strings.Index(manifest, "http://127.0.0.1")
	for ; i >= 0 && !strings.Contains(manifest[i:i+60], "/v1/steering"); i = i + 1 + strings.Index(manifest[i+1:], "http://127.0.0.1") {
	}
	if i < 0 {
		t.Fatalf("no steering address in %s", manifest)
	}
	return manifest[i : i+strings.IndexAny(manifest[i:], `"<`)]
}

// TestClonesTellOfANewCDN: a CDN that was not in the manifest is announced, by its
// host where nothing else differs and with every address otherwise, by a router
// that has never seen the session.
func TestClonesTellOfANewCDN(t *testing.T) {
	b := world(t)
	u, _ := origin(t)
	withDASH := func(s *router.Settings) { s.Origins = []string{u} }
	r := start(t, b.JS, withDASH)
	other := start(t, b.JS, withDASH)
	d := r.dispatch(t, "")
	hls := steeringAddress(t, r.get(t, d.URL).body)
	mpd := steeringAddress(t, r.get(t, "/v1/play/live/demo/manifest.mpd?s="+d.Token).body)
	if s := r.steer(t, hls, "&_HLS_pathway=a"); len(s.Clones) != 0 {
		t.Errorf("clones of what is in the manifest: %+v", s.Clones)
	}
	put(t, b.JS, schemas.BucketCDNs, "d", cdn("d", 7, 0))
	e := cdn("e", 8, 0)
	e.BaseURL = "http://e.example:8443"
	put(t, b.JS, schemas.BucketCDNs, "e", e)
	for _, n := range []string{"a", "c"} {
		off := cdn(n, 0, 0)
		off.State = schemas.CDNOff
		put(t, b.JS, schemas.BucketCDNs, n, off)
	}
	hls = strings.Replace(hls, r.URL(), other.URL(), 1)
	mpd = strings.Replace(mpd, r.URL(), other.URL(), 1)
	var s steeringList
	await.True(t, "d and e are in the answer", func() bool {
		s = other.steer(t, hls, "&_HLS_pathway=a")
		return strings.Join(s.Priority, " ") == "b d e"
	})
	if len(s.Clones) != 2 || s.Clones[0].ID != "d" || s.Clones[0].Base != "b" || s.Clones[0].URI.Host != "d.example" || s.Clones[0].URI.PerVariant != nil {
		t.Fatalf("clones %+v", s.Clones)
	}
	c := s.Clones[1]
	if c.ID != "e" || c.URI.Host != "" || c.URI.PerVariant["src"] != "http://e.example:8443/t/"+d.Token+"/live/demo/src/video/playlist.m3u8" ||
		c.URI.PerRendition["src-audio"] != "http://e.example:8443/t/"+d.Token+"/live/demo/src/audio/playlist.m3u8" {
		t.Errorf("a CDN on another port and path: %+v", c)
	}
	if !strings.HasPrefix(s.Reload, other.URL()+"/v1/steering?s=") {
		t.Errorf("reload address %s", s.Reload)
	}
	// DASH knows hosts only; what it cannot be told is in the next MPD.
	if s := other.steer(t, mpd, "&_DASH_pathway=%22a%22"); len(s.Clones) != 1 || s.Clones[0].ID != "d" || s.Clones[0].URI.Host != "d.example" {
		t.Errorf("DASH clones %+v", s.Clones)
	}
	await.True(t, "the next MPD has both", func() bool {
		body := other.get(t, "/v1/play/live/demo/manifest.mpd?s="+d.Token).body
		return strings.Contains(body, `serviceLocation="d"`) && strings.Contains(body, `serviceLocation="e"`) && !strings.Contains(body, `serviceLocation="a"`)
	})
	// From the clone on it is a pathway as any other.
	if s := other.steer(t, s.Reload, "&_HLS_pathway=d"); s.Priority[0] != "d" || len(s.Clones) != 2 {
		t.Errorf("on the clone: %+v", s)
	}
}

// TestPenalisedPathways: a player that is not where it was sent holds that CDN in
// its penalty box. It is not sent there again, by any router, until that is over.
func TestPenalisedPathways(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	c, err := newSigner(t).ParseSession(d.Token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Minute).Unix()
	ask := func(st token.Steering, on string) (steeringList, token.Steering) {
		st.Session = c
		tok, err := newSigner(t).SignSteering(st)
		if err != nil {
			t.Fatal(err)
		}
		s := r.steer(t, "/v1/steering?s="+tok, "&_HLS_pathway="+on)
		return s, steeringState(t, s.Reload+`"`)
	}
	s, st := ask(token.Steering{Format: "hls", Sent: "a", SentUnix: long}, "b")
	if strings.Join(s.Priority, " ") != "b c a" || st.Penalties["a"] < time.Now().Add(280*time.Second).Unix() {
		t.Errorf("left a by itself: %v, %v", s.Priority, st.Penalties)
	}
	if s, st := ask(token.Steering{Format: "hls", Sent: "a", SentUnix: time.Now().Unix()}, "b"); strings.Join(s.Priority, " ") != "b a c" || len(st.Penalties) != 0 {
		t.Errorf("just sent to a: %v, %v", s.Priority, st.Penalties)
	}
	if s, _ := ask(token.Steering{Format: "hls", Sent: "b", SentUnix: long, Penalties: map[string]int64{"a": time.Now().Unix() - 1}}, "b"); strings.Join(s.Priority, " ") != "b a c" {
		t.Errorf("the penalty is over: %v", s.Priority)
	}
	if _, st := ask(token.Steering{Format: "hls", Sent: "a", SentUnix: long, Penalties: map[string]int64{"a": time.Now().Unix() + 99}}, "a"); len(st.Penalties) != 0 {
		t.Errorf("it plays there again: %v", st.Penalties)
	}
	if _, st := ask(token.Steering{Format: "dash", Sent: "a", SentUnix: long}, "b"); st.Penalties["a"] > time.Now().Add(61*time.Second).Unix() || st.Penalties["a"] == 0 {
		t.Errorf("DASH players forget within a minute: %v", st.Penalties)
	}
	off := cdn("b", 1, 0)
	off.State = schemas.CDNOff
	put(t, b.JS, schemas.BucketCDNs, "b", off)
	await.True(t, "sent to c, not to the publisher's CDN a", func() bool {
		s, _ := ask(token.Steering{Format: "hls", Sent: "b", SentUnix: long, Penalties: map[string]int64{"a": time.Now().Unix() + 99}}, "b")
		return slices.Equal(s.Priority, []string{"c", "a"})
	})
}

// TestPlayersThatDoNotSteer: they get each variant once more for every CDN, in the
// order in which to fall back, and a session that begins after a CDN has gone a
// list without it.
func TestPlayersThatDoNotSteer(t *testing.T) {
	b := world(t)
	u, _ := origin(t)
	r := start(t, b.JS, func(s *router.Settings) { s.Origins = []string{u} })
	apple := func(system string) string { return "AppleCoreMedia/1.0.0.1 (" + system + "; en_us)" }
	for agent, steers := range map[string]bool{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156 Safari/537.36": true, "": true,
		"ExoPlayerDemo/2.19 (Linux;Android 14) ExoPlayerLib/2.19.1": false, "app/1 (Linux;Android 15) AndroidXMedia3/1.8.0": false,
		"Lavf/59.27.100": false, "VLC/3.0.18 LibVLC/3.0.18": false,
		apple("iPhone; U; CPU OS 14_8 like Mac OS X"): false, apple("iPhone; U; CPU OS 15_0 like Mac OS X"): true,
		apple("Macintosh; U; Intel Mac OS X 11_6"): false, apple("Macintosh; U; Intel Mac OS X 12_0_1"): true,
	} {
		body := r.get(t, "/v1/play/live/demo/multivariant.m3u8", "User-Agent", agent).body
		if got := strings.Contains(body, "EXT-X-CONTENT-STEERING"); got != steers {
			t.Errorf("%q: steering %v, want %v", agent, got, steers)
		}
	}
	order := func(query string) []string {
		t.Helper()
		body := r.get(t, "/v1/play/live/demo/multivariant.m3u8?steer=0"+query).body
		p, err := m3u8.Unmarshal([]byte(body))
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if strings.Contains(body, "PATHWAY-ID") || strings.Contains(body, "STEERING") || strings.Contains(body, "STABLE-VARIANT") {
			t.Errorf("pathways for one that knows none:\n%s", body)
		}
		var hosts []string
		for _, v := range p.(*m3u8.Multivariant).Variants {
			x, err := url.Parse(v.URI)
			if err != nil {
				t.Fatal(err)
			}
			hosts = append(hosts, x.Hostname())
			if v.Bandwidth != 3_000_000 || v.Resolution != "1280x720" {
				t.Errorf("a backup differs from the first: %+v", v)
			}
		}
		return hosts
	}
	if got := order(""); strings.Join(got, " ") != "a.example b.example c.example" {
		t.Errorf("order %v", got)
	}
	d := r.dispatch(t, "&steer=0")
	if !strings.HasSuffix(d.URL, "&steer=0") {
		t.Errorf("the answer forgets that the player does not steer: %s", d.URL)
	}
	mpd := func() string { return r.get(t, "/v1/play/live/demo/manifest.mpd?steer=0&s="+d.Token).body }
	if body := mpd(); strings.Contains(body, "ContentSteering") || !strings.Contains(body, "steer=0") || strings.Count(body, "<BaseURL") != 3 {
		t.Errorf("MPD:\n%s", body)
	}
	// A CDN that is gone: in the next session's list, in that of the same session asked
	// for again, and in the MPD, which players fetch every two seconds.
	off := cdn("a", 0, 0)
	off.State = schemas.CDNOff
	put(t, b.JS, schemas.BucketCDNs, "a", off)
	await.True(t, "a is in no list", func() bool { return strings.Join(order(""), " ") == "b.example c.example" })
	if got := order("&s=" + d.Token); strings.Join(got, " ") != "b.example c.example" {
		t.Errorf("asked for again: %v", got)
	}
	if body := mpd(); !strings.Contains(body, `<BaseURL serviceLocation="b">`) || strings.Contains(body, `serviceLocation="a"`) {
		t.Errorf("the next MPD:\n%s", body)
	}
	put(t, b.JS, schemas.BucketApps, "live", schemas.AppSettings{Steering: schemas.SteeringOff})
	await.True(t, "the application's settings count", func() bool {
		return !strings.Contains(r.get(t, "/v1/play/live/demo/multivariant.m3u8").body, "STEERING")
	})
	if !strings.Contains(r.get(t, "/v1/play/live/demo/multivariant.m3u8?steer=1").body, "STEERING") {
		t.Error("what the request says comes first")
	}
}

func (r instance) post(t testing.TB, address string, body any) answer {
	t.Helper()
	b, ok := body.(string)
	if !ok {
		j, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		b = string(j)
	}
	res, err := http.Post(address, "application/json", bytes.NewReader([]byte(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, string(text), res.Header}
}

func TestDispatchForClientsThatProbe(t *testing.T) {
	b := world(t)
	u, _ := origin(t)
	r := start(t, b.JS, func(s *router.Settings) {
		s.Origins = []string{u}
		s.PublishURL = "rtmp://in/{app}/{stream}?cdn={cdn} rtmps://in/{app}/{stream} srt://in:8890?streamid={app}/{stream} https://in/whip/{app}/{stream}"
		s.PublishProbeURL = "https://in-{cdn}/probe"
	})
	d := r.dispatch(t, "")
	x := d.Candidates[0]
	names := func(c schemas.DispatchCandidate) (out []string) {
		for _, x := range c.Transports {
			out = append(out, x.Name+"/"+x.Over)
		}
		return out
	}
	if got := names(x); strings.Join(got, " ") != "ll-hls/tcp dash/tcp hls-ts/tcp" || x.Transports[0].URL != x.URL || x.Tier != "room" ||
		x.ProbeURL != "http://a.example/t/"+d.Token+"/live/demo/probe" || d.FreshSec == 0 || d.ExpiresUnix < time.Now().Unix() || !strings.HasPrefix(d.Probes, r.URL()+"/v1/probes?s=") {
		t.Errorf("%v, %+v", got, d)
	}
	var p schemas.Dispatch
	if err := json.Unmarshal([]byte(r.get(t, "/v1/dispatch?app=live&stream=new&publish=1").body), &p); err != nil {
		t.Fatal(err)
	}
	if got := names(p.Candidates[1]); strings.Join(got, " ") != "rtmp/tcp rtmps/tcp srt/udp whip/udp" || p.Candidates[1].URL != "rtmp://in/live/new?cdn=b" || p.Candidates[1].ProbeURL != "https://in-b/probe" {
		t.Errorf("publish: %v, %+v", got, p.Candidates[1])
	}
	near := schemas.StreamKey{App: "live", Stream: "near"}
	put(t, b.JS, schemas.BucketStreams, near.KVKey(), state(near, "b"))
	await.True(t, "neighbours alone", func() bool {
		var n schemas.Dispatch
		a := r.get(t, "/v1/dispatch?app=live&neighbours=near,demo,gone")
		return json.Unmarshal([]byte(a.body), &n) == nil && n.SessionID == "" && len(n.Neighbours) == 2 && n.Neighbours[0].Candidates[0].CDN == "b"
	})
	if got := r.Viewers(); got["a"] != 1 || len(got) != 1 {
		t.Errorf("neighbours count as viewers: %v", got)
	}
	// The client cannot reach a, and reaches c much sooner than b.
	results := []schemas.ProbeResult{{CDN: "a", Failed: true}, {CDN: "b", FirstByteMs: 200, TotalMs: 210}, {CDN: "c", FirstByteMs: 20, TotalMs: 21}, {CDN: "nowhere", FirstByteMs: 1, TotalMs: 1}}
	a := r.post(t, d.Probes, schemas.ProbeReport{Results: results})
	var again schemas.Dispatch
	if err := json.Unmarshal([]byte(a.body), &again); err != nil || again.SessionID != d.SessionID || len(again.Candidates) != 3 ||
		again.Candidates[0].CDN != "c" || again.Candidates[2].CDN != "a" || again.Candidates[2].Tier != "penalised" {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	if body := r.get(t, again.URL).body; !strings.Contains(body, `PATHWAY-ID="c"`+"\n#EXT-X-MEDIA") {
		t.Errorf("the session does not begin on the CDN that was chosen:\n%s", body)
	}
	// Measured ahead of time, a neighbour is answered anew, and begins when it is opened.
	var ahead, chosen schemas.Dispatch
	if err := json.Unmarshal([]byte(r.get(t, "/v1/dispatch?app=live&neighbours=near").body), &ahead); err != nil || len(ahead.Neighbours) != 1 {
		t.Fatalf("%+v: %v", ahead, err)
	}
	a = r.post(t, ahead.Neighbours[0].Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "b", Failed: true}}})
	if err := json.Unmarshal([]byte(a.body), &chosen); err != nil || chosen.Candidates[0].CDN == "b" {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	if got := r.Viewers(); got["c"] != 1 || len(got) != 1 {
		t.Errorf("a neighbour that was measured counts as a viewer: %v", got)
	}
	if r.get(t, chosen.URL); r.Viewers()[chosen.Candidates[0].CDN] == 0 {
		t.Errorf("it was opened on %s: %v", chosen.Candidates[0].CDN, r.Viewers())
	}
	for _, c := range []struct {
		name, address string
		body          any
		status        int
		says          string
	}{
		{"no token", r.URL() + "/v1/probes", "{}", 403, "malformed"},
		{"no JSON", d.Probes, "{", 400, "no JSON"},
		{"unknown field", d.Probes, `{"x":1}`, 400, "x"},
		{"nothing", d.Probes, `{}`, 400, "0 entries"},
		{"twice", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a"}, {CDN: "a"}}}, 400, "twice"},
		{"negative", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "a", FirstByteMs: -1}}}, 400, "first_byte_ms"},
		{"name", d.Probes, schemas.ProbeReport{Results: []schemas.ProbeResult{{CDN: "../a"}}}, 400, "results[0].cdn"},
		{"too long", d.Probes, `{"results":[` + strings.Repeat(" ", 9000) + `]}`, 413, "bytes"},
	} {
		if a := r.post(t, c.address, c.body); a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
}

// TestCandidatesTold: an answer names the five best unless it is asked for more or
// fewer; the decision has them all.
func TestCandidatesTold(t *testing.T) {
	b := world(t)
	for i := range 4 {
		x := cdn(fmt.Sprint("more", i), 10+i, 0)
		put(t, b.JS, schemas.BucketCDNs, x.Name, x)
	}
	r := start(t, b.JS)
	await.True(t, "the router knows all seven", func() bool { return len(r.dispatch(t, "&candidates=100").Candidates) == 7 })
	all := r.dispatch(t, "&candidates=7")
	for query, want := range map[string]int{"": 5, "&candidates=1": 1, "&candidates=8": 7} {
		d := r.dispatch(t, query)
		if len(d.Candidates) != want {
			t.Errorf("%q: %d candidates, want %d", query, len(d.Candidates), want)
		}
		for i := range d.Candidates {
			if d.Candidates[i].CDN != all.Candidates[i].CDN {
				t.Errorf("%q: candidate %d is %s, want %s", query, i, d.Candidates[i].CDN, all.Candidates[i].CDN)
			}
		}
	}
	for _, bad := range []string{"0", "-1", "five", "1e9999"} {
		if a := r.get(t, "/v1/dispatch?app=live&stream=demo&candidates="+bad); a.status != 400 || !strings.Contains(a.body, "candidates is") {
			t.Errorf("candidates=%s: %d %s", bad, a.status, a.body)
		}
	}
	await.True(t, "a decision with all candidates", func() bool {
		for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
			if len(d.Candidates) == 7 {
				return true
			}
		}
		return false
	})
}
