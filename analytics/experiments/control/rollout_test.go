package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// However many applications a roll-out names, its entry fits into the history, and says how many there were.
func TestRollOutEntryFits(t *testing.T) {
	for _, n := range []int{1, 2, 40, 400} {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf("application-%d", i))
		}
		reason := strings.Repeat("r", maxRollOutReason)
		got := rollOutEntry(keys, n, reason)
		if len(got) > schemas.MaxChangeReasonLen || !strings.HasSuffix(got, reason) {
			t.Errorf("%d keys: an entry of %d bytes: %q", n, len(got), got)
		}
		if (n >= 40) != strings.Contains(got, " more: ") {
			t.Errorf("%d keys: %q", n, got)
		}
	}
	if got := rollOutEntry([]string{strings.Repeat("k", 2000)}, 3, "why"); got != "rolled out to 1 keys (1 of 3, then it failed): why" {
		t.Errorf("%q", got)
	}
}
