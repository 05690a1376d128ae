package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
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
	plant(t, conn, now.Add(-2*time.Minute), now.Add(2*time.Minute), good) // what is yet to come is not looked at
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
	plant(t, conn, fault, fault.Add(2*time.Minute), bad)
	await.Text(t, "stalls of the fault", func() string {
		if v := stall(); v == nil || *v < 0.05 {
			return fmt.Sprint(v)
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
