package sink

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	rows, batches *prometheus.CounterVec // by way: bus, spool, replay
	refused       prometheus.Counter
	failures      prometheus.Counter
	damaged       prometheus.Counter
	dead          prometheus.Counter
	spoolBytes    prometheus.Gauge
	publish       prometheus.Histogram
	batchRows     prometheus.Histogram
}

// Ways of a batch.
const (
	wayBus    = "bus"
	waySpool  = "spool"
	wayReplay = "replay"
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "spillway", Subsystem: "sink", Name: n, Help: help}
	}
	m := &metrics{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts(name("rows_total",
			"Telemetry rows made durable, by way: bus, spool; replay counts those brought from spool to bus.")), []string{"way"}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts(name("batches_total",
			"Batches made durable, by way.")), []string{"way"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts(name("refused_rows_total",
			"Rows that neither bus nor spool could take; their senders were told."))),
		failures: prometheus.NewCounter(prometheus.CounterOpts(name("publish_failures_total",
			"Publish attempts that the bus did not acknowledge."))),
		damaged: prometheus.NewCounter(prometheus.CounterOpts(name("spool_damaged_bytes_total",
			"Bytes of spool files that could not be read back."))),
		dead: prometheus.NewCounter(prometheus.CounterOpts(name("dead_batches_total",
			"Batches the bus refuses for good; they are in the folder dead of the spool."))),
		spoolBytes: prometheus.NewGauge(prometheus.GaugeOpts(name("spool_bytes", "Size of the spool."))),
		publish: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "spillway", Subsystem: "sink", Name: "publish_seconds",
			Help:    "Time from publishing a batch to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 3, 9),
		}),
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "spillway", Subsystem: "sink", Name: "batch_rows", Help: "Rows in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	m.rows = shared(reg, m.rows, &err)
	m.batches = shared(reg, m.batches, &err)
	m.refused = shared(reg, m.refused, &err)
	m.failures = shared(reg, m.failures, &err)
	m.damaged = shared(reg, m.damaged, &err)
	m.dead = shared(reg, m.dead, &err)
	m.spoolBytes = shared(reg, m.spoolBytes, &err)
	m.publish = shared(reg, m.publish, &err)
	m.batchRows = shared(reg, m.batchRows, &err)
	return m, err
}

// shared registers c, or gives the one registered before: several sinks of one process count together.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C, err *error) C {
	e := reg.Register(c)
	var dup prometheus.AlreadyRegisteredError
	if errors.As(e, &dup) {
		if old, ok := dup.ExistingCollector.(C); ok {
			return old
		}
	}
	*err = errors.Join(*err, e)
	return c
}
