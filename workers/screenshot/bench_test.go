package screenshot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// cpu is what this process and the decoders that run have used, and ended ones.
func cpu(b *testing.B, p *Pool) time.Duration {
	b.Helper()
	var own, ended syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) != nil || syscall.Getrusage(syscall.RUSAGE_CHILDREN, &ended) != nil {
		b.Fatal("no figures of the processor")
	}
	sum := time.Duration(0)
	for _, t := range []syscall.Timeval{own.Utime, own.Stime, ended.Utime, ended.Stime} {
		sum += time.Duration(t.Nano())
	}
	if p == nil {
		return sum
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.idle {
		for _, d := range list {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(d.cmd.Process.Pid) + "/stat")
			if err != nil {
				continue // not on this system
			}
			f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
			for _, i := range []int{11, 12} {
				ticks, _ := strconv.Atoi(f[i])
				sum += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

// keyFrame720 is a key frame of 720p at 2.5 Mbit/s, x264 veryfast, three B frames.
func keyFrame720(b *testing.B) (init, fragment []byte) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "720.mp4")
	out, err := exec.CommandContext(b.Context(), need.Program(b, "ffmpeg"), "-hide_banner", "-loglevel", "error", "-f", "lavfi",
		"-i", "mandelbrot=size=1280x720:rate=30:start_scale=0.05", "-t", "5", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "2500k", "-maxrate", "2500k",
		"-bufsize", "2500k", "-g", "60", "-bf", "3", "-pix_fmt", "yuv420p", "-movflags", "delay_moov+default_base_moof+frag_every_frame", file).CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	all, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	// The key frame at 4 s: the first one is larger than those that follow.
	init = all[:bytes.Index(all, []byte("moof"))-4]
	rest := all[len(init):]
	for range 120 {
		rest = rest[4+bytes.Index(rest[8:], []byte("moof")):]
	}
	return init, rest[:4+bytes.Index(rest[8:], []byte("moof"))]
}

// BenchmarkPicture is what one picture of 720p costs: decoded by the pool,
// scaled, measured and encoded. cpu-ms/op counts every process.
func BenchmarkPicture(b *testing.B) {
	init, fragment := keyFrame720(b)
	b.Logf("key frame of %d bytes", len(fragment))
	f := &schemas.Fragment{WallUnixUs: 1}
	c := &schemas.Chunk{App: "live", Stream: "one"}
	b.Run("pool", func(b *testing.B) {
		p := &Pool{}
		defer p.Close()
		h, _ := New(nil, Settings{Decoder: p})
		one := func() {
			img, err := p.Decode(b.Context(), init, fragment, 320)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := h.output(describe(c, f, img), img, 1); err != nil {
				b.Fatal(err)
			}
		}
		one()
		from := cpu(b, p)
		for b.Loop() {
			one()
		}
		b.ReportMetric(float64(cpu(b, p)-from)/1e6/float64(b.N), "cpu-ms/op")
	})
	b.Run("process", func(b *testing.B) {
		o := &once{}
		from := cpu(b, nil)
		for b.Loop() {
			if _, err := o.Decode(b.Context(), init, fragment, 320); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(cpu(b, nil)-from)/1e6/float64(b.N), "cpu-ms/op")
	})
}

// BenchmarkHundredStreams is the figure: 100 streams of 720p with five chunks a
// second each, pictured every 5 s at 320 pixels. percent-core is the processor
// time of the handler and the decoders, without what the bus takes to deliver, as
// share of one core at that rate: what an hour of it costs is not waited for.
func BenchmarkHundredStreams(b *testing.B) {
	init, fragment := keyFrame720(b)
	const streams, chunks = 100, 25 // of 5 s
	src := &memory{inits: map[string][]byte{schemas.InitID(init): init}}
	var msgs []workers.Message
	for s := range streams {
		for i := range chunks {
			c := &schemas.Chunk{Version: schemas.ChunkVersion, App: "live", Stream: fmt.Sprintf("s%d", s), Rendition: schemas.SourceRendition, Epoch: 1,
				Seq: uint64(i), ReceivedUnixUs: 1, Clock: schemas.ClockArrival,
				Fragments: []schemas.Fragment{{Track: schemas.Video, MSN: uint64(i / 10), Part: uint32(i % 10), Size: len(fragment), InitID: schemas.InitID(init), BaseTime: uint64(i) * 3000,
					Duration: 3000, Timescale: 15360, Samples: 1, Independent: i%10 == 0, SegmentStart: i%10 == 0}},
			}
			msgs = append(msgs, workers.Message{})
			c.Fragments[0].WallUnixUs = int64(i) * 200_000
			m, err := media.Message(c, fragment)
			if err != nil {
				b.Fatal(err)
			}
			msgs[len(msgs)-1] = m
		}
	}
	p := &Pool{}
	defer p.Close()
	h, err := New(src, Settings{Decoder: p})
	if err != nil {
		b.Fatal(err)
	}
	from, made := cpu(b, p), 0
	for b.Loop() {
		clear(h.new)
		for at := 0; at < len(msgs); at += batch {
			out, err := h.Handle(b.Context(), msgs[at:min(at+batch, len(msgs))])
			if err != nil {
				b.Fatal(err)
			}
			made += len(out)
		}
	}
	used := float64(cpu(b, p)-from) / float64(b.N)
	b.ReportMetric(used/1e6/(float64(made)/float64(b.N)), "cpu-ms/picture")
	b.ReportMetric(100*used/5e9, "percent-core")
}
