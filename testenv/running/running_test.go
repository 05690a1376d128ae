package running_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/testenv/running"
)

// spy is a test of which it is noted how it went.
type spy struct {
	testing.TB
	wrong   []string
	cleanup []func()
}

func (s *spy) Helper()                        {}
func (s *spy) Cleanup(f func())               { s.cleanup = append(s.cleanup, f) }
func (s *spy) Errorf(format string, _ ...any) { s.wrong = append(s.wrong, format) }
func (s *spy) end() {
	for _, f := range s.cleanup {
		f()
	}
}

// An error of one role ends the others and fails the test, once.
func TestAnErrorEndsAll(t *testing.T) {
	s := &spy{TB: t}
	ended := make(chan struct{})
	r := running.Start(s,
		func(context.Context) error { return errors.New("no disk") },
		func(ctx context.Context) error { <-ctx.Done(); close(ended); return nil })
	<-ended
	r.Stop()
	s.end()
	if len(s.wrong) != 1 {
		t.Errorf("said %d times that it failed: %q", len(s.wrong), s.wrong)
	}
}

func TestStopAndReady(t *testing.T) {
	s := &spy{TB: t}
	ready := make(chan struct{})
	r := running.Start(s, func(ctx context.Context) error { close(ready); <-ctx.Done(); return nil }).Ready(ready)
	r.Stop()
	s.end()
	if len(s.wrong) != 0 {
		t.Errorf("a stop is a failure: %q", s.wrong)
	}
}

func TestSum(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"path", "code"})
	reg.MustRegister(c)
	c.WithLabelValues("/a", "200").Add(3)
	c.WithLabelValues("/a", "404").Add(1)
	c.WithLabelValues("/b", "200").Add(5)
	for _, x := range []struct {
		labels string
		want   float64
	}{{"", 9}, {"path /a", 4}, {"path /a code 404", 1}, {"path /c", 0}} {
		if got := running.Sum(t, reg, "requests_total", strings.Fields(x.labels)...); got != x.want {
			t.Errorf("%q: %v, want %v", x.labels, got, x.want)
		}
	}
	if got := running.Sum(t, reg, "other"); got != 0 {
		t.Errorf("a metric that is not there: %v", got)
	}
}
