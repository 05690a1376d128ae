// Package players serves a page in which real players play an address: shaka
// and dash.js are here, built files with their licences; hls.js is the play
// page's. It is for tests in a browser; it judges nothing itself. A second page
// plays one session with telemetry, and keeps an account of its own.
package players

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed page.html session.html vendor/*.js
var files embed.FS

// Handler serves the page at / (query player: hls, shaka or dash; url; ts=1 for
// MPEG-TS; beacon, where beacons go, and sid), a session with telemetry at /session (query player: hls, shaka, dash
// or video; url, sid, cid, collector, beacon=1), and the players; hlsJS is hls.js.
func Handler(hlsJS []byte) http.Handler {
	mux := http.NewServeMux()
	file := func(path, name, contentType string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			b, err := fs.ReadFile(files, name)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(b) // the browser may be gone
		})
	}
	file("/{$}", "page.html", "text/html; charset=utf-8")
	file("/session", "session.html", "text/html; charset=utf-8")
	mux.HandleFunc("GET /empty", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><title>empty</title><body>")) // the browser may be gone
	})
	file("/shaka.js", "vendor/shaka-5.2.12.min.js", "text/javascript")
	file("/dash.js", "vendor/dash-5.2.1.min.js", "text/javascript")
	mux.HandleFunc("GET /hls.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(hlsJS) // the browser may be gone
	})
	return mux
}
