// Package beacon holds the script that a web page loads to report what its
// video did (beacon.js), and serves it. What it posts is schemas.Beacon; how to
// attach it to a player is told in docs/telemetry.md.
//
// beacon.min.js is what is served: beacon.js without comments and long names.
// After a change run "go test ./ingest/beacon -update".
package beacon

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the script
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"
	"time"
)

//go:embed beacon.min.js
var script []byte

// Path is where a collector serves the script, behind its base URL.
const Path = "/v1/beacon.js"

// zipped is the script compressed with gzip; it is made once.
var zipped = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(script)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil // writing to memory does not fail; the script is served as it is then
	}
	return b.Bytes()
})

// Serve answers GET and HEAD with the script, compressed where the browser takes it.
func Serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // pages of other sites load it
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept-Encoding")
	body, etag := script, fmt.Sprintf(`"%08x"`, crc32.ChecksumIEEE(script))
	if z := zipped(); len(z) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body, etag = z, etag[:len(etag)-1]+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
