package viewer_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/viewer"
)

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkViewers gives the CPU time of one viewer for one second: an upper
// bound, because ingest, packager, origin, edges, collector and bus run in the
// same process.
func BenchmarkViewers(b *testing.B) {
	for _, c := range []struct {
		name  string
		n     int
		whole bool
	}{{"parts-50", 50, false}, {"segments-100", 100, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := newStack(b)
			p := &viewer.Pool{
				Config: viewer.Config{Dispatch: s.r.URL(), App: "live", Stream: "demo", WholeSegments: c.whole},
				CDNs:   []string{"a", "b"}, PerCDN: c.n / 2, StayMin: time.Hour, StayMax: time.Hour, Seed: 1,
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = p.Run(ctx) }()
			await.True(b, "everyone watches", func() bool { return s.edges["a"].Stats().Viewers+s.edges["b"].Stats().Viewers == c.n })
			for b.Loop() {
				before, begin, requests := cpu(b), time.Now(), s.edges["a"].Stats().Requests+s.edges["b"].Stats().Requests
				time.Sleep(5 * time.Second) // what is measured
				watched := float64(c.n) * time.Since(begin).Seconds()
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/watched, "cpu-ms/viewer-s")
				b.ReportMetric(float64(s.edges["a"].Stats().Requests+s.edges["b"].Stats().Requests-requests)/watched, "requests/viewer-s")
			}
			cancel()
			<-done
			if st := p.Stats(); st.Failed > 0 {
				b.Errorf("%+v", st)
			} else {
				b.ReportMetric(st.Stalled.Seconds()/max(st.Played.Seconds(), 1)*100, "stalled-%")
			}
		})
	}
}
