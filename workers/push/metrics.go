package push

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sending                    *prometheus.GaugeVec
	bytes, dropped, reconnects *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	label := []string{"target"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "push", Name: name, Help: help}, label)
	}
	m := &metrics{
		sending:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "push", Name: "sending", Help: "Streams that flow to the target from this process."}, label),
		bytes:      counter("sent_bytes_total", "Bytes of frames sent."),
		dropped:    counter("dropped_frames_total", "Frames that were not sent because the target was away or slow."),
		reconnects: counter("reconnects_total", "Connections that were lost or refused."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sending, m.bytes, m.dropped, m.reconnects} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
