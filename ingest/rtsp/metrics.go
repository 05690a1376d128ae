package rtsp

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	pulled                                    prometheus.Gauge
	connects, failures, lost, skipped, broken prometheus.Counter
	takeovers                                 prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "spillway", Subsystem: "pull", Name: name, Help: help}
	}
	m := &metrics{
		pulled:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "pull", Name: "cameras", Help: "Cameras this puller has the lease of."}),
		connects:  prometheus.NewCounter(opts("connects_total", "Connections to cameras that began to play.")),
		failures:  prometheus.NewCounter(opts("failures_total", "Connections to cameras that failed or broke.")),
		lost:      prometheus.NewCounter(opts("packets_lost_total", "RTP packets of cameras that never came.")),
		skipped:   prometheus.NewCounter(opts("frames_skipped_total", "Video frames left out between lost packets and the next key frame.")),
		broken:    prometheus.NewCounter(opts("frames_malformed_total", "Frames of cameras that could not be read.")),
		takeovers: prometheus.NewCounter(opts("takeovers_total", "Cameras taken over from a puller that was gone.")),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.pulled, m.connects, m.failures, m.lost, m.skipped, m.broken, m.takeovers} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
