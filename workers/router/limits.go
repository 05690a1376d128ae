package router

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxPeers bounds the addresses that are remembered, for a minute at most.
const maxPeers = 100_000

// peers limits the requests of one client address (IPv6: of one /64).
type peers struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	byAddr  map[netip.Addr]*rate.Limiter
	cleared time.Time
}

func newPeers(r rate.Limit, burst int) *peers {
	return &peers{rate: r, burst: burst, byAddr: map[netip.Addr]*rate.Limiter{}}
}

// allow reports whether a request of addr is within its limit. Loopback, and
// what has no address, is not limited: it is this machine.
func (p *peers) allow(addr netip.Addr, now time.Time) bool {
	if !addr.IsValid() || addr.IsLoopback() {
		return true
	}
	if addr.Is6() {
		if n, err := addr.Prefix(64); err == nil {
			addr = n.Addr()
		}
	}
	p.mu.Lock()
	if now.Sub(p.cleared) > time.Minute || len(p.byAddr) >= maxPeers {
		for a, l := range p.byAddr {
			if l.TokensAt(now) >= float64(p.burst) { // idle: a new limiter would say the same
				delete(p.byAddr, a)
			}
		}
		if len(p.byAddr) >= maxPeers {
			clear(p.byAddr)
		}
		p.cleared = now
	}
	l := p.byAddr[addr]
	if l == nil {
		l = rate.NewLimiter(p.rate, p.burst)
		p.byAddr[addr] = l
	}
	p.mu.Unlock()
	return l.AllowN(now, 1)
}
