package publish

import (
	"sync"

	"golang.org/x/time/rate"
)

// noise limits reports about peers that are no publishers, by protocol. The zero value is ready.
type noise struct {
	mu    sync.Mutex
	limit map[string]*rate.Limiter
	quiet int // refusals not reported since the last report
}

// allow tells whether to report, and how many were left out before.
func (n *noise) allow(protocol string, isNoise bool) (quiet int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if isNoise {
		l := n.limit[protocol]
		if l == nil {
			if n.limit == nil {
				n.limit = map[string]*rate.Limiter{}
			}
			l = rate.NewLimiter(1, 10)
			n.limit[protocol] = l
		}
		if !l.Allow() {
			n.quiet++
			return 0, false
		}
	}
	quiet, n.quiet = n.quiet, 0
	return quiet, true
}
