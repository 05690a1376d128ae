package router

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// However many ask, all streams are looked at once in hotKept, whatever application
// is asked for, and nothing is kept of applications that have none.
func TestHotListsAreMadeOnceForAllWhoAsk(t *testing.T) {
	var h hots
	made := 0
	lists := func(time.Time) map[string]*hotList {
		made++
		l := newHotList("live")
		l.Streams = append(l.Streams, schemas.HotStream{Stream: "b"}, schemas.HotStream{Stream: "a"})
		l.Left = append(l.Left, schemas.HotStream{Stream: "c"})
		return map[string]*hotList{"live": l}
	}
	now := time.Unix(1_795_000_000, 0)
	ask := func(app string, all bool, want string) {
		t.Helper()
		b, err := h.answer(app, all, now, lists)
		if err != nil || !strings.Contains(string(b), want) || !strings.HasSuffix(string(b), "\n") {
			t.Errorf("%s: %s, %v", app, b, err)
		}
	}
	for range 2 {
		made = 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				ask("live", false, `[{"stream":"a"`)
				ask("live", true, `"stream":"c"`)
				ask("other", true, `"streams":[]`)
			})
		}
		wg.Wait()
		if made != 1 || len(h.lists) != 1 {
			t.Errorf("lists were made %d times, %d are kept", made, len(h.lists))
		}
		if b, _ := h.answer("live", false, now, lists); strings.Contains(string(b), `"c"`) {
			t.Errorf("what has left is listed: %s", b)
		}
		now = now.Add(hotKept)
	}
}
