package browsertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
)

func TestPage(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><script>const n = 7; console.warn('mind', 'this'); setTimeout(() => { throw new Error('broken page') })</script>`))
	}))
	defer site.Close()
	b := browsertest.Start(t)
	b.Open(site.URL)
	if got := browsertest.Eval[int](b, "n"); got != 7 {
		t.Errorf("n is %d", got)
	}
	if got := browsertest.Eval[[]string](b, "Promise.resolve(['a', 'b'])"); strings.Join(got, "") != "ab" {
		t.Errorf("the promise gave %v", got)
	}
	if _, err := browser.Evaluate[int](b.Tab, "missing + 1"); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("an exception gave %v", err)
	}
	var said string
	await.True(t, "what the page complains of is kept", func() bool {
		said += strings.Join(b.Errors(), "\n")
		return strings.Contains(said, "mind") && strings.Contains(said, "broken page")
	})
}
