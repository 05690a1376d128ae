package router_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	m3u8 "github.com/bluenviron/gohlslib/v2/pkg/playlist"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/router"
)

var key = schemas.StreamKey{App: "live", Stream: "demo"}

const edgeKey = "sesame"

func newSigner(t testing.TB) *token.Signer {
	t.Helper()
	s, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, js jetstream.JetStream, bucket, k string, v any) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), k, b); err != nil {
		t.Fatal(err)
	}
}

func state(k schemas.StreamKey, cdn string) schemas.StreamState {
	return schemas.StreamState{
		App: k.App, Stream: k.Stream, Live: true, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(), // a slow test does not end it
		Epoch: schemas.EpochOpen{
			Version: 1, App: k.App, Stream: k.Stream, Rendition: schemas.SourceRendition, Epoch: 1, CDN: cdn, Protocol: "rtmp",
			Tracks: []schemas.TrackInfo{
				{Track: schemas.Video, Codec: "avc1.64001f", InitID: strings.Repeat("0", 32), PartTargetUs: 200_000, Timescale: 90000, Width: 1280, Height: 720, FPS: 30},
				{Track: schemas.Audio, Codec: "mp4a.40.2", InitID: strings.Repeat("1", 32), PartTargetUs: 200_000, Timescale: 48000, SampleRate: 48000, Channels: 2},
			},
		},
		Stats: schemas.PublisherStats{VideoBps: 2_400_000, AudioBps: 128_000, PeakBps: 3_000_000, KeyframeMs: 2000},
	}
}

func cdn(name string, order, spill int) schemas.CDN {
	return schemas.CDN{Name: name, BaseURL: "http://" + name + ".example", State: schemas.CDNActive, Order: order, SpillViewers: spill}
}

// world is a bus with three CDNs and a live stream published through a.
func world(t testing.TB) *bustest.Bus {
	t.Helper()
	b := bustest.Start(t)
	for i, n := range []string{"a", "b", "c"} {
		put(t, b.JS, schemas.BucketCDNs, n, cdn(n, i, 0))
	}
	put(t, b.JS, schemas.BucketStreams, key.KVKey(), state(key, "a"))
	return b
}

type instance struct {
	*router.Router
	stop func()
}

func start(t testing.TB, js jetstream.JetStream, edit ...func(*router.Settings)) instance {
	t.Helper()
	return run(t, settings(t, js, edit...))
}

func settings(t testing.TB, js jetstream.JetStream, edit ...func(*router.Settings)) router.Settings {
	t.Helper()
	s := router.Settings{
		JS: js, Signer: newSigner(t), EdgeKey: edgeKey, ViewerSalt: []byte("salt of 16 bytes"),
		Collector: "http://collector.example", PublishURL: "rtmp://ingest.example/{app}/{stream}?cdn={cdn}",
		Registerer: prometheus.NewRegistry(),
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

// run runs a router; before is done to it first.
func run(t testing.TB, s router.Settings, before ...func(*router.Router)) instance {
	t.Helper()
	r, err := router.New(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		f(r)
	}
	return instance{r, running.Start(t, r.Run).Ready(r.Ready()).Stop}
}

type answer struct {
	status int
	body   string
	header http.Header
}

func (r instance) get(t testing.TB, path string, header ...string) answer {
	t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = r.URL() + path
	}
	q, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, string(b), res.Header}
}

func (r instance) dispatch(t testing.TB, query string, header ...string) schemas.Dispatch {
	t.Helper()
	a := r.get(t, "/v1/dispatch?app=live&stream=demo"+query, header...)
	var d schemas.Dispatch
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 {
		t.Fatalf("dispatch: %d %s (%v)", a.status, a.body, err)
	}
	return d
}

// records reads everything of a subject filter that the bus holds.
func records(t testing.TB, js jetstream.JetStream, filter string) []jetstream.Msg {
	t.Helper()
	stream := schemas.StreamDecisions
	if strings.HasPrefix(filter, "events.") {
		stream = schemas.StreamEvents
	}
	c, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []jetstream.Msg
	for range info.NumPending {
		m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func decisions(t testing.TB, js jetstream.JetStream, kind schemas.DecisionKind) []schemas.Decision {
	t.Helper()
	var out []schemas.Decision
	for _, m := range records(t, js, "decisions."+string(kind)+".>") {
		all, err := schemas.DecodeRecords[schemas.Decision](m.Data())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if m.Subject() != schemas.DecisionSubject(&d) {
				t.Errorf("decision on subject %s", m.Subject())
			}
		}
		out = append(out, all...)
	}
	return out
}

func TestDispatch(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "&viewer=alice@example.org", "X-Spillway-Region", "eu", "X-Spillway-ISP", "Kabel")
	c, err := newSigner(t).ParseSession(d.Token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.SessionID != d.SessionID || c.App != "live" || c.Stream != "demo" || c.CDN != "a" || c.Pinned || c.Region != "eu" || c.ISP != "Kabel" {
		t.Errorf("claims %+v", c)
	}
	if c.ViewerID == "" || strings.Contains(c.ViewerID, "alice") {
		t.Errorf("viewer id %q", c.ViewerID)
	}
	if d.URL != r.URL()+"/v1/play/live/demo/multivariant.m3u8?s="+d.Token || d.Telemetry != "http://collector.example/v1/cmcd?t="+d.Token ||
		d.Beacon != "http://collector.example/v1/beacon?t="+d.Token || d.Clock != "http://collector.example/v1/clock" || d.ContentID != "live/demo" {
		t.Errorf("answer %+v", d)
	}
	if len(d.Candidates) != 3 || d.Candidates[0].CDN != "a" || d.Candidates[0].URL != "http://a.example/t/"+d.Token+"/live/demo/multivariant.m3u8" || d.Candidates[0].Score <= d.Candidates[1].Score {
		t.Errorf("candidates %+v", d.Candidates)
	}
	again := r.dispatch(t, "&viewer=alice@example.org")
	if c2, _ := newSigner(t).ParseSession(again.Token, time.Now()); c2.ViewerID != c.ViewerID || c2.SessionID == c.SessionID {
		t.Errorf("second visit: %+v", c2)
	}
	await.True(t, "both decisions are on the bus", func() bool { return len(decisions(t, b.JS, schemas.DecisionDispatch)) == 2 })
	x := decisions(t, b.JS, schemas.DecisionDispatch)[0]
	if x.SessionID != d.SessionID || x.Chosen != "a" || x.ReasonCode != "affinity" || x.Policy != "affinity" || x.PolicyVersion != "2.1" || x.Probability != 1 || len(x.Candidates) != 3 || x.Region != "eu" || x.InputAgeMs != -1 {
		t.Errorf("decision %+v", x)
	}
}

func TestDispatchVariants(t *testing.T) {
	b := world(t)
	near := schemas.StreamKey{App: "live", Stream: "near"}
	put(t, b.JS, schemas.BucketStreams, near.KVKey(), state(near, "b"))
	r := start(t, b.JS)
	d := r.dispatch(t, "&pin=c&neighbours=near,gone,,demo")
	if d.Candidates[0].CDN != "c" || len(d.Neighbours) != 1 {
		t.Fatalf("pinned with neighbours: %+v", d)
	}
	if c, _ := newSigner(t).ParseSession(d.Token, time.Now()); !c.Pinned || c.CDN != "c" {
		t.Errorf("pinned claims %+v", c)
	}
	n := d.Neighbours[0]
	if c, _ := newSigner(t).ParseSession(n.Token, time.Now()); c.Stream != "near" || n.SessionID == d.SessionID {
		t.Errorf("neighbour %+v", n)
	}
	if got := r.Viewers(); got["c"] != 1 || len(got) != 1 {
		t.Errorf("a neighbour that nobody watches counts as load: %v", got)
	}
	a := r.get(t, "/v1/dispatch?app=live&stream=new&publish=1")
	var p schemas.Dispatch
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || len(p.Candidates) != 3 || p.Candidates[0].URL != "rtmp://ingest.example/live/new?cdn=a" || p.Token != "" {
		t.Errorf("publish: %s", a.body)
	}
	await.True(t, "the publish decision is on the bus", func() bool { return len(decisions(t, b.JS, schemas.DecisionPublish)) == 1 })
}

func TestRefusals(t *testing.T) {
	b := world(t)
	old := schemas.StreamKey{App: "live", Stream: "old"}
	s := state(old, "a")
	s.Live, s.UpdatedUnixUs, s.EndReason = false, time.Now().Add(-2*time.Minute).UnixMicro(), "publisher left"
	put(t, b.JS, schemas.BucketStreams, old.KVKey(), s)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	expired, err := newSigner(t).SignSession(token.Session{SessionID: "s", App: "live", Stream: "demo", ExpiresUnix: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/v1/dispatch?app=live&stream=none", 404, "unknown"},
		{"/v1/dispatch?app=live&stream=old", 404, "publisher left"},
		{"/v1/dispatch?app=live", 400, "stream name is empty"},
		{"/v1/dispatch?app=li.ve&stream=x", 400, "application name"},
		{"/v1/dispatch?app=live&stream=%3E", 400, "stream name"},
		{"/v1/dispatch?app=live&stream=demo&viewer=" + strings.Repeat("v", 129), 400, "viewer"},
		{"/v1/dispatch?app=live&stream=demo&pin=nowhere", 404, "not in service"},
		{"/v1/dispatch?app=live&stream=demo&pin=%00", 400, "pin"},
		{"/v1/dispatch?app=%zz", 400, "percent"},
		{"/v1/dispatch?app=live&stream=demo&x=" + strings.Repeat("x", 5000), 414, "query"},
		{"/v1/play/live/none/multivariant.m3u8", 404, "unknown"},
		{"/v1/play/live/demo/multivariant.m3u8?s=garbage", 403, "malformed"},
		{"/v1/play/live/demo/multivariant.m3u8?s=" + expired, 403, "expired"},
		{"/v1/play/live/old/multivariant.m3u8?s=" + d.Token, 403, "not for live/old"},
		{"/live/demo/multivariant.m3u8", 403, "edges"},
		{"/v1/steering", 403, "malformed"},
		{"/v1/steering?s=" + d.Token[:len(d.Token)-1], 403, "signature"},
		{"/v1/nothing", 404, "no such page"},
	} {
		a := r.get(t, c.path)
		var e schemas.ErrorAnswer
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != c.status || !strings.Contains(e.Error, c.says) {
			t.Errorf("%.60s: %d %s, want %d saying %q", c.path, a.status, a.body, c.status, c.says)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%.60s: a page cannot read the refusal", c.path)
		}
	}
	if a := r.get(t, "/live/demo/multivariant.m3u8", "X-Spillway-Edge-Key", "wrong", "X-Spillway-CDN", "a"); a.status != 403 {
		t.Errorf("wrong edge key: %d", a.status)
	}
	for _, n := range []string{"a", "b", "c"} {
		x := cdn(n, 0, 0)
		x.State = schemas.CDNDraining
		put(t, b.JS, schemas.BucketCDNs, n, x)
	}
	await.True(t, "no CDN takes viewers", func() bool {
		a := r.get(t, "/v1/dispatch?app=live&stream=demo")
		return a.status == 503 && a.header.Get("Retry-After") != ""
	})
}

func TestMultivariant(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	a := r.get(t, d.URL)
	if a.status != 200 || a.header.Get("Content-Type") != "application/vnd.apple.mpegurl" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	check(t, a.body)
	for _, want := range []string{
		`",PATHWAY-ID="a"`,
		"\nhttp://a.example/t/" + d.Token + "/live/demo/src/video/playlist.m3u8\n",
		"\nhttp://c.example/t/" + d.Token + "/live/demo/src/video/playlist.m3u8\n",
		`URI="http://b.example/t/` + d.Token + `/live/demo/src/audio/playlist.m3u8"`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s in\n%s", want, a.body)
		}
	}
	if st := steeringState(t, a.body); st.SessionID != d.SessionID || st.Format != "hls" || strings.Join(st.Pathways, " ") != "a b c" || st.Sent != "a" || st.SentUnix == 0 {
		t.Errorf("state of the steering address %+v", st)
	}
	fresh := r.get(t, "/v1/play/live/demo/multivariant.m3u8")
	check(t, fresh.body)
	if strings.Contains(fresh.body, d.Token) {
		t.Error("two sessions share a token")
	}
	edge := r.get(t, "/live/demo/multivariant.m3u8", "X-Spillway-Edge-Key", edgeKey, "X-Spillway-CDN", "b", "X-Spillway-Region", "eu")
	check(t, edge.body)
	if !strings.Contains(edge.body, `,PATHWAY-ID="b"`+"\n") {
		t.Errorf("through edge b the first pathway is another:\n%s", edge.body)
	}
	through := r.get(t, "/live/demo/multivariant.m3u8?s="+d.Token, "X-Spillway-Edge-Key", edgeKey, "X-Spillway-CDN", "c")
	if st := steeringState(t, through.body); st.SessionID != d.SessionID || st.Sent != "c" || !strings.Contains(through.body, `",PATHWAY-ID="c"`) {
		t.Errorf("a dispatched session through edge c:\n%s", through.body)
	}
	await.True(t, "every playlist was a decision", func() bool { return len(decisions(t, b.JS, schemas.DecisionMultivariant)) == 4 })
	for _, x := range decisions(t, b.JS, schemas.DecisionMultivariant) {
		if x.Chosen == "b" && (x.ReasonCode != "pinned" || x.Region != "eu") {
			t.Errorf("edge's decision %+v", x)
		}
	}
}

// steeringState reads the state in the first steering address of a text.
func steeringState(t *testing.T, text string) token.Steering {
	t.Helper()
	_, rest, _ := strings.Cut(text, "/v1/steering?s=")
	tok, _, _ := strings.Cut(rest, `"`)
	tok, _, _ = strings.Cut(tok, "<")
	st, err := newSigner(t).ParseSteering(tok, time.Now())
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return st
}

func check(t *testing.T, playlist string) {
	t.Helper()
	p, err := m3u8.Unmarshal([]byte(playlist))
	if err != nil {
		t.Fatalf("%v\n%s", err, playlist)
	}
	m, ok := p.(*m3u8.Multivariant)
	if !ok || len(m.Variants) != 3 || len(m.Renditions) != 3 {
		t.Errorf("not a multivariant playlist with three pathways:\n%s", playlist)
	}
	if strings.Count(playlist, ",PATHWAY-ID=") != 7 { // the steering tag's, each variant's and each playlist's of key frames
		t.Errorf("a variant has no PATHWAY-ID:\n%s", playlist)
	}
}

func TestSteeringVariants(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	pinned := r.dispatch(t, "&pin=c")
	for _, c := range []struct{ name, tok, query, want string }{
		{"absent", d.Token, "", "a b c"},
		{"unquoted", d.Token, "&_HLS_pathway=b&_HLS_throughput=500000", "b a c"},
		{"quoted", d.Token, "&_HLS_pathway=%22c%22", "c a b"},
		{"DASH list", d.Token, "&_DASH_pathway=%22a,b%22&_DASH_throughput=1,2", "b a c"},
		{"unknown", d.Token, "&_HLS_pathway=zzz", "b a c"}, // stays where the last answer put it
		{"hostile", d.Token, "&_HLS_pathway=%22%00%3E%22", "b a c"},
		{"junk throughput", d.Token, "&_HLS_pathway=a&_HLS_throughput=NaN", "a b c"},
		{"pinned", pinned.Token, "&_HLS_pathway=a", "c a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.get(t, "/v1/steering?s="+c.tok+c.query)
			var s struct {
				Version  json.Number `json:"VERSION"`
				TTL      json.Number `json:"TTL"`
				Reload   string      `json:"RELOAD-URI"`
				Priority []string    `json:"PATHWAY-PRIORITY"`
			}
			if err := json.Unmarshal([]byte(a.body), &s); err != nil {
				t.Fatalf("%d %s: %v", a.status, a.body, err)
			}
			if s.Version != "1" || s.TTL != "10" || !strings.HasPrefix(s.Reload, r.URL()+"/v1/steering?s=") || strings.Join(s.Priority, " ") != c.want {
				t.Errorf("%s, want priority %s", a.body, c.want)
			}
			if st := steeringState(t, a.body); st.Sent != s.Priority[0] || c.tok == d.Token && st.SessionID != d.SessionID {
				t.Errorf("the next reload's state: %+v", st)
			}
			if a.header.Get("Content-Type") != "application/vnd.apple.steering-list" || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("header %v", a.header)
			}
		})
	}
}

func TestUnchangedSteeringIsNotStored(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	for range 20 {
		r.get(t, "/v1/steering?s="+d.Token+"&_HLS_pathway=a")
	}
	r.get(t, "/v1/steering?s="+d.Token+"&_HLS_pathway=b")
	r.get(t, "/v1/steering?s="+d.Token+"&_HLS_pathway=b")
	await.True(t, "the change is on the bus", func() bool { return len(decisions(t, b.JS, schemas.DecisionSteering)) > 0 })
	r.stop() // publishes what is left
	if got := decisions(t, b.JS, schemas.DecisionSteering); len(got) != 1 || got[0].Chosen != "b" {
		t.Errorf("stored: %+v", got)
	}
}

func TestRegistryChangeIsInAnswers(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	x := cdn("a", 0, 0)
	x.State = schemas.CDNOff
	put(t, b.JS, schemas.BucketCDNs, "a", x)
	await.True(t, "a is in no answer", func() bool { return !strings.Contains(r.get(t, d.URL).body, "http://a.example") })
	if a := r.get(t, "/v1/steering?s="+d.Token+"&_HLS_pathway=a"); !strings.Contains(a.body, `["b","c"]`) {
		t.Errorf("steering away from a CDN that is off: %s", a.body)
	}
	put(t, b.JS, schemas.BucketCDNs, "d", cdn("d", -1, 0))
	put(t, b.JS, schemas.BucketCDNs, "bad", map[string]any{"name": "bad", "nonsense": 1})
	await.True(t, "a new CDN is in answers", func() bool { return strings.Contains(r.get(t, d.URL).body, "http://d.example") })
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "a removed CDN is in no answer", func() bool { return !strings.Contains(r.get(t, d.URL).body, "http://d.example") })
}

func TestRateLimit(t *testing.T) {
	b := world(t)
	r := start(t, b.JS, func(s *router.Settings) { s.PeerRate, s.PeerBurst = 0.001, 3 })
	d := r.dispatch(t, "")
	seen := map[int]int{}
	for range 10 {
		seen[r.get(t, "/v1/dispatch?app=live&stream=demo", "X-Forwarded-For", "192.0.2.1").status]++
	}
	if seen[200] != 3 || seen[429] != 7 {
		t.Errorf("answers %v, want 3 given and 7 refused", seen)
	}
	if a := r.get(t, "/v1/steering?s="+d.Token, "X-Forwarded-For", "192.0.2.1"); a.status == 429 || a.status == 200 {
		t.Errorf("steering beyond the limit: %d", a.status)
	}
	if a := r.get(t, "/v1/steering?s="+d.Token, "X-Forwarded-For", "192.0.2.2"); a.status != 200 {
		t.Errorf("another address is limited too: %d", a.status)
	}
	if a := r.get(t, fmt.Sprintf("/v1/steering?s=%s", d.Token), "X-Forwarded-For", "2001:db8::1, garbage"); a.status != 200 {
		t.Errorf("garbage in X-Forwarded-For: %d", a.status)
	}
}
