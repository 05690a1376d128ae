// Package need says what a test cannot do without.
//
// A test whose program is missing is skipped, so that a plain "go test" works
// on a machine that has only Go. `task test`, which installs everything first,
// sets SPILLWAY_TEST_COMPLETE, and there a missing program fails the test: what
// is skipped proves nothing.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Complete is the environment variable that makes a skip a failure when it is not empty.
const Complete = "SPILLWAY_TEST_COMPLETE"

// Program gives the path of the first of these programs that is installed, looked
// for on PATH and, since servers are there and not on every user's PATH, in /usr/sbin.
func Program(t testing.TB, names ...string) string {
	t.Helper()
	for _, n := range names {
		for _, at := range []string{n, "/usr/sbin/" + n} {
			if p, err := exec.LookPath(at); err == nil {
				return p
			}
		}
	}
	Missing(t, "%v is not installed: ./dev test installs it", names)
	return ""
}

// Chromium gives the path of a Chromium or Chrome.
func Chromium(t testing.TB) string {
	t.Helper()
	return Program(t, "chromium", "chromium-browser", "google-chrome")
}

// Missing skips the test, or fails it where everything should be there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(Complete) != "" {
		t.Fatalf(format, args...)
		return
	}
	t.Skipf(format, args...)
}
