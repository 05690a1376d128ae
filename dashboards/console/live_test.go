package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
	"github.com/spillway-live/spillway/testenv/running"
)

// listen opens the console's stream of events.
func listen(t *testing.T, ctx context.Context, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// events reads server-sent events until f says that it has seen enough.
func events(t *testing.T, url string, f func(name string, data []byte) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp := listen(t, ctx, url)
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
	c := start(t, Settings{JetStream: js, ClickHouse: fmt.Sprintf("clickhouse://analyst@127.0.0.1:%d/spillway", chPort), PollInterval: 200 * time.Millisecond, AdminToken: "sesame"})
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
	for path, header := range map[string][]string{"/v1/pushes": nil, "/v1/settings/cdns": {"Authorization", "Bearer sesame"}} {
		if code, _, body := get(t, c.URL()+path, header...); code != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("the bus does not answer since ")) {
			t.Errorf("%s without the bus: %d %s", path, code, body)
		}
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

// However long it takes to read what the buckets hold, it is not begun anew: the console says that it is late, goes
// on, and has it in the end.
func TestSlowBucketsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	put(t, bucket(t, b.JS, schemas.BucketStreams), demo.KVKey(), stateOf(demo, time.Now().Add(time.Hour)))
	c, err := New(Settings{JetStream: b.JS, ClickHouse: nowhere})
	if err != nil {
		t.Fatal(err)
	}
	c.lateAfter = 1 // any bus is slower
	running.Start(t, c.Run)
	events(t, c.URL(), func(name string, data []byte) bool {
		var h struct{ Bus health }
		return name == "health" && json.Unmarshal(data, &h) == nil && h.Bus.OK
	})
	if _, ok := c.st.streams.Get(demo.KVKey()); !ok {
		t.Error("what the buckets hold is not read")
	}
}

func TestLiveClientsAreLimited(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, MaxLive: 2})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 {
		defer listen(t, ctx, c.URL()).Body.Close()
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
