package transcode

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	streams  prometheus.Gauge
	behind   prometheus.Gauge
	chunks   prometheus.Counter
	lost     prometheus.Counter
	failures *prometheus.CounterVec
	delay    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "spillway_transcode_streams", Help: "Streams this process works on."}),
		behind:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "spillway_transcode_behind_seconds", Help: "How far the encoder looked at last is behind real time."}),
		chunks:  prometheus.NewCounter(prometheus.CounterOpts{Name: "spillway_transcode_chunks_total", Help: "Chunks published."}),
		lost:    prometheus.NewCounter(prometheus.CounterOpts{Name: "spillway_transcode_lost_total", Help: "Times another worker was first."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_transcode_failures_total", Help: "Encoders that ended by themselves (failed) or fell behind (behind).",
		}, []string{"reason"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "spillway_transcode_delay_seconds", Help: "Time from a source chunk's arrival here to its rendition's being on the bus.",
			Buckets: []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5},
		}),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	for _, c := range []prometheus.Collector{m.streams, m.behind, m.chunks, m.lost, m.failures, m.delay} {
		err = errors.Join(err, reg.Register(c))
	}
	return m, err
}
