package edge

import (
	"context"
	"sync"
	"time"
)

// shaper is a token bucket for everything an edge sends. Connections take turns
// piece by piece, in the order in which they asked, so each gets the same share.
type shaper struct {
	mu      sync.Mutex
	rateBps int64 // bits per second; 0 is unlimited
	bytes   float64
	at      time.Time // when bytes was true
	queue   []*turn
	running bool
	changed chan struct{} // wakes the pump after setRate
}

type turn struct {
	n       int
	granted chan struct{}
}

func newShaper(rateBps int64) *shaper {
	return &shaper{rateBps: rateBps, at: time.Now(), changed: make(chan struct{}, 1)}
}

func (s *shaper) setRate(bps int64) {
	s.mu.Lock()
	s.refill(time.Now())
	s.rateBps = bps
	s.bytes = min(s.bytes, s.depth())
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// piece is how many bytes one turn sends: 10 ms worth, within reason. 0 is unlimited.
func (s *shaper) piece() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieceLocked()
}

func (s *shaper) pieceLocked() int {
	if s.rateBps == 0 {
		return 0
	}
	return int(min(max(s.rateBps/8/100, 1200), 32<<10))
}

// depth is how much may be saved up for a burst.
func (s *shaper) depth() float64 { return float64(max(2*s.pieceLocked(), int(s.rateBps/8/50))) }

func (s *shaper) refill(now time.Time) {
	if s.rateBps > 0 {
		s.bytes = min(s.bytes+now.Sub(s.at).Seconds()*float64(s.rateBps)/8, s.depth())
	}
	s.at = now
}

// wait returns when n bytes may be sent, or with ctx's error.
func (s *shaper) wait(ctx context.Context, n int) error {
	s.mu.Lock()
	if s.rateBps == 0 {
		s.mu.Unlock()
		return ctx.Err()
	}
	t := &turn{n: n, granted: make(chan struct{})}
	s.queue = append(s.queue, t)
	if !s.running {
		s.running = true
		go s.pump()
	}
	s.mu.Unlock()
	select {
	case <-t.granted:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		for i, q := range s.queue {
			if q == t {
				s.queue = append(s.queue[:i], s.queue[i+1:]...)
				break
			}
		}
		s.mu.Unlock()
		return ctx.Err()
	}
}

// pump grants turns until nobody waits.
func (s *shaper) pump() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		s.refill(time.Now())
		for len(s.queue) > 0 {
			t := s.queue[0]
			if s.rateBps > 0 {
				if s.bytes < min(float64(t.n), s.depth()) {
					break
				}
				s.bytes -= float64(t.n)
			}
			close(t.granted)
			s.queue = s.queue[1:]
		}
		if len(s.queue) == 0 {
			s.queue, s.running = nil, false
			s.mu.Unlock()
			return
		}
		need := min(float64(s.queue[0].n), s.depth()) - s.bytes
		pause := time.Duration(need / (float64(s.rateBps) / 8) * float64(time.Second))
		s.mu.Unlock()
		timer.Reset(max(pause, 100*time.Microsecond))
		select {
		case <-timer.C:
		case <-s.changed:
		}
	}
}
