package console

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	live    prometheus.Gauge
	refused prometheus.Counter
	queries *prometheus.HistogramVec
	failed  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "spillway", Subsystem: "console", Name: name, Help: help}
	}
	m := &metrics{
		live:    prometheus.NewGauge(prometheus.GaugeOpts(opts("live_clients", "Browsers kept up to date."))),
		refused: prometheus.NewCounter(prometheus.CounterOpts(opts("live_clients_refused_total", "Browsers refused because too many were connected."))),
		queries: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "spillway", Subsystem: "console", Name: "query_seconds", Help: "Time of ClickHouse queries that were answered.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"query"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts(opts("query_failures_total", "ClickHouse queries that failed.")), []string{"query"}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.live), reg.Register(m.refused), reg.Register(m.queries), reg.Register(m.failed))
}
