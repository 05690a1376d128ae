package srt

import (
	"fmt"

	"github.com/datarhei/gosrt"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	conns                                             prometheus.Gauge
	rtt                                               prometheus.Histogram
	packets, missing, again, lost, undecrypted, spilt prometheus.Counter
	gaps, skipped                                     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "srt", Name: name, Help: help})
	}
	m := &metrics{
		conns: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "srt", Name: "connections", Help: "Open connections."}),
		rtt: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "spillway", Subsystem: "srt", Name: "rtt_seconds", Help: "Smoothed round-trip time of each connection, each second.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}),
		packets:     counter("packets_total", "Data packets received, with those sent again."),
		missing:     counter("packets_missing_total", "Data packets that were found missing, at first."),
		again:       counter("packets_retransmitted_total", "Data packets that came again."),
		lost:        counter("packets_lost_total", "Data packets that never came, or too late."),
		undecrypted: counter("packets_undecrypted_total", "Data packets that could not be decrypted."),
		spilt:       counter("packets_spilt_total", "Data packets thrown away because the bus took nothing."),
		gaps:        counter("ts_gaps_total", "Gaps and damage found in transport streams."),
		skipped:     counter("frames_skipped_total", "Video frames left out between a loss and the next key frame, or malformed."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.conns, m.rtt, m.packets, m.missing, m.again, m.lost, m.undecrypted, m.spilt, m.gaps, m.skipped} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("srt: register metrics: %w", err)
		}
	}
	return m, nil
}

// count adds what has happened since last.
func (m *metrics) count(last, now *srt.StatisticsAccumulated) {
	add := func(c prometheus.Counter, a, b uint64) {
		if b > a {
			c.Add(float64(b - a))
		}
	}
	add(m.packets, last.PktRecv, now.PktRecv)
	add(m.missing, last.PktRecvLoss, now.PktRecvLoss)
	add(m.again, last.PktRecvRetrans, now.PktRecvRetrans)
	add(m.undecrypted, last.PktRecvUndecrypt, now.PktRecvUndecrypt)
}
