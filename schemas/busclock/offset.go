package busclock

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slewBelow is the difference below which an offset moves bit by bit, so that one bad
	// measurement does little; beyond it the clocks are set against each other at once.
	slewBelow = 100 * time.Millisecond
	// slewShare is the part of a smaller difference that one answer moves it by.
	slewShare = 4
	// quick is how many times the usual round trip an answer may take to be believed.
	quick = 2
	// rttShare is how slowly the usual round trip grows when answers take longer.
	rttShare = 16
)

// Offset estimates how far another clock is ahead of ours, from answers that carry
// its time: half of the round trip is taken to be the way back, so an answer is off
// by half of its round trip at most. Slow answers count only as far as they prove
// the offset wrong. The zero value knows nothing. It is safe for concurrent use.
type Offset struct {
	ahead atomic.Int64 // nanoseconds
	known atomic.Bool
	mu    sync.Mutex
	rtt   time.Duration // of quick answers
}

// Heard takes an answer in: when it was asked for and how long it took by our
// clock, and what the other clock said.
func (o *Offset) Heard(asked time.Time, took time.Duration, theirs time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first, usual := o.rtt == 0, o.rtt
	if first || took < usual { // what is above the least is waiting somewhere
		o.rtt = max(took, 1)
	} else {
		o.rtt += (took - usual) / rttShare
	}
	says := theirs.Sub(asked) - took/2
	if !o.known.Load() {
		o.ahead.Store(int64(says))
		o.known.Store(true)
		return
	}
	off := says - time.Duration(o.ahead.Load())
	if !first && took > quick*usual {
		off = beyond(off, took/2)
	}
	if off.Abs() < slewBelow {
		off /= slewShare
	}
	o.ahead.Add(int64(off))
}

// beyond is by how much off is more than may be an error.
func beyond(off, may time.Duration) time.Duration {
	switch {
	case off > may:
		return off - may
	case off < -may:
		return off + may
	}
	return 0
}

// Again says that the way to the other clock may be a new one: what round trips usually take is learned anew.
func (o *Offset) Again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rtt = 0
}

// Ahead is how far the other clock is ahead of ours; false: nothing was heard yet, and it is 0.
func (o *Offset) Ahead() (time.Duration, bool) {
	known := o.known.Load() // first: what is known is there
	return time.Duration(o.ahead.Load()), known
}

// RTT is the usual round trip; 0: nothing was heard yet.
func (o *Offset) RTT() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rtt
}
