package need_test

import (
	"testing"

	"github.com/spillway-live/spillway/testenv/need"
)

// fake records what becomes of a test, which then ends.
type fake struct {
	testing.TB
	skipped, failed bool
}

func (f *fake) Helper()               {}
func (f *fake) Skipf(string, ...any)  { f.skipped = true }
func (f *fake) Fatalf(string, ...any) { f.failed = true }

func TestMissingProgramsSkipOrFail(t *testing.T) {
	const none = "spillway-no-such-program"
	for complete, want := range map[string]fake{"": {skipped: true}, "1": {failed: true}} {
		t.Setenv(need.Complete, complete)
		var f fake
		if p := need.Program(&f, none); p != "" || f.skipped != want.skipped || f.failed != want.failed {
			t.Errorf("%s=%q: found %q, skipped %t, failed %t", need.Complete, complete, p, f.skipped, f.failed)
		}
		f = fake{}
		if p := need.Program(&f, none, "go"); p == "" || f.skipped || f.failed {
			t.Errorf("%s=%q: go was found at %q, skipped %t, failed %t", need.Complete, complete, p, f.skipped, f.failed)
		}
	}
}
