package publish

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

func TestHookAnswers(t *testing.T) {
	asked := question{App: "live", Stream: "demo", Protocol: "srt", Peer: "192.0.2.7", CDN: "a", Key: &token.Publish{App: "live", ExpiresUnix: 2_000_000_000}}
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, try int)
		cdn    string
		why    string // part of the refusal; empty: admitted
		tries  int
	}{
		"yes":          {answer: func(http.ResponseWriter, int) {}, tries: 1},
		"yes in words": {answer: func(w http.ResponseWriter, _ int) { io.WriteString(w, "welcome") }, tries: 1},
		"yes with a CDN": {answer: func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, `{"cdn":"b"}`)
		}, cdn: "b", tries: 1},
		"a CDN that is none": {answer: func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"cdn":"../b"}`)
		}, why: "its answer is wrong", tries: 1},
		"broken JSON": {answer: func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"cdn":`)
		}, why: "its answer is wrong", tries: 1},
		"no":               {answer: func(w http.ResponseWriter, _ int) { http.Error(w, "not on\nMondays\x00", http.StatusForbidden) }, why: "not on Mondays", tries: 1},
		"no without words": {answer: func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusUnauthorized) }, why: "refused (401)", tries: 1},
		"no with many words": {answer: func(w http.ResponseWriter, _ int) {
			http.Error(w, strings.Repeat("é", 3000), http.StatusForbidden)
		}, why: strings.Repeat("é", maxHookReason/2), tries: 1},
		"too many words": {answer: func(w http.ResponseWriter, _ int) { w.Write(make([]byte, maxHookAnswer+1)) }, why: "over 16384 bytes", tries: 2},
		"broken once": {answer: func(w http.ResponseWriter, try int) {
			if try == 1 {
				w.WriteHeader(http.StatusBadGateway)
			}
		}, tries: 2},
		"broken":        {answer: func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusInternalServerError) }, why: "it answered 500: try again later", tries: 2},
		"elsewhere":     {answer: func(w http.ResponseWriter, _ int) { w.Header().Set("Location", "/x"); w.WriteHeader(http.StatusFound) }, why: "it answered 302", tries: 2},
		"closes":        {answer: func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }, why: "could not decide", tries: 2},
		"never answers": {answer: nil, why: "no answer within", tries: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			over := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := int(tries.Add(1))
				var q question
				if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || q.Key == nil || *q.Key != *asked.Key {
					t.Errorf("%s asked %+v, %v", r.Method, q, err)
				} else if q.Key = asked.Key; q != asked {
					t.Errorf("asked %+v", q)
				}
				if tc.answer == nil {
					<-over
					return
				}
				tc.answer(w, n)
			}))
			defer srv.Close()
			defer close(over)
			timeout := 10 * time.Second
			if tc.answer == nil {
				timeout = 50 * time.Millisecond
			}
			cdn, why := newHook(timeout).ask(t.Context(), srv.URL+"/secret", asked)
			switch {
			case why == nil && tc.why != "":
				t.Errorf("admitted, want %q", tc.why)
			case why != nil && (tc.why == "" || !strings.Contains(why.Reason, tc.why)):
				t.Errorf("refused: %q, want %q", why.Reason, tc.why)
			case why != nil && (len(why.Reason) > 400 || strings.Contains(why.Reason, "secret")):
				t.Errorf("the reason says too much: %q", why.Reason)
			}
			if cdn != tc.cdn || int(tries.Load()) != tc.tries {
				t.Errorf("CDN %q after %d tries, want %q after %d", cdn, tries.Load(), tc.cdn, tc.tries)
			}
		})
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close() // nobody listens there now
	if _, why := newHook(time.Second).ask(t.Context(), srv.URL, asked); why == nil || !strings.Contains(why.Reason, "could not decide") {
		t.Errorf("nobody listens: %v", why)
	}
}

// FuzzHookAnswer gives arbitrary answers to what reads them.
func FuzzHookAnswer(f *testing.F) {
	f.Add("application/json", 200, []byte(`{"cdn":"b"}`))
	f.Add("text/plain; charset=utf-8", 403, []byte("no\r\n\x00\xff\x1b[31m"))
	f.Add("application/json", 404, []byte(strings.Repeat("é", 300)))
	f.Fuzz(func(t *testing.T, kind string, status int, answer []byte) {
		if cdn, why := admitted(kind, answer); cdn != "" && (why != nil || schemas.CheckName("CDN name", cdn) != nil) {
			t.Errorf("CDN %q", cdn)
		} else if why != nil && len(why.Reason) > 400 {
			t.Errorf("%d bytes of reason", len(why.Reason))
		}
		s := refusal(status, answer)
		if s == "" || len(s) > maxHookReason+60 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			t.Errorf("reason %q", s)
		}
	})
}
