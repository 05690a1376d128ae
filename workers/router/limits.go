package router

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxPeers bounds the addresses that are remembered, for a minute at most.
	maxPeers = 100_000
	// peerShards is how many parts they are in: each is looked through by itself.
	peerShards = 64
)

// peers limits the requests of one client address (IPv6: of one /64).
type peers struct {
	rate   rate.Limit
	burst  int
	seed   maphash.Seed
	shards [peerShards]peerShard
}

type peerShard struct {
	mu      sync.Mutex
	byAddr  map[netip.Addr]*rate.Limiter
	cleared time.Time
}

func newPeers(r rate.Limit, burst int) *peers {
	return &peers{rate: r, burst: burst, seed: maphash.MakeSeed()}
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
	return p.shards[maphash.Comparable(p.seed, addr)%peerShards].limiter(p, addr, now).AllowN(now, 1)
}

func (s *peerShard) limiter(p *peers, addr netip.Addr, now time.Time) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.cleared) > time.Minute || len(s.byAddr) >= maxPeers/peerShards {
		for a, l := range s.byAddr {
			if l.TokensAt(now) >= float64(p.burst) { // idle: a new limiter would say the same
				delete(s.byAddr, a)
			}
		}
		if len(s.byAddr) >= maxPeers/peerShards {
			clear(s.byAddr)
		}
		s.cleared = now
	}
	l := s.byAddr[addr]
	if l == nil {
		if s.byAddr == nil {
			s.byAddr = map[netip.Addr]*rate.Limiter{}
		}
		l = rate.NewLimiter(p.rate, p.burst)
		s.byAddr[addr] = l
	}
	return l
}
