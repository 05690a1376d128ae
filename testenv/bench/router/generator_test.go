//go:build linux

package router

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestGenerator: each request is answered once, bodies are whole however they
// come, and what is no answer ends the measurement.
func TestGenerator(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		body := strings.Repeat(r.URL.Path, 20_000)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write([]byte(body))
	}))
	defer srv.Close()
	addr, err := address(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	request := func(path string) []byte { return []byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n") }
	for _, rate := range []int{0, 1000} {
		asked.Store(0)
		bodies := map[int]string{}
		g := generator{
			requests: [][]byte{request("/a"), request("/b")}, rate: rate, window: time.Minute, most: 40,
			body: func(i int, b []byte) { bodies[i] = string(b) },
		}
		waits, _, err := g.run(t.Context(), addr, 4)
		if err != nil || len(waits) != 40 || asked.Load() != 40 {
			t.Errorf("rate %d: %d answers, %d requests came: %v", rate, len(waits), asked.Load(), err)
		}
		if bodies[0] != strings.Repeat("/a", 20_000) || bodies[1] != strings.Repeat("/b", 20_000) {
			t.Errorf("rate %d: bodies are not those that were sent", rate)
		}
	}
	g := generator{requests: [][]byte{request("/bad")}, window: time.Minute, most: 1}
	if _, _, err := g.run(t.Context(), addr, 1); err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("an answer that is none of 200: %v", err)
	}
}
