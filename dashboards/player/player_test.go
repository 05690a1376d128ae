package player

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/need"
)

func TestPageAndFilesAreServed(t *testing.T) {
	h, err := Handler("http://127.0.0.1:1/")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	for path, want := range map[string]string{
		"/play":                                  "player.js",
		"/play/live/demo":                        "player.js",
		"/play/config.json":                      `"router":"http://127.0.0.1:1"`,
		"/assets/player/player.js":               "attachMedia",
		"/assets/player/vendor/hls-1.7.4.min.js": "CMCD",
		"/assets/player/vendor/hls.LICENSE":      "Copyright",
		"/assets/player/beacon.js":               "spillwayBeacon",
	} {
		r, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("%s: status %d, lacks %q (%v)", path, r.StatusCode, want, err)
		}
	}
	r, err := http.Get(srv.URL + "/play/live/demo")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") {
		t.Errorf("the page may load scripts from elsewhere: %q", csp)
	}
}

// The page's own scripts reach no third-party host and are valid modules.
func TestScriptsAreOurOwnAndParse(t *testing.T) {
	for _, name := range []string{"player.js"} {
		b, err := static.ReadFile("static/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "https://") {
			t.Errorf("%s names another host", name)
		}
		node := need.Program(t, "node")
		cmd := exec.Command(node, "--input-type=module", "--check")
		cmd.Stdin = strings.NewReader(string(b))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not parse: %v\n%s", name, err, out)
		}
	}
}
