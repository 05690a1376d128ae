package edge

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counter can be read back, which a Prometheus counter cannot.
type counter struct{ n atomic.Uint64 }

func (c *counter) inc() {
	if c != nil {
		c.n.Add(1)
	}
}

type metrics struct {
	requests, errors, hits, coalesced, bytes *counter
	originRequests, originFailures           *counter
	logSent, logDropped, logRefused          *counter
}

func newMetrics(reg prometheus.Registerer, cdn string, viewers func() int) (*metrics, error) {
	m := &metrics{}
	labels := prometheus.Labels{"cdn": cdn}
	var errs []error
	add := func(name, help string) *counter {
		c := &counter{}
		if reg != nil {
			errs = append(errs, reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Namespace: "spillway", Subsystem: "edge", Name: name, Help: help, ConstLabels: labels,
			}, func() float64 { return float64(c.n.Load()) })))
		}
		return c
	}
	m.requests = add("requests_total", "Requests answered.")
	m.errors = add("errors_total", "Requests answered with 400 or above, or not at all.")
	m.hits = add("hits_total", "Requests answered from the cache.")
	m.coalesced = add("coalesced_total", "Requests answered by a fetch another request had begun.")
	m.bytes = add("sent_bytes_total", "Bytes of bodies sent to viewers.")
	m.originRequests = add("origin_requests_total", "Requests made to origins.")
	m.originFailures = add("origin_failures_total", "Requests to origins that failed or were answered 5xx.")
	m.logSent = add("log_lines_sent_total", "Log lines the collector took.")
	m.logDropped = add("log_lines_dropped_total", "Log lines dropped because the collector was away too long.")
	m.logRefused = add("log_lines_refused_total", "Log lines the collector refused for good.")
	if reg != nil {
		errs = append(errs, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "spillway", Subsystem: "edge", Name: "viewers", ConstLabels: labels,
			Help: "Sessions that asked for something in the last 10 s.",
		}, func() float64 { return float64(viewers()) })))
	}
	return m, errors.Join(errs...)
}

// viewerWindow is how long after its last request a session counts as watching.
const viewerWindow = 10 * time.Second

// viewers counts sessions by when they last asked for something.
type viewers struct {
	mu     sync.Mutex
	seen   map[string]time.Time
	pruned time.Time
}

func newViewers() *viewers { return &viewers{seen: map[string]time.Time{}} }

func (v *viewers) saw(session string, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen[session] = now
	if now.Sub(v.pruned) > viewerWindow {
		v.prune(now)
	}
}

func (v *viewers) prune(now time.Time) {
	v.pruned = now
	for s, t := range v.seen {
		if now.Sub(t) > viewerWindow {
			delete(v.seen, s)
		}
	}
}

func (v *viewers) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prune(time.Now())
	return len(v.seen)
}

// chance decides which requests an injected error rate hits.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newChance(seed uint64) *chance {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &chance{r: rand.New(rand.NewPCG(seed, 0))}
}

func (c *chance) hit(p float64) bool {
	if p <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Float64() < p
}
