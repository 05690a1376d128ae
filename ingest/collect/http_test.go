package collect

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestPreflight(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/v1/cmcd?t=x", "/v1/beacon", "/v1/cdnlog", "/v1/clock"} {
		code, h, _ := r.do(http.MethodOptions, path, "", "Origin", "https://page.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "content-type, X-EPAS-Event, x-evil, x-epas-b a")
		allow := strings.ToLower(h.Get("Access-Control-Allow-Headers"))
		if code != 204 || h.Get("Access-Control-Allow-Origin") != "https://page.example" || h.Get("Access-Control-Max-Age") != "86400" ||
			h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Vary") != "Origin" || strings.Contains(allow, "evil") || strings.Contains(allow, "x-epas-b") {
			t.Errorf("%s: %d %v", path, code, h)
		}
		for _, want := range []string{"content-type", "authorization", "cmcd-request", "cmcd-object", "cmcd-status", "cmcd-session", "x-epas-event"} {
			if !strings.Contains(allow, want) {
				t.Errorf("%s: %s is not allowed: %s", path, want, allow)
			}
		}
		for _, want := range []string{"GET", "HEAD", "POST"} {
			if !strings.Contains(h.Get("Access-Control-Allow-Methods"), want) {
				t.Errorf("%s: method %s is not allowed", path, want)
			}
		}
	}
	_, h, _ := r.do(http.MethodPost, "/v1/cmcd", `sid="s",v=2`)
	if h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Date") {
		t.Errorf("answer without origin: %v", h)
	}
}

func TestClock(t *testing.T) {
	r := newRig(t, nil)
	before := float64(time.Now().UnixMicro()) / 1000
	code, h, text := r.do(http.MethodGet, "/v1/clock", "", "Origin", "https://a")
	after := float64(time.Now().UnixMicro()) / 1000
	var a schemas.ClockAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil || code != 200 {
		t.Fatalf("%d %q: %v", code, text, err)
	}
	if a.ReceivedMs < before || a.SentMs < a.ReceivedMs || a.SentMs > after {
		t.Errorf("%v <= %v <= %v <= %v does not hold", before, a.ReceivedMs, a.SentMs, after)
	}
	if !strings.Contains(text, ".") || a.ReceivedMs == math.Trunc(a.ReceivedMs) && a.SentMs == math.Trunc(a.SentMs) && !strings.Contains(text, ".000") {
		t.Errorf("no fraction: %s", text)
	}
	if h.Get("Cache-Control") != "no-store" || h.Get("Access-Control-Allow-Origin") != "https://a" {
		t.Errorf("headers %v", h)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxBodyBytes, s.MaxRecords, s.EdgeKey = 4096, 3, "right" })
	big := strings.Repeat("x", 5000)
	for _, c := range []struct {
		method, path, body string
		header             []string
		code               int
		says               string
	}{
		{"POST", "/v1/cmcd", big, nil, 413, "4096"},
		{"POST", "/v1/cmcd", gz(t, big), []string{"Content-Encoding", "gzip"}, 413, "4096"},
		{"POST", "/v1/beacon", big, nil, 413, "4096"},
		{"POST", "/v1/cmcd", "x", []string{"Content-Encoding", "gzip"}, 415, "gzip"},
		{"POST", "/v1/cmcd", gz(t, "some words of text")[:24], []string{"Content-Encoding", "gzip"}, 415, "gzip"},
		{"POST", "/v1/cmcd", "x", []string{"Content-Encoding", "br"}, 415, "br"},
		{"PUT", "/v1/cmcd", "x", nil, 405, "POST"},
		{"GET", "/v1/beacon", "", nil, 405, "POST"},
		{"GET", "/v1/cdnlog", "", nil, 405, "POST"},
		{"POST", "/v1/clock", "", nil, 405, "GET"},
		{"GET", "/v1/nothing", "", nil, 404, "/v1/cmcd"},
		{"POST", "/v1/beacon", "<html>", nil, 400, "JSON"},
		{"POST", "/v1/beacon", "", nil, 400, "empty"},
		{"POST", "/v1/beacon", "5", nil, 400, "object"},
		{"POST", "/v1/cdnlog", "{}", nil, 403, "X-Spillway-Edge-Key"},
		{"POST", "/v1/cdnlog", "{}", []string{HeaderEdgeKey, "wrong"}, 403, "X-Spillway-Edge-Key"},
	} {
		code, h, text := r.do(c.method, c.path, c.body, c.header...)
		var e schemas.ErrorAnswer
		if code != c.code || json.Unmarshal([]byte(text), &e) != nil || !strings.Contains(e.Error, c.says) {
			t.Errorf("%s %s %.20q: %d %s, want %d with %q", c.method, c.path, c.body, code, text, c.code, c.says)
		}
		if code == 405 && !strings.Contains(h.Get("Allow"), c.says) {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, h.Get("Allow"))
		}
	}
	// Records beyond the limit cost themselves.
	r.post("/v1/cmcd", strings.Repeat("sid=\"s\",v=2\n", 5))
	r.rows(3)
	if n := r.counter("spillway_collect_rejected_records_total", "too_many"); n != 2 {
		t.Errorf("%v records too many", n)
	}
}

// While the bus is away, reports are accepted into the spool; when that is full
// they are not accepted, and players are not told to try again.
func TestBusAwayAndSpoolFull(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxSpoolBytes, s.SpoolAfter = 64<<10, 100*time.Millisecond })
	r.bus.Server.Stop()
	accepted := 0
	for ; accepted < 1000; accepted++ {
		code, _, text := r.do(http.MethodPost, "/v1/cmcd", `e=t,sid="s",v=2`)
		if code == http.StatusOK && strings.Contains(text, "nothing was accepted") {
			break
		}
		if code != http.StatusNoContent {
			t.Fatalf("%d %s", code, text)
		}
	}
	if accepted == 0 || accepted == 1000 {
		t.Errorf("%d accepted with a small spool", accepted)
	}
	if r.counter("spillway_collect_shed_rows_total") != 1 {
		t.Error("shed rows are not counted")
	}
}

// Where room is short, records of single responses go first, and their sender is told.
func TestResponsesAreShedFirst(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.MaxSpoolBytes, s.SpoolAfter = 64<<10, 100*time.Millisecond })
	r.bus.Server.Stop()
	rr := `e=rr,rc=200,sid="s",sn=0,v=2`
	for i := 0; !r.c.sink.Pressed(); i++ {
		if code, _, text := r.do(http.MethodPost, "/v1/cmcd", rr); code != http.StatusNoContent || i == 1000 {
			t.Fatalf("after %d: %d %s", i, code, text)
		}
	}
	before := r.counter("spillway_collect_accepted_rows_total")
	code, _, text := r.do(http.MethodPost, "/v1/cmcd", rr+"\n"+`e=ps,sid="s",sn=1,sta=p,v=2`+"\n"+rr)
	if code != http.StatusOK || !strings.HasPrefix(text, `{"error":"2 records of responses`) {
		t.Errorf("%d %s", code, text)
	}
	r.post("/v1/cmcd", `e=ps,sid="s",sn=2,sta=a,v=2`)
	if n := r.counter("spillway_collect_accepted_rows_total") - before; n != 2 || r.counter("spillway_collect_shed_rows_total") != 2 {
		t.Errorf("%v accepted and %v shed", n, r.counter("spillway_collect_shed_rows_total"))
	}
}

// A full TELEMETRY stream is no reason to refuse anything.
func TestStreamFullIsSpooled(t *testing.T) {
	b := bustest.StartWith(t, schemas.BusSettings{TelemetryMaxBytes: 64 << 10}, bus.Options{})
	r := newRigOn(t, b, nil)
	for range 60 {
		r.post("/v1/cmcd", `e=t,sid="s",v=2`)
	}
	if r.counter("spillway_sink_rows_total", "spool") == 0 {
		t.Error("nothing was spooled")
	}
}

// Requests under way when the collector is told to stop are answered.
func TestStopAnswers(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.FlushAfter = 200 * time.Millisecond })
	const n = 20
	codes := make(chan int, n)
	for range n {
		go func() {
			code, _, _ := r.do(http.MethodPost, "/v1/cmcd", `e=t,sid="s",v=2`)
			codes <- code
		}()
	}
	await.True(t, "all requests have been read", func() bool { return r.counter("spillway_collect_tokens_total") >= n })
	r.stop()
	for range n {
		if code := <-codes; code != http.StatusNoContent {
			t.Errorf("answered %d", code)
		}
	}
	r.rows(n)
}

// A body that never ends does not hold a connection for ever, nor does a client that leaves lose its rows.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.FlushAfter = 300 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/cmcd", strings.NewReader(`e=t,sid="s",v=2`))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			t.Error("the request was not cancelled")
		}
	}()
	await.True(t, "the request arrives", func() bool { return r.counter("spillway_collect_tokens_total") >= 1 })
	cancel()
	<-done
	r.rows(1)
}
