package publish

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count by protocol.
type metrics struct {
	active                              *prometheus.GaugeVec
	refused                             *prometheus.CounterVec
	chunks, bytes, traps, epochs, fixed *prometheus.CounterVec
	clock                               *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "ingest", Name: name, Help: help},
			append([]string{"protocol"}, more...))
	}
	m := &metrics{
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "ingest", Name: "publications",
			Help: "Streams being published."}, []string{"protocol"}),
		refused: counter("refused_total", "Peers turned away, by reason.", "code"),
		chunks:  counter("chunks_total", "Chunks acknowledged by the bus."),
		bytes:   counter("chunk_bytes_total", "Payload bytes of acknowledged chunks."),
		traps:   counter("back_pressure_total", "Incidents in which the bus did not take media."),
		epochs:  counter("epochs_total", "Epochs opened."),
		fixed:   counter("frames_repaired_total", "Frames whose timestamps were repaired, or that could not be used."),
		clock:   counter("clock_discarded_total", "Capture times of publishers that were not believed."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.active, m.refused, m.chunks, m.bytes, m.traps, m.epochs, m.fixed, m.clock} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("publish: register metrics: %w", err)
		}
	}
	return m, nil
}

// counters are the metrics of one protocol, looked up once for each publication.
type counters struct {
	active                              prometheus.Gauge
	chunks, bytes, traps, epochs, fixed prometheus.Counter
	clock                               prometheus.Counter
}

func (m *metrics) of(protocol string) counters {
	return counters{
		active: m.active.WithLabelValues(protocol), chunks: m.chunks.WithLabelValues(protocol), bytes: m.bytes.WithLabelValues(protocol),
		traps: m.traps.WithLabelValues(protocol), epochs: m.epochs.WithLabelValues(protocol), fixed: m.fixed.WithLabelValues(protocol),
		clock: m.clock.WithLabelValues(protocol),
	}
}
