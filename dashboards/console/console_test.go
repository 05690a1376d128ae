package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

type streamsAnswer struct {
	Streams []struct {
		App, Stream, State string
		Viewers            *float64
		Stall              *float64 `json:"stall_ratio"`
		FPS                float64
		Picture            *pictureRef
		ByCDN              []cdnCount `json:"by_cdn"`
	}
	Bus        health
	ClickHouse health
}

type cdnsAnswer struct {
	CDNs []struct {
		Name, State string
		Viewers     *float64
		Stall       *float64 `json:"stall_ratio"`
		P50         any      `json:"first_screen_p50_ms"`
		P90         any      `json:"first_screen_p90_ms"`
		Latency     *float64 `json:"latency_ms"`
		Egress      *float64 `json:"egress_bps"`
		Capacity    int      `json:"capacity_viewers"`
	}
	Totals struct {
		Live    int
		Viewers *float64
		Stall   *float64 `json:"stall_ratio"`
	}
	Bus, ClickHouse health
}

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

// nowhere is an address of the form of ClickHouse's where nothing listens.
const nowhere = "clickhouse://analyst@127.0.0.1:1/spillway"

func TestFiguresComeFromBusAndClickHouse(t *testing.T) {
	b := bustest.Start(t)
	srv, conn := database(t)
	registerCDNs(t, b.JS)
	now := time.Now()
	put(t, bucket(t, b.JS, schemas.BucketStreams), demo.KVKey(), stateOf(demo, now.Add(time.Minute)))
	plant(t, conn, now.Add(-3*time.Minute), now.Add(40*time.Second),
		watching{demo, "a", 4, 0, 1500, 300}, watching{demo, "b", 3, 0.4, 4000, 500}, watching{schemas.StreamKey{App: "x'); --", Stream: "<b>"}, "<script>alert(1)</script>", 1, 0, 1, 1})
	// A session that ended is no viewer, and starts that failed are infinitely slow.
	if err := conn.Exec(t.Context(), `INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, sessions, ended, attempts, start_failures, first_screen_bins, first_screen_counts)
		VALUES (?, 'final', 'over', 'live', 'demo', 'c', 1, 1, 1, 1, [1073741824], [1])`, now.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	c := start(t, Settings{JetStream: b.JS, ClickHouse: srv.NativeURL(chserver.Analyst), Registerer: reg})
	var a cdnsAnswer
	await.Text(t, "figures of three CDNs", func() string {
		a = cdnsAnswer{}
		getJSON(t, c.URL()+"/v1/cdns", &a)
		if !a.Bus.OK || !a.ClickHouse.OK || len(a.CDNs) != 3 || a.CDNs[1].Stall == nil || a.CDNs[0].Egress == nil || a.CDNs[2].P50 == nil {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	if *a.CDNs[0].Viewers != 4 || *a.CDNs[1].Viewers != 3 || *a.CDNs[2].Viewers != 0 || a.CDNs[0].Capacity != 200 {
		t.Errorf("viewers %v %v %v", *a.CDNs[0].Viewers, *a.CDNs[1].Viewers, *a.CDNs[2].Viewers)
	}
	if *a.CDNs[0].Stall != 0 || *a.CDNs[1].Stall < 0.3 || *a.CDNs[1].Stall > 0.5 {
		t.Errorf("stall ratios %v and %v, want 0 and about 0.4", *a.CDNs[0].Stall, *a.CDNs[1].Stall)
	}
	if a.CDNs[2].P50 != "inf" {
		t.Errorf("a CDN whose only start failed has a first screen of %v, want inf", a.CDNs[2].P50)
	}
	if p50, ok := a.CDNs[0].P50.(float64); !ok || p50 < 150 || p50 > 600 {
		t.Errorf("first screen of CDN a is %v, want about 300 ms", a.CDNs[0].P50)
	}
	var s streamsAnswer
	getJSON(t, c.URL()+"/v1/streams", &s)
	if len(s.Streams) != 1 || s.Streams[0].State != "live" || *s.Streams[0].Viewers != 7 || len(s.Streams[0].ByCDN) != 2 || s.Streams[0].Picture != nil {
		t.Errorf("streams %+v", s.Streams)
	}
	if got, err := reg.Gather(); err != nil || len(got) < 3 {
		t.Errorf("%d metrics, %v", len(got), err)
	}
}

// TestFaultShowsWithin15s is the promise about the column of now: rows that say
// a CDN has begun to stall change its figure within 15 s of their time.
func TestFaultShowsWithin15s(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	srv, conn := database(t)
	registerCDNs(t, b.JS)
	now := time.Now()
	good := watching{demo, "b", 5, 0, 1500, 300}
	plant(t, conn, now.Add(-2*time.Minute), now, good)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: srv.NativeURL(chserver.Analyst), PollInterval: 200 * time.Millisecond})
	stall := func() *float64 {
		var a cdnsAnswer
		getJSON(t, c.URL()+"/v1/cdns", &a)
		if len(a.CDNs) != 3 {
			return nil
		}
		return a.CDNs[1].Stall
	}
	await.Text(t, "no stalls", func() string {
		if v := stall(); v == nil || *v != 0 {
			return fmt.Sprint(v)
		}
		return ""
	})
	fault := time.Now()
	bad := good
	bad.stall = 0.8
	plant(t, conn, fault, fault.Add(2*time.Second), bad)
	await.Text(t, "stalls of a fault 2 s old", func() string {
		if v := stall(); v == nil || *v < 0.05 {
			return fmt.Sprint(v)
		}
		return ""
	})
}

func TestPictures(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	base := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	var seqs []uint64
	for i := range 5 {
		seqs = append(seqs, publishPicture(t, b.JS, demo, base.Add(time.Duration(i)*time.Minute), testJPEG(t, i)))
	}
	other := publishPicture(t, b.JS, schemas.StreamKey{App: "live", Stream: "other"}, base, testJPEG(t, 9))
	put(t, bucket(t, b.JS, schemas.BucketStreams), demo.KVKey(), stateOf(demo, time.Now()))

	code, h, body := get(t, c.URL()+"/live/demo/picture.jpg")
	if code != 200 || !bytes.Equal(body, testJPEG(t, 4)) || h.Get("Content-Type") != "image/jpeg" || h.Get("Cache-Control") != "max-age=2" ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Spillway-Picture-Time-Ms") != strconv.FormatInt(base.Add(4*time.Minute).UnixMilli(), 10) {
		t.Errorf("latest: %d, %d bytes, %v", code, len(body), h)
	}
	if code, _, body = get(t, c.URL()+"/live/demo/picture.jpg", "If-None-Match", h.Get("ETag")); code != 304 || len(body) != 0 {
		t.Errorf("unchanged: %d, %d bytes", code, len(body))
	}
	publishPicture(t, b.JS, demo, base.Add(6*time.Minute), testJPEG(t, 6))
	await.Text(t, "the newer picture", func() string {
		if _, _, body := get(t, c.URL()+"/live/demo/picture.jpg"); !bytes.Equal(body, testJPEG(t, 6)) {
			return "still an older one"
		}
		return ""
	})

	var list historyAnswer
	q := fmt.Sprintf("?from=%d&to=%s", base.Add(time.Minute).UnixMilli(), base.Add(3*time.Minute).UTC().Format(time.RFC3339))
	getJSON(t, c.URL()+"/v1/pictures/live/demo"+q, &list)
	if len(list.Pictures) != 3 || list.Pictures[0].Seq != seqs[1] || list.Pictures[2].Seq != seqs[3] || list.Pictures[0].Width != 320 {
		t.Fatalf("history %+v", list)
	}
	code, h, body = get(t, c.URL()+list.Pictures[1].URL)
	if code != 200 || !bytes.Equal(body, testJPEG(t, 2)) || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("one picture: %d, %d bytes, %v", code, len(body), h)
	}
	getJSON(t, c.URL()+"/v1/pictures/live/nobody", &list)
	if len(list.Pictures) != 0 {
		t.Errorf("history of nobody: %+v", list)
	}
	// Consumers of histories do not pile up.
	st, err := b.JS.Stream(t.Context(), schemas.StreamPictures)
	if err != nil {
		t.Fatal(err)
	}
	await.Text(t, "one consumer, the console's own", func() string {
		if i, err := st.Info(t.Context()); err != nil || i.State.Consumers > 1 {
			return fmt.Sprint(i.State.Consumers, err)
		}
		return ""
	})
	for url, want := range map[string]int{
		"/live/nobody/picture.jpg":                            404,
		"/live/a.b/picture.jpg":                               400,
		"/live/%2e%2e/picture.jpg":                            400,
		"/live/demo%2a/picture.jpg":                           400,
		"/v1/pictures/live/demo?from=yesterday":               400,
		"/v1/pictures/live/de%3Emo":                           400,
		"/v1/pictures/live/demo/x.jpg":                        400,
		"/v1/pictures/live/demo/1":                            400,
		"/v1/pictures/live/demo/999999.jpg":                   404,
		fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", other):   404,
		fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", seqs[0]): 200,
	} {
		if code, _, body := get(t, c.URL()+url); code != want {
			t.Errorf("%s: %d %.100s, want %d", url, code, body, want)
		}
	}
	// What is not a JPEG is not served, whatever its header says.
	publishPicture(t, b.JS, demo, time.Now(), []byte("<script>alert(1)</script>"))
	await.Text(t, "the impostor refused", func() string {
		code, h, _ := get(t, c.URL()+"/live/demo/picture.jpg")
		if code != 503 || h.Get("Content-Type") != "application/json" {
			return fmt.Sprint(code, h)
		}
		return ""
	})
}

func TestStatesAndHostileEntries(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	kv := bucket(t, b.JS, schemas.BucketStreams)
	now := time.Now()
	put(t, kv, demo.KVKey(), stateOf(demo, now.Add(time.Minute)))
	lost := schemas.StreamKey{App: "live", Stream: "lost"}
	put(t, kv, lost.KVKey(), stateOf(lost, now.Add(-16*time.Second)))
	ended := stateOf(schemas.StreamKey{App: "live", Stream: "ended"}, now)
	ended.Live, ended.EndReason = false, "<img src=x onerror=alert(1)>"
	put(t, kv, "live.ended", ended)
	old := ended
	old.Stream, old.UpdatedUnixUs = "old", now.Add(-time.Hour).UnixMicro()
	put(t, kv, "live.old", old)
	past := old
	past.Stream, past.UpdatedUnixUs = "past", now.Add(-25*time.Hour).UnixMicro()
	put(t, kv, "live.past", past)
	put(t, kv, "live.liar", stateOf(demo, now)) // names another stream than its key
	evil := stateOf(schemas.StreamKey{App: "live", Stream: "<script>alert(1)</script>"}, now)
	put(t, kv, "live.evil", evil)
	if _, err := kv.Put(t.Context(), "live.garbage", []byte("{")); err != nil {
		t.Fatal(err)
	}
	put(t, bucket(t, b.JS, schemas.BucketCDNs), "bad", schemas.CDN{Name: "<b>", BaseURL: "javascript:alert(1)"})
	var s streamsAnswer
	await.Text(t, "three streams, once all is read", func() string {
		s = streamsAnswer{}
		getJSON(t, c.URL()+"/v1/streams", &s)
		got := ""
		for _, x := range s.Streams {
			got += x.Stream + " " + x.State + ", "
		}
		if got != "demo live, lost lost, ended ended, " {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	await.Text(t, "the stream of yesterday looked at no more", func() string {
		getJSON(t, c.URL()+"/v1/streams", &s)
		got := map[string]bool{}
		for k := range c.st.recent.All(func(string, *schemas.StreamState) bool { return false }) {
			got[k] = true
		}
		if _, known := c.st.streams.Get("live.past"); !known || got["live.past"] || !got["live.old"] || !got[demo.KVKey()] {
			return fmt.Sprintf("known %v, looked at %v", known, got)
		}
		return ""
	})
	if err := kv.Delete(t.Context(), lost.KVKey()); err != nil {
		t.Fatal(err)
	}
	await.Text(t, "the deleted stream gone", func() string {
		getJSON(t, c.URL()+"/v1/streams", &s)
		if len(s.Streams) != 2 {
			return fmt.Sprint(len(s.Streams))
		}
		return ""
	})
	var a cdnsAnswer
	getJSON(t, c.URL()+"/v1/cdns", &a)
	if len(a.CDNs) != 0 {
		t.Errorf("CDNs %+v", a.CDNs)
	}
}

// TestPicturesOfPastStreamsAreForgotten: not those of live ones, nor a young one whose stream was not heard of yet.
func TestPicturesOfPastStreamsAreForgotten(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	kv := bucket(t, b.JS, schemas.BucketStreams)
	now := time.Now()
	yesterday := now.Add(-25 * time.Hour)
	key := func(name string) schemas.StreamKey { return schemas.StreamKey{App: "live", Stream: name} }
	for name, at := range map[string]time.Time{"live": now, "past": yesterday} {
		put(t, kv, key(name).KVKey(), stateOf(key(name), at))
	}
	await.True(t, "both states are known", func() bool {
		_, live := c.st.streams.Get("live.live")
		_, past := c.st.streams.Get("live.past")
		return live && past
	})
	c.apply(func() {
		for name, at := range map[string]time.Time{"live": yesterday, "past": yesterday, "gone": yesterday, "new": now} {
			c.st.pictures[key(name)] = pictureRef{Seq: 1, TimeMs: at.UnixMilli()}
		}
		c.st.forget(now)
		if _, live := c.st.pictures[key("live")]; !live || len(c.st.pictures) != 2 || c.st.pictures[key("new")].Seq == 0 {
			t.Errorf("left are %v", c.st.pictures)
		}
	})
}

func TestPagesAreStrict(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, RouterURL: `http://r"><script>x</script>`})
	for _, path := range []string{"/", "/cdns", "/streams/live/demo"} {
		code, h, body := get(t, c.URL()+path)
		csp := h.Get("Content-Security-Policy")
		if code != 200 || !strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") ||
			h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, policy %s", path, code, csp)
		}
		s := string(body)
		if strings.Contains(s, "<script>") || strings.Contains(s, "onclick") || strings.Contains(s, " style=") || strings.Contains(s, "//cdn") {
			t.Errorf("%s has inline script or style:\n%s", path, s)
		}
		// Everything the page names is there and may be kept.
		for _, part := range strings.Split(s, `"`) {
			if strings.HasPrefix(part, "/assets/") {
				if code, h, _ := get(t, c.URL()+part); code != 200 || !strings.Contains(h.Get("Cache-Control"), "immutable") {
					t.Errorf("%s: %d %v", part, code, h)
				}
			}
		}
	}
	for path, want := range map[string]int{
		"/streams/live/%3Cscript%3E": 400, "/streams/live/a%20b": 400, "/nothing": 404, "/assets/console/0/js/main.js": 404,
		"/play/live/demo": 404, "/metrics": 404, "/healthz": 200, "/assets/console/../../etc/passwd": 404,
	} {
		if code, _, body := get(t, c.URL()+path); code != want || code == 400 && bytes.Contains(body, []byte("<script>")) {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

// events reads server-sent events until f says that it has seen enough.
func events(t *testing.T, url string, f func(name string, data []byte) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	name := ""
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "event: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(sc.Text(), "data: "); ok && f(name, []byte(v)) {
			return
		}
	}
	t.Fatalf("the events ended: %v", sc.Err())
}

func TestOutagesAreSaidAndHeal(t *testing.T) {
	t.Parallel()
	natsDir, chDir := t.TempDir(), t.TempDir()
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}
	natsPort, chPort := port(), port()
	server, err := bus.Start(bus.Options{DataDir: natsDir, Port: natsPort})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()
	nc, err := bus.Connect(server.URL(), "console", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	registerCDNs(t, js)
	put(t, bucket(t, js, schemas.BucketStreams), demo.KVKey(), stateOf(demo, time.Now().Add(time.Hour)))
	c := start(t, Settings{JetStream: js, ClickHouse: fmt.Sprintf("clickhouse://analyst@127.0.0.1:%d/spillway", chPort), PollInterval: 200 * time.Millisecond})
	wait := func(what string, bus, click bool) {
		t.Helper()
		events(t, c.URL(), func(name string, data []byte) bool {
			var h struct{ Bus, ClickHouse health }
			if name != "health" || json.Unmarshal(data, &h) != nil {
				return false
			}
			for _, x := range []health{h.Bus, h.ClickHouse} {
				if !x.OK && x.SinceMs != 0 && x.Error == "" {
					t.Errorf("%s: an outage without a reason: %+v", what, x)
				}
			}
			return h.Bus.OK == bus && h.ClickHouse.OK == click && h.Bus.SinceMs != 0 && h.ClickHouse.SinceMs != 0
		})
	}
	wait("ClickHouse not there yet", true, false)
	ch := clickhousetest.StartOptions(t, chserver.Options{DataDir: chDir, TCPPort: chPort})
	migrate(t, ch)
	wait("both there", true, true)
	stop, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := ch.Stop(stop); err != nil {
		t.Fatal(err)
	}
	wait("ClickHouse away", true, false)
	clickhousetest.StartOptions(t, chserver.Options{DataDir: chDir, TCPPort: chPort})
	wait("ClickHouse back", true, true)

	server.Stop()
	wait("bus away", false, true)
	var s streamsAnswer
	getJSON(t, c.URL()+"/v1/streams", &s)
	if len(s.Streams) != 1 || s.Streams[0].State != "live" {
		t.Errorf("without the bus the last known state is gone: %+v", s.Streams)
	}
	if server, err = bus.Start(bus.Options{DataDir: natsDir, Port: natsPort}); err != nil {
		t.Fatal(err)
	}
	wait("bus back", true, true)
	put(t, bucket(t, js, schemas.BucketStreams), "live.second", stateOf(schemas.StreamKey{App: "live", Stream: "second"}, time.Now().Add(time.Hour)))
	events(t, c.URL(), func(name string, data []byte) bool {
		return name == "streams" && bytes.Contains(data, []byte(`"second"`))
	})
}

func TestLiveClientsAreLimited(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, MaxLive: 2})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+"/v1/live", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	if code, h, body := get(t, c.URL()+"/v1/live"); code != 503 || h.Get("Retry-After") == "" {
		t.Errorf("third: %d %s", code, body)
	}
	cancel()
	await.Text(t, "room again", func() string {
		c.hub.mu.Lock()
		defer c.hub.mu.Unlock()
		if n := len(c.hub.clients); n != 0 {
			return fmt.Sprint(n, " clients")
		}
		return ""
	})
}

// TestIdleConsoleAsksNothing: without readers ClickHouse is left alone.
func TestIdleConsoleAsksNothing(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(8, m)
	now := time.Now()
	if h.wanted(now) {
		t.Error("wanted before anybody came")
	}
	h.touch(now)
	if !h.wanted(now.Add(idleAfter)) || h.wanted(now.Add(idleAfter+time.Millisecond)) {
		t.Error("a reader is remembered for idleAfter, not longer or shorter")
	}
	cl, _ := h.join()
	if !h.wanted(now.Add(time.Hour)) {
		t.Error("not wanted although a browser is connected")
	}
	h.leave(cl, now.Add(time.Hour))
	if h.wanted(now.Add(2 * time.Hour)) {
		t.Error("wanted after the browser left")
	}
}

func TestCDNState(t *testing.T) {
	b := bustest.Start(t)
	registerCDNs(t, b.JS)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	closed := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	set := func(c *Console, name, token, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.URL()+"/v1/cdns/"+name+"/state", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, x := range []struct {
		c                 *Console
		name, token, body string
		want              int
	}{
		{c, "b", "wrong", `{"state":"draining"}`, 401}, {c, "b", "", `{"state":"draining"}`, 401}, {closed, "b", "", `{"state":"draining"}`, 401},
		{c, "b", "sesame", `{"state":"gone"}`, 400}, {c, "b", "sesame", `{"state":"off","x":1}`, 400}, {c, "b", "sesame", strings.Repeat("x", 5000), 400},
		{c, "none", "sesame", `{"state":"off"}`, 404}, {c, "b.c", "sesame", `{"state":"off"}`, 400}, {c, "b", "sesame", `{"state":"draining"}`, 200},
	} {
		if got := set(x.c, x.name, x.token, x.body); got != x.want {
			t.Errorf("%s %q %.40s: %d, want %d", x.name, x.token, x.body, got, x.want)
		}
	}
	e, err := bucket(t, b.JS, schemas.BucketCDNs).Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	var d schemas.CDN
	if err := json.Unmarshal(e.Value(), &d); err != nil || d.State != schemas.CDNDraining || d.CapacityViewers != 200 {
		t.Errorf("registry: %+v, %v", d, err)
	}
	await.Text(t, "the console shows it", func() string {
		var a cdnsAnswer
		getJSON(t, c.URL()+"/v1/cdns", &a)
		if len(a.CDNs) != 3 || a.CDNs[1].State != "draining" {
			return fmt.Sprintf("%+v", a.CDNs)
		}
		return ""
	})
}

func TestSettingsAreChecked(t *testing.T) {
	b := bustest.Start(t)
	for _, s := range []Settings{{}, {JetStream: b.JS}, {ClickHouse: nowhere}, {JetStream: b.JS, ClickHouse: "localhost"}, {JetStream: b.JS, ClickHouse: nowhere, Addr: "256.0.0.1:0"}} {
		if c, err := New(s); err == nil {
			c.ln.Close()
			t.Errorf("%+v was taken", s)
		}
	}
}

// TestPicturesOfPrivateStreams: they are shown to who has the admin token, and to nobody else.
func TestPicturesOfPrivateStreams(t *testing.T) {
	b := bustest.Start(t)
	put(t, bucket(t, b.JS, schemas.BucketApps), demo.KVKey(), schemas.AppSettings{Private: true})
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	at := time.Now().Add(-time.Minute)
	open := schemas.StreamKey{App: "live", Stream: "open"}
	seq := publishPicture(t, b.JS, demo, at, testJPEG(t, 1))
	publishPicture(t, b.JS, open, at, testJPEG(t, 2))
	for _, path := range []string{"/live/demo/picture.jpg", "/v1/pictures/live/demo", fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", seq)} {
		if code, _, body := get(t, c.URL()+path); code != 401 || bytes.Contains(body, []byte{0xff, 0xd8}) {
			t.Errorf("%s without the token: %d", path, code)
		}
		if code, _, _ := get(t, c.URL()+path, "Authorization", "Bearer sesame"); code != 200 {
			t.Errorf("%s with the token: %d", path, code)
		}
	}
	if code, _, _ := get(t, c.URL()+"/live/open/picture.jpg"); code != 200 {
		t.Errorf("a public stream's picture: %d", code)
	}
	private := fmt.Sprintf("%s/v1/pictures/live/demo/%d.jpg", c.URL(), seq)
	// Pages have a cookie, which opens pictures only.
	ask := func(method, token string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, c.URL()+"/v1/picture-access", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if r := ask("PUT", "guess"); r.StatusCode != 401 || len(r.Cookies()) != 0 {
		t.Errorf("a wrong token: %d, cookies %v", r.StatusCode, r.Cookies())
	}
	r := ask("PUT", "sesame")
	if len(r.Cookies()) != 1 || !r.Cookies()[0].HttpOnly || r.Cookies()[0].SameSite != http.SameSiteStrictMode || strings.Contains(r.Cookies()[0].Value, "sesame") {
		t.Fatalf("the token: %d, cookies %v", r.StatusCode, r.Cookies())
	}
	cookie := r.Cookies()[0].Name + "=" + r.Cookies()[0].Value
	if code, h, _ := get(t, private, "Cookie", cookie); code != 200 || h.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("with the cookie: %d, %q", code, h.Get("Cache-Control"))
	}
	if code, _, _ := get(t, private, "Cookie", r.Cookies()[0].Name+"=guess"); code != 401 {
		t.Errorf("with another cookie: %d", code)
	}
	if code, _, _ := get(t, c.URL()+"/v1/settings/apps", "Cookie", cookie); code != 401 {
		t.Errorf("settings with the cookie: %d", code)
	}
	if r := ask("DELETE", ""); len(r.Cookies()) != 1 || r.Cookies()[0].MaxAge >= 0 {
		t.Errorf("forgetting: %v", r.Cookies())
	}
}
