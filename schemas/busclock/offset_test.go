package busclock

import (
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

// hears tells an offset of answers of a clock that is ahead by d: each with the time
// that the question and the answer took.
func hears(o *Offset, at *time.Time, d time.Duration, n int, out, back time.Duration) {
	for range n {
		o.Heard(*at, out+back, at.Add(out+d))
		*at = at.Add(time.Second)
	}
}

func TestOffset(t *testing.T) {
	var o Offset
	now := time.Unix(1_795_000_000, 0)
	is := func(what string, want, may time.Duration) {
		t.Helper()
		if got, known := o.Ahead(); !known || (got-want).Abs() > may {
			t.Errorf("%s: %v ahead (known: %v), want %v within %v", what, got, known, want, may)
		}
	}
	if d, known := o.Ahead(); d != 0 || known || o.RTT() != 0 {
		t.Errorf("before the first answer: %v, %v", d, known)
	}
	hears(&o, &now, 20*time.Second, 1, 5*ms, 5*ms)
	is("after one answer", 20*time.Second, 0)
	hears(&o, &now, 20*time.Second, 5, 900*ms, 100*ms)
	is("slow answers say no other", 20*time.Second, 0)
	hears(&o, &now, 20*time.Second+8*ms, 1, 5*ms, 5*ms)
	is("a small difference is taken bit by bit", 20*time.Second+2*ms, 0)
	hears(&o, &now, 20*time.Second+8*ms, 20, 5*ms, 5*ms)
	is("and taken in the end", 20*time.Second+8*ms, ms)
	hears(&o, &now, -20*time.Second, 1, 5*ms, 5*ms)
	is("a clock that was set is followed at once", -20*time.Second, 0)
	hears(&o, &now, time.Minute, 1, 500*ms, 500*ms)
	is("also by a slow answer, as far as it proves it", time.Minute, 500*ms)
	hears(&o, &now, time.Minute, 1, 5*ms, 5*ms)
	is("and exactly by the next quick one", time.Minute, 0)
	hears(&o, &now, time.Minute, 100, 40*ms, 40*ms) // the way has become longer
	if rtt := o.RTT(); rtt < 70*ms || rtt > 80*ms {
		t.Errorf("round trip %v, want about 80 ms", rtt)
	}
	hears(&o, &now, time.Minute+50*ms, 30, 40*ms, 40*ms)
	is("answers of the longer way count again", time.Minute+50*ms, ms)
	o.Again()
	hears(&o, &now, time.Minute+50*ms, 1, 200*ms, 200*ms)
	if rtt := o.RTT(); rtt != 400*ms {
		t.Errorf("round trip %v of the new way, want 400 ms", rtt)
	}
}

// TestOffsetInNoise: round trips of which one half is delayed by anything up to
// 200 ms, on a clock that drifts by 100 ppm: the offset stays right within 20 ms.
func TestOffsetInNoise(t *testing.T) {
	var o Offset
	random := rand.New(rand.NewPCG(1, 2))
	now, drift := time.Unix(1_795_000_000, 0), time.Duration(0)
	for i := range 2000 {
		out, back := ms, ms
		if random.Float64() < 0.5 {
			out += time.Duration(random.Int64N(int64(200 * ms)))
		}
		hears(&o, &now, drift, 1, out, back)
		drift += 100 * time.Microsecond
		if got, _ := o.Ahead(); i > 20 && (got-drift).Abs() > 20*ms {
			t.Fatalf("after %d answers: %v ahead, want %v", i, got, drift)
		}
	}
}
