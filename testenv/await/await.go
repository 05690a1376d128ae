// Package await waits in tests for what becomes true by itself. It looks often
// and gives up late: how long something takes is for benchmarks, and a loaded
// machine must not fail a test.
package await

import (
	"testing"
	"time"
)

// Limit is when waiting fails, well above what anything needs on a loaded machine.
const Limit = time.Minute

// every is how often is looked.
const every = 10 * time.Millisecond

// True waits until ok, and fails the test with what it waited for.
func True(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Text(t, what, func() string {
		if ok() {
			return ""
		}
		return "not yet"
	})
}

// Text waits until f says nothing; what it says is what is still wrong.
func Text(t testing.TB, what string, f func() string) {
	t.Helper()
	look(t, every, Limit, what, f)
}

// Slowly is Text for what is costly to look at, as a page that many players share:
// it looks five times a second and waits twice as long.
func Slowly(t testing.TB, what string, f func() string) {
	t.Helper()
	look(t, 20*every, 2*Limit, what, f)
}

// look asks f again and again. The sleep is the pause between two looks, not a
// guess at how long something takes.
func look(t testing.TB, every, limit time.Duration, what string, f func() string) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(every) {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %s", limit, what, wrong)
		}
	}
}
