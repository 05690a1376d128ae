// Package player serves the play page: hls.js (vendored, with its licence), the
// beacon script that collectors serve too, and the page that ties them together.
// Nothing is loaded from another host. It knows the router's public address and
// nothing else.
package player

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"

	"github.com/spillway-live/spillway/ingest/beacon"
)

//go:embed static
var static embed.FS

// Handler serves /play, /play/<app>/<stream> and /assets/player/. routerURL is
// where browsers reach the router. The page may connect to any origin, because
// CDNs are added at run time; scripts and styles come only from here.
func Handler(routerURL string) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(files, "player.html")
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]string{"router": strings.TrimSuffix(routerURL, "/")})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/player/", http.StripPrefix("/assets/player/", cached(http.FileServerFS(files))))
	mux.HandleFunc("GET /assets/player/beacon.js", beacon.Serve)
	mux.HandleFunc("GET /play/config.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(config)
	})
	serve := func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		// Media, telemetry and dispatch come from CDNs and roles on other ports;
		// scripts and styles only from here.
		h.Set("Content-Security-Policy", "default-src 'self'; connect-src *; media-src * blob:; img-src * data:; worker-src blob: 'self'; frame-ancestors 'self'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(page)
	}
	mux.HandleFunc("GET /play", serve)
	mux.HandleFunc("GET /play/{app}/{stream}", serve)
	return mux, nil
}

// HLSJS gives the source of the vendored hls.js, for pages of tests and benchmarks.
func HLSJS() ([]byte, error) { return static.ReadFile("static/vendor/hls-1.7.4.min.js") }

func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
