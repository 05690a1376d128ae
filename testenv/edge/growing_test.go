package edge_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/edge"
)

// A body that the origin makes while it sends it reaches viewers as it comes,
// also one who asks later; the origin is asked once, and what is whole is kept.
func TestBodyIsPassedOnAsItComes(t *testing.T) {
	pieces := make(chan string)
	var asked atomic.Int64
	origin := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Content-Type", "video/mp4")
		for p := range pieces {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
			if p == "broken" {
				panic(http.ErrAbortHandler)
			}
		}
	})
	e := start(t, edge.Settings{Origins: []string{origin.URL}})
	base := e.URL() + "/t/" + sign(t, token.Session{SessionID: "s", App: "live", Stream: "x"})
	open := func(path string) *http.Response {
		t.Helper()
		res, err := http.Get(base + path)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	expect := func(res *http.Response, want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != want {
			t.Fatalf("got %q, %v; want %q", b, err, want)
		}
	}
	go func() { pieces <- "first " }()
	one := open("/live/x/src/video/1-5.m4s")
	expect(one, "first ")
	two := open("/live/x/src/video/1-5.m4s")
	expect(two, "first ")
	pieces <- "second"
	expect(one, "second")
	expect(two, "second")
	close(pieces)
	for _, res := range []*http.Response{one, two} {
		if b, err := io.ReadAll(res.Body); err != nil || len(b) > 0 {
			t.Errorf("%q and %v after the end", b, err)
		}
	}
	await.True(t, "the whole object is kept", func() bool {
		a := get(base + "/live/x/src/video/1-5.m4s")
		return a.header.Get("X-Cache") == "hit" && a.body == "first second"
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}

	// One that breaks off is broken off, and not kept.
	pieces = make(chan string, 1)
	pieces <- "broken"
	res := open("/live/x/src/video/1-6.m4s")
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q was taken for whole", b)
	}
	before := asked.Load()
	pieces <- "broken"
	_, _ = io.ReadAll(open("/live/x/src/video/1-6.m4s").Body)
	if asked.Load() == before {
		t.Error("half a segment was kept")
	}
}
