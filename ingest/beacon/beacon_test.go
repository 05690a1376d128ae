package beacon

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "write beacon.min.js anew")

// limit is what a page may be asked to load: about 2 kB, compressed.
const limit = 2300

// What is served is what beacon.js says, and small.
func TestServedScriptIsTheSource(t *testing.T) {
	src, err := os.ReadFile("beacon.js")
	if err != nil {
		t.Fatal(err)
	}
	r := api.Transform(string(src), api.TransformOptions{
		Target: api.ES2018, MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	})
	if len(r.Errors) > 0 || len(r.Warnings) > 0 {
		t.Fatalf("beacon.js: %+v %+v", r.Errors, r.Warnings)
	}
	if *update {
		if err := os.WriteFile("beacon.min.js", r.Code, 0o644); err != nil {
			t.Fatal(err)
		}
		return // what is embedded in this binary is the old one
	}
	if !bytes.Equal(r.Code, script) {
		t.Error("beacon.min.js is not what beacon.js gives: run go test ./ingest/beacon -update")
	}
	if n := len(zipped()); n > limit {
		t.Errorf("the script has %d bytes compressed, %d are allowed", n, limit)
	}
	t.Logf("%d bytes, %d compressed", len(script), len(zipped()))
	if bytes.Contains(script, []byte("http")) {
		t.Error("the script names a host: it may reach none but those it is told")
	}
}

func TestServe(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(Serve))
	defer srv.Close()
	get := func(header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		r, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Body.Close() })
		return r
	}
	for _, encoding := range []string{"identity", "gzip"} {
		r := get("Accept-Encoding", encoding)
		body := io.Reader(r.Body)
		if encoding == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		b, err := io.ReadAll(body)
		if err != nil || r.StatusCode != http.StatusOK || !bytes.Equal(b, script) {
			t.Errorf("%s: status %d, %d bytes of %d (%v)", encoding, r.StatusCode, len(b), len(script), err)
		}
		if r.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || r.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("%s: headers %v", encoding, r.Header)
		}
		if again := get("Accept-Encoding", encoding, "If-None-Match", r.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: asked again with %s: status %d", encoding, r.Header.Get("ETag"), again.StatusCode)
		}
	}
}
