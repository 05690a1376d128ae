package rtmp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// BenchmarkTwentyPublishers measures the processor time of ingest and the embedded
// bus together for 20 publishers of 2.6 Mbit/s over 30 s, in real time; ffmpeg
// (which only copies) is outside. Run with -benchtime 1x.
func BenchmarkTwentyPublishers(b *testing.B) {
	const publishers, seconds = 20, 30
	file := filepath.Join(b.TempDir(), "in.flv")
	args := append(source{rate: 48000, seconds: seconds, size: "640x360",
		extra: []string{"-vf", "noise=alls=60:allf=t", "-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k"}}.args(), file)
	if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
		b.Fatalf("ffmpeg: %v: %s", err, out)
	}
	for b.Loop() {
		bs := bustest.Start(b)
		pub, err := publish.New(b.Context(), publish.Settings{JetStream: bs.JS, Auth: publish.Auth{OpenLoopback: true}})
		if err != nil {
			b.Fatal(err)
		}
		srv, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", Publish: pub})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 2)
		go func() { done <- pub.Run(ctx) }()
		go func() { done <- srv.Run(ctx) }()
		before := cpuSeconds(b)
		var wg sync.WaitGroup
		for i := range publishers {
			wg.Go(func() {
				var stderr bytes.Buffer
				cmd := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-i", file, "-c", "copy", "-f", "flv",
					fmt.Sprintf("rtmp://%s/live/s%d", srv.Addr(), i))
				cmd.Stderr = &stderr
				if err := cmd.Run(); err != nil {
					b.Errorf("ffmpeg: %v: %s", err, stderr.String())
				}
			})
		}
		wg.Wait()
		b.ReportMetric(cpuSeconds(b)-before, "cpu-s")
		st, err := bs.JS.Stream(ctx, schemas.StreamMedia)
		if err != nil {
			b.Fatal(err)
		}
		info, err := st.Info(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.State.Bytes)/1e6, "MB-stored")
		b.ReportMetric(float64(info.State.Msgs)/publishers/seconds, "msgs/s/stream")
		wait := delays(b, bs, info.State.LastSeq)
		b.ReportMetric(wait[len(wait)/2], "p50-ms-behind")
		b.ReportMetric(wait[len(wait)*99/100], "p99-ms-behind")
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
}

// delays tells how long after the arrival of a video part's last frame it was in the
// store, milliseconds, sorted. The arrival is that of a frame that waited in no queue.
func delays(b *testing.B, bs *bustest.Bus, last uint64) []float64 {
	c, err := bs.JS.OrderedConsumer(b.Context(), schemas.StreamMedia, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		b.Fatal(err)
	}
	defer it.Stop()
	var out []float64
	for {
		m, err := it.Next(jetstream.NextContext(b.Context()))
		if err != nil {
			b.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			b.Fatal(err)
		}
		var ch schemas.Chunk
		if json.Unmarshal([]byte(m.Headers().Get(schemas.HeaderChunk)), &ch) == nil {
			for _, f := range ch.Fragments {
				if f.Track == schemas.Video {
					arrived := f.WallUnixUs + f.DurationUs() - f.DurationUs()/int64(f.Samples)
					out = append(out, float64(meta.Timestamp.UnixMicro()-arrived)/1000)
				}
			}
		}
		if meta.Sequence.Stream == last {
			slices.Sort(out)
			return out
		}
	}
}

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	d := func(t syscall.Timeval) time.Duration { return time.Duration(t.Nano()) }
	return (d(u.Utime) + d(u.Stime)).Seconds()
}
