package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
)

// TestWallsAndParts: the walls' panels and a stream's parts answer over HTTP; what is hostile selects nothing, what is
// too much or unknown is refused with what is allowed.
func TestWallsAndParts(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	srv, conn := database(t)
	registerCDNs(t, b.JS)
	now := time.Now()
	plant(t, conn, now.Add(-3*time.Minute), now, watching{schemas.StreamKey{App: "live", Stream: "demo"}, "a", 3, 0.2, 1500, 300})
	c := start(t, Settings{JetStream: b.JS, ClickHouse: srv.NativeURL(chserver.Analyst), Story: func(_ context.Context, id string) (any, error) {
		switch id {
		case "gone":
			return nil, nil
		case "broken":
			return nil, errors.New("code: 1\nstack")
		}
		return map[string]string{"session_id": id}, nil
	}})
	var got table
	getJSON(t, c.URL()+"/v1/walls/spillway-streams/streams-top?range=1h&cdn=a&app=live", &got)
	if len(got.Rows) != 1 || fmt.Sprint(got.Rows[0][:2]) != "[live demo]" || len(got.Columns) != 7 || got.ToMs-got.FromMs != time.Hour.Milliseconds() {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{`') OR 1=1 --`, `\`, "${cdn}", "a' OR 'a'='a"} {
		getJSON(t, c.URL()+"/v1/walls/spillway-streams/streams-top?range=30d&cdn="+url.QueryEscape(bad), &got)
		if len(got.Rows) != 0 {
			t.Errorf("%q selected %v", bad, got.Rows)
		}
	}
	getJSON(t, c.URL()+"/v1/streams/live/demo/sessions", &got)
	if len(got.Rows) != 3 {
		t.Errorf("sessions: %+v", got.Rows)
	}
	for path, want := range map[string]string{
		"/v1/walls/none":                                                            "404 there is no such wall",
		"/v1/walls/spillway-qoe/none?range=1h":                                      "404 there is no such panel",
		"/v1/walls/spillway-qoe/qoe-stall":                                          "400 range must be",
		"/v1/walls/spillway-qoe/qoe-stall?range=1y":                                 "400 range must be",
		"/v1/walls/spillway-qoe/qoe-stall?range=1h" + strings.Repeat("&cdn=a", 21):  "400 at most 20 values",
		"/v1/walls/spillway-qoe/qoe-stall?range=1h&cdn=" + strings.Repeat("a", 300): "400 a value of cdn has more",
		"/v1/streams/live/demo/none":                                                "404 a stream has",
		"/v1/streams/li%20ve/demo/hops":                                             "400 ",
		"/v1/sessions/gone":                                                         "404 nothing is stored of it",
		"/v1/sessions/broken":                                                       "503 ClickHouse does not answer: code: 1\"",
		"/v1/sessions/" + strings.Repeat("a", 201):                                  "400 a session's id",
		"/sessions/" + strings.Repeat("a", 201):                                     "400 a session's id",
		"/walls/none":                                                               "400 there is no such wall",
	} {
		code, _, body := get(t, c.URL()+path)
		text := fmt.Sprint(code, " ", strings.TrimPrefix(string(body), `{"error":"`))
		if !strings.HasPrefix(text, want) {
			t.Errorf("%.60s: %s, want %s", path, text, want)
		}
	}
}

// TestAskedOnce: what many ask at once is asked once, errors are not kept, and what is kept is bounded.
func TestAskedOnce(t *testing.T) {
	a := newAsked()
	var calls atomic.Int32
	hold := make(chan struct{})
	done := make(chan string)
	for range 8 {
		go func() {
			b, err := a.get(t.Context(), "k", time.Minute, func(context.Context) (any, error) {
				calls.Add(1)
				<-hold
				return 7, nil
			})
			done <- fmt.Sprint(string(b), err)
		}()
	}
	close(hold)
	for range 8 {
		if s := <-done; s != "7<nil>" {
			t.Error(s)
		}
	}
	if calls.Load() != 1 {
		t.Errorf("asked %d times", calls.Load())
	}
	for range 2 {
		if _, err := a.get(t.Context(), "e", time.Minute, func(context.Context) (any, error) { calls.Add(1); return nil, errors.New("away") }); err == nil {
			t.Error("no error")
		}
	}
	if calls.Load() != 3 {
		t.Error("an error was kept")
	}
	for i := range 2 * maxAsked {
		if _, err := a.get(t.Context(), fmt.Sprint(i), time.Minute, func(context.Context) (any, error) { return num(math.NaN()), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.all) > maxAsked {
		t.Errorf("%d answers are kept", len(a.all))
	}
}

// TestKeptAnswersAreBounded: in number and in bytes; what is over goes first, and what is large is not kept.
func TestKeptAnswersAreBounded(t *testing.T) {
	a := newAsked()
	check := func() {
		t.Helper()
		sum := 0
		for _, k := range a.all {
			sum += len(k.body)
		}
		if sum != a.bytes || sum > maxCacheBytes || len(a.all) > maxAsked {
			t.Fatalf("%d answers of %d bytes, counted %d", len(a.all), sum, a.bytes)
		}
	}
	later := time.Now().Add(time.Hour)
	big := make([]byte, maxAnswerBytes)
	for i := range 40 {
		a.keep(fmt.Sprint("big ", i), kept{big, later})
		check()
	}
	if n := maxCacheBytes / maxAnswerBytes; len(a.all) != n {
		t.Errorf("%d large answers are kept, not %d", len(a.all), n)
	}
	a.keep("larger", kept{make([]byte, maxAnswerBytes+1), later})
	if _, ok := a.all["larger"]; ok {
		t.Error("an answer over the limit is kept")
	}
	for i := range 2 * maxAsked {
		a.keep(fmt.Sprint("small ", i), kept{big[:10], later})
		a.keep("the same", kept{big[:i], later})
		check()
	}
	a = newAsked()
	a.keep("over", kept{big, time.Now().Add(-time.Second)})
	a.keep("fresh", kept{big, later})
	check()
	if _, ok := a.all["over"]; ok || len(a.all) != 1 {
		t.Errorf("%d answers are kept, one of them over", len(a.all))
	}
	a.keep("fresh", kept{make([]byte, maxAnswerBytes+1), later})
	if len(a.all) != 0 || a.bytes != 0 {
		t.Errorf("the one before stands in for a newer one: %d, %d bytes", len(a.all), a.bytes)
	}
}
