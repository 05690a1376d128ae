package hops_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStreamSecond is what a second of a watched stream's rows about hops
// costs, all in one process: notes and rows of ingest, MEDIA and an origin (two
// parts each), the bus that takes both, and a collector that hears the notes. A
// hundred streams tell at once, as in life, where a batch has the rows of all.
func BenchmarkStreamSecond(b *testing.B) {
	const streams = 100
	srv := bustest.Start(b)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	r, known := hops.NewReporter(srv.JS, "bench", nil), hops.NewKnown(hops.PerCDN)
	wg.Go(func() { r.Run(ctx) })
	wg.Go(func() { _ = known.Run(ctx, srv.Conn) })
	second, before := 0, cpuTime(b)
	for b.Loop() {
		for i := range streams {
			n := part
			n.Key.Stream, n.MSN = fmt.Sprintf("s%d", i), uint64(second)
			for n.Part = range 2 {
				at := int64(doneUs + second*1_000_000)
				r.Tell(hops.At(n, schemas.HopIngest, "i", at, at))
				r.Tell(hops.At(n, schemas.HopStored, "i", at+2000, at))
				r.Tell(hops.At(n, schemas.HopPackaged, "o", at+4000, at))
			}
		}
		second++
		time.Sleep(time.Second / 4) // batches are sent once a second: four seconds of media in one
	}
	cancel()
	wg.Wait()
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(second*streams), "cpu-us/stream-s")
	b.ReportMetric(0, "ns/op")
}
