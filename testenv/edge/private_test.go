package edge_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/edge"
)

// What an origin calls private is given to sessions that were opened with a
// play key, from the cache too and by an edge that lets anybody have the rest.
func TestPrivateObjectsNeedAKeyedSession(t *testing.T) {
	var asked atomic.Int64
	o := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get(schemas.HeaderEdgeKey) != "sesame" {
			http.Error(w, "edges only", http.StatusForbidden)
			return
		}
		if r.URL.Path == "/home/door/src/video/1-5.m4s" {
			w.Header().Set(schemas.HeaderPrivate, "1")
		}
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "media")
	})
	e := start(t, edge.Settings{Origins: []string{o.URL}, EdgeKey: "sesame", AllowAnonymous: true})
	const private, public = "/home/door/src/video/1-5.m4s", "/home/lobby/src/video/1-5.m4s"
	session := func(k schemas.StreamKey, keyed bool) string {
		return "/t/" + sign(t, token.Session{SessionID: "s1", App: k.App, Stream: k.Stream, Keyed: keyed})
	}
	door, lobby := schemas.StreamKey{App: "home", Stream: "door"}, schemas.StreamKey{App: "home", Stream: "lobby"}
	for range 2 { // from the origin, then from the cache
		for _, c := range []struct {
			path string
			want int
		}{
			{private, 403},
			{session(door, false) + private, 403},
			{session(lobby, true) + private, 403},
			{session(door, true) + private, 200},
			{public, 200},
			{session(lobby, false) + public, 200},
		} {
			if a := get(e.URL() + c.path); a.err != nil || a.status != c.want {
				t.Errorf("%s: %d, want %d: %s%v", c.path, a.status, c.want, a.body, a.err)
			}
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the origin was asked %d times for two objects", n)
	}
}
