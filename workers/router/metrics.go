package router

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	answers, woken, policyFailures, probes *prometheus.CounterVec
	queue                                  *prometheus.CounterVec
	unchanged, published, dropped          prometheus.Counter
	capped, warmWishes                     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *follower, busAhead func() time.Duration) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "spillway", Subsystem: "router", Name: name, Help: help}
	}
	m := &metrics{
		answers:        prometheus.NewCounterVec(opts("answers_total", "Requests answered, by kind and HTTP status."), []string{"kind", "status"}),
		woken:          prometheus.NewCounterVec(opts("woken_total", "Play requests that waited for a camera pulled on demand, by how it went: live or silent."), []string{"outcome"}),
		policyFailures: prometheus.NewCounterVec(opts("policy_failures_total", "Versions of policies set aside because they failed on an input, by policy."), []string{"policy"}),
		probes:         prometheus.NewCounterVec(opts("probe_reports_total", "Clients' reports of probes, by what became of them: counted or too_many (or while telemetry has stopped), publisher_counted or publisher_too_many."), []string{"outcome"}),
		queue:          prometheus.NewCounterVec(opts("queue_total", "New sessions while no CDN had room, by outcome: wait (told to ask again), enter (let in after waiting) or refuse (too many wait already: of the address prefix, or in all)."), []string{"outcome"}),
		capped:         prometheus.NewCounter(opts("capped_total", "Manifests from which renditions above the cap were left out, because all CDNs were nearly full.")),
		warmWishes:     prometheus.NewCounter(opts("warm_wishes_total", "Streams that were said to be about to spill to a CDN, so that its caches are warmed; once a second each.")),
		unchanged:      prometheus.NewCounter(opts("steering_unchanged_total", "Steering answers that repeated the last one and were not stored.")),
		published:      prometheus.NewCounter(opts("records_published_total", "Decisions and exposures acknowledged by the bus.")),
		dropped:        prometheus.NewCounter(opts("records_dropped_total", "Decisions and exposures dropped because too many waited for the bus, or because it refuses them for good (they are too large).")),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(
		reg.Register(m.answers), reg.Register(m.woken), reg.Register(m.policyFailures), reg.Register(m.probes), reg.Register(m.queue), reg.Register(m.capped), reg.Register(m.warmWishes), reg.Register(m.unchanged), reg.Register(m.published), reg.Register(m.dropped),
		reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "spillway", Subsystem: "router", Name: "input_age_seconds",
			Help: "Age of the newest telemetry that the router knows; it decides on while this grows. -1: it knows none.",
		}, func() float64 {
			if ms := l.AgeMs(l.Now()); ms >= 0 {
				return float64(ms) / 1000
			}
			return -1
		})),
		reg.Register(prometheus.NewCounterFunc(opts("foreign_decisions_total", "Decisions of other regions that do not count, because their sessions' ids were made with another token key."), func() float64 { return float64(l.foreign.Load()) })),
		reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "spillway", Subsystem: "router", Name: "sessions_held",
			Help: "Sessions that count only because telemetry has stopped, which alone told of them.",
		}, func() float64 { return float64(l.Held()) })),
		reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "spillway", Subsystem: "router", Name: "clock_offset_seconds",
			Help: "How far the bus's clock, which routers go by, is ahead of this machine's.",
		}, func() float64 { return busAhead().Seconds() })),
		reg.Register(viewersCollector{l, prometheus.NewDesc("spillway_router_viewers", "Sessions on each CDN, as the router knows it.", []string{"cdn"}, nil)}),
	)
}

// viewersCollector shows the load at the time of the scrape.
type viewersCollector struct {
	l    *follower
	desc *prometheus.Desc
}

func (c viewersCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c viewersCollector) Collect(ch chan<- prometheus.Metric) {
	for cdn, n := range c.l.Viewers(c.l.Now()) {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), cdn)
	}
}
