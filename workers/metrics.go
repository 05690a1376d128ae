package workers

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted in one wrapper round every handler.
type metrics struct {
	handled, failed, rejected, published prometheus.Counter
	lag, unacked, lastSuccess            prometheus.Gauge
	duration                             prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, role string) (*metrics, error) {
	labels := prometheus.Labels{"role": role}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "spillway", Subsystem: "worker", Name: name, Help: help, ConstLabels: labels}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
	}
	m := &metrics{
		handled:     counter("handled_total", "Messages handled and acknowledged."),
		failed:      counter("failed_total", "Handlings that failed and are retried, in messages."),
		rejected:    counter("rejected_total", "Messages put in the stream DEAD."),
		published:   counter("published_total", "Messages published and acknowledged by the bus."),
		lag:         gauge("lag_messages", "Messages in the stream that this role has not been given yet."),
		unacked:     gauge("unacknowledged_messages", "Messages given to this role's processes and not acknowledged yet."),
		lastSuccess: gauge("last_success_timestamp_seconds", "Unix time of the last message handled; 0 before the first."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "spillway", Subsystem: "worker", Name: "handle_seconds", ConstLabels: labels,
			Help:    "Time in the handler for one batch, seconds.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	m.handled = shared(reg, m.handled, &err)
	m.failed = shared(reg, m.failed, &err)
	m.rejected = shared(reg, m.rejected, &err)
	m.published = shared(reg, m.published, &err)
	m.lag = shared(reg, m.lag, &err)
	m.unacked = shared(reg, m.unacked, &err)
	m.lastSuccess = shared(reg, m.lastSuccess, &err)
	m.duration = shared(reg, m.duration, &err)
	return m, err
}

// shared registers c, or gives the one registered before: several runners of a
// role in one process count together.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C, err *error) C {
	e := reg.Register(c)
	if e == nil {
		return c
	}
	var have prometheus.AlreadyRegisteredError
	if errors.As(e, &have) {
		if old, ok := have.ExistingCollector.(C); ok {
			return old
		}
	}
	*err = errors.Join(*err, e)
	return c
}

// call is the one wrapper round every handler: time and count outside, recover
// inside, so a panic is an error like any other.
func (m *metrics) call(ctx context.Context, h Handler, batch []Message) (out []Output, err error) {
	start := time.Now()
	defer func() {
		m.duration.Observe(time.Since(start).Seconds())
		if err != nil && !Rejected(err) {
			m.failed.Add(float64(len(batch)))
		}
	}()
	defer func() {
		if v := recover(); v != nil {
			out, err = nil, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h.Handle(ctx, batch)
}

func (m *metrics) success(n int) {
	m.handled.Add(float64(n))
	m.lastSuccess.Set(float64(time.Now().UnixMilli()) / 1000)
}
