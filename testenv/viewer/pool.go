package viewer

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Pool keeps a number of viewers watching; they leave and others come, so that
// sessions begin and end as in life.
type Pool struct {
	// Config is the pattern of every view; CDN, Region, Viewer, Device and Seed are set by the pool.
	Config Config
	// CDNs that get PerCDN pinned viewers each.
	CDNs   []string
	PerCDN int
	// Steered viewers go where the router sends them.
	Steered int
	// Regions and ISPs are given to viewers in turn; may be empty.
	Regions, ISPs []string
	// StayMin and StayMax bound how long a viewer watches; default 60 s and 180 s.
	StayMin, StayMax time.Duration
	// Seed makes it repeatable; 0 is random.
	Seed   uint64
	Logger *slog.Logger

	mu    sync.Mutex
	stats PoolStats
}

// PoolStats are counts of a pool.
type PoolStats struct {
	// Active viewers by CDN they are pinned to; "" are the steered ones.
	Active map[string]int
	// Views ended, and of those the failed ones and the ones that never saw a picture.
	Views, Failed, NotStarted int
	Stalls                    int
	Played, Stalled           time.Duration
}

// Stats gives the counts; running views are in Active only.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Active = map[string]int{}
	for c, n := range p.stats.Active {
		s.Active[c] = n
	}
	return s
}

// Run keeps the viewers watching until ctx ends. A view that fails is replaced
// after a few seconds; that is no error of the pool's.
func (p *Pool) Run(ctx context.Context) error {
	if p.Config.HTTPClient == nil {
		tr := NewTransport()
		defer tr.CloseIdleConnections()
		p.Config.HTTPClient = &http.Client{Transport: tr}
	}
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.StayMin <= 0 {
		p.StayMin = 60 * time.Second
	}
	if p.StayMax <= 0 {
		p.StayMax = 180 * time.Second
	}
	p.StayMax = max(p.StayMax, p.StayMin)
	seed := p.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	p.mu.Lock()
	p.stats.Active = map[string]int{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	slot := 0
	start := func(cdn string) {
		n := slot
		slot++
		wg.Go(func() { p.seat(ctx, cdn, n, rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	for _, c := range p.CDNs {
		for range p.PerCDN {
			start(c)
		}
	}
	for range p.Steered {
		start("")
	}
	wg.Wait()
	return nil
}

// seat is one viewer's place, taken again and again.
func (p *Pool) seat(ctx context.Context, cdn string, n int, r *rand.Rand) {
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(r.Int64N(int64(hi-lo)+1)) }
	devices := []string{"desktop", "phone", "tv", "tablet"}
	pause := between(0, time.Duration(min(slotSpread*(n+1), 3000))*time.Millisecond)
	for visit := 0; ; visit++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		c := p.Config
		c.CDN, c.Seed, c.Logger = cdn, r.Uint64()|1, p.Logger
		c.Viewer = fmt.Sprintf("viewer-%d-%d", n, visit)
		c.Device = devices[n%len(devices)]
		if len(p.Regions) > 0 {
			c.Region = p.Regions[n%len(p.Regions)]
		}
		if len(p.ISPs) > 0 {
			c.ISP = p.ISPs[n%len(p.ISPs)]
		}
		stay, cancel := context.WithTimeout(ctx, between(p.StayMin, p.StayMax))
		p.seated(cdn, 1)
		rep, err := Run(stay, c)
		p.seated(cdn, -1)
		cancel()
		p.count(&rep, err)
		pause = between(200*time.Millisecond, 2*time.Second)
		if err != nil {
			if ctx.Err() == nil {
				p.Logger.Debug("simulated view failed", "cdn", cdn, "session", rep.SessionID, "err", err)
			}
			pause += time.Second
		}
	}
}

// slotSpread spreads the first arrivals, milliseconds per viewer.
const slotSpread = 100

func (p *Pool) seated(cdn string, d int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Active[cdn] += d
}

func (p *Pool) count(r *Report, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.stats
	s.Views++
	if err != nil {
		s.Failed++
	}
	if !r.Started {
		s.NotStarted++
	}
	s.Stalls += r.Stalls
	s.Played += r.Played
	s.Stalled += r.Stalled
}
