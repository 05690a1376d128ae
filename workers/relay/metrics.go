package relay

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	active                              prometheus.Gauge
	up, rtt, streams, behind, uplink    *prometheus.GaugeVec
	messages, bytes, repeated, reopened *prometheus.CounterVec
	reconnects, sent, received, refused *prometheus.CounterVec
	decisions                           *prometheus.CounterVec
	lag                                 *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "spillway_relay_" + name, Help: help}, []string{label})
	}
	count := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_relay_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		active:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "spillway_relay_active", Help: "1 while this process is the one that works; the region's other relays stand by."}),
		up:         gauge("link_up", "1 while the neighbouring region's relay answers.", "region"),
		rtt:        gauge("link_rtt_seconds", "Round trip to the neighbouring region's relay, smoothed.", "region"),
		reconnects: count("link_reconnects_total", "Times the neighbouring region answered again after a silence.", "region"),
		streams:    gauge("streams", "Streams taken from the neighbouring region.", "region"),
		behind:     gauge("pending_messages", "Messages that the neighbouring region has and this one has not yet, of all streams taken from it.", "region"),
		messages:   count("messages_total", "Messages taken from the neighbouring region.", "region"),
		bytes:      count("bytes_total", "Bytes of messages taken from the neighbouring region.", "region"),
		repeated:   count("repeated_total", "Messages passed over because this region had them.", "region"),
		reopened:   count("reopened_total", "Consumers opened again in the neighbouring region, after a cut, a change of the way, or a loss.", "region"),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spillway_relay_lag_seconds", Help: "From a message's storage in the neighbouring region to its storage here, by the two clocks.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"region"}),
		uplink:    gauge("uplink_pending_messages", "Messages of this region that its parent has not stored yet.", "stream"),
		sent:      count("uplink_sent_total", "Messages of this region stored by its parent.", "stream"),
		received:  count("uplink_received_total", "Messages of neighbouring regions stored here.", "region"),
		decisions: count("decisions_total", "Decisions of other regions' routers that the neighbouring region, the parent, told and that this one's routers count by.", "region"),
		refused:   count("uplink_refused_total", "Messages of neighbouring regions refused here.", "region"),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	for _, c := range []prometheus.Collector{
		m.active, m.up, m.rtt, m.reconnects, m.streams, m.behind, m.messages, m.bytes, m.repeated, m.reopened, m.lag, m.uplink, m.sent, m.received, m.refused, m.decisions,
	} {
		err = errors.Join(err, reg.Register(c))
	}
	return m, err
}
