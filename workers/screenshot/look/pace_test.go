package look_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/workers/screenshot/look"
)

// Wherever key frames fall, of three pictures the last comes within two intervals
// of the first, and no more pictures are made than that takes.
func TestPaceHoldsTwoIntervals(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second} {
		for _, key := range []time.Duration{500, 960, 1000, 1001, 1900, 2000, 2002, 2500, 3000, 3003, 4000, 4004, 5000, 7000, 10_000} {
			key *= time.Millisecond
			for measured := key - time.Millisecond; measured <= key+time.Millisecond; measured += time.Millisecond {
				pace := look.Pace(interval, measured)
				if pace > interval || pace < interval/2 {
					t.Fatalf("key frames of %v every %v: %v", key, interval, pace)
				}
				var taken []time.Duration
				for at := 7 * time.Millisecond; at < 20*time.Minute; at += key {
					if n := len(taken); n == 0 || at/pace > taken[n-1]/pace {
						taken = append(taken, at)
					}
				}
				for i := 2; i < len(taken); i++ {
					if d := taken[i] - taken[i-2]; d > 2*max(interval, key)+100*time.Millisecond {
						t.Fatalf("interval %v, key frames every %v (measured %v): three pictures take %v", interval, key, measured, d)
					}
				}
				if least := 20 * time.Minute / max(key, interval); len(taken) < int(least)-1 {
					t.Errorf("interval %v, key frames every %v: %d pictures", interval, key, len(taken))
				}
			}
		}
	}
	if p := look.Pace(5*time.Second, 0); p != 5*time.Second {
		t.Errorf("nothing known: %v", p)
	}
}
