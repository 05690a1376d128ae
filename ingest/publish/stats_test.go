package publish

import (
	"testing"

	"github.com/spillway-live/spillway/ingest/cut"
)

// Key frames every 1668.3 ms (50 frames of 29.97 fps) with timestamps in whole
// milliseconds have one interval, not two in turns; another one is seen at once.
func TestIntervalOfKeyFramesStands(t *testing.T) {
	var s stats
	key := func(ms int64) int64 {
		s.frame(&cut.Frame{DTSUs: ms * 1000, Key: true}, false)
		return s.keyMs
	}
	if ms := key(0); ms != 0 {
		t.Errorf("%d ms after one key frame", ms)
	}
	first := key(1668)
	for i := int64(2); i < 100; i++ {
		if ms := key(i * 5005 / 3); ms != first || ms < 1667 || ms > 1669 {
			t.Fatalf("%d ms at key frame %d, %d before", ms, i, first)
		}
	}
	if ms := key(100*5005/3 + 400); ms < 2067 || ms > 2069 {
		t.Errorf("%d ms after one that came 400 ms late", ms)
	}
}
