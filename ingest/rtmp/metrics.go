package rtmp

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	conns, active                       prometheus.Gauge
	refused                             *prometheus.CounterVec
	chunks, bytes, traps, epochs, fixed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "rtmp", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "rtmp", Name: name, Help: help})
	}
	m := &metrics{
		conns:  gauge("connections", "Open connections."),
		active: gauge("publications", "Streams being published."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "rtmp", Name: "refused_total",
			Help: "Peers turned away, by reason."}, []string{"code"}),
		chunks: counter("chunks_total", "Chunks acknowledged by the bus."),
		bytes:  counter("chunk_bytes_total", "Payload bytes of acknowledged chunks."),
		traps:  counter("back_pressure_total", "Incidents in which the bus did not take media."),
		epochs: counter("epochs_total", "Epochs opened."),
		fixed:  counter("frames_repaired_total", "Frames whose timestamps were repaired, or that could not be used."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.conns, m.active, m.refused, m.chunks, m.bytes, m.traps, m.epochs, m.fixed} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("rtmp: register metrics: %w", err)
		}
	}
	return m, nil
}
