package whip

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	sessions                    prometheus.Gauge
	packets, lost, skipped, pli prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "whip", Name: name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "whip", Name: "sessions", Help: "Open sessions."}),
		packets:  counter("packets_total", "RTP packets received."),
		lost:     counter("packets_lost_total", "RTP packets that never came, also not when asked for again."),
		skipped:  counter("frames_skipped_total", "Video frames left out between a loss and the next key frame, or malformed."),
		pli:      counter("key_frames_asked_total", "Key frames asked for (picture loss indications)."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sessions, m.packets, m.lost, m.skipped, m.pli} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("whip: register metrics: %w", err)
		}
	}
	return m, nil
}
