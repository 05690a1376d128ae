package transcode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

// Encoder says how ffmpeg is run. The zero value is usable.
type Encoder struct {
	// Path of the program; default ffmpeg from PATH. It needs version 5.1 or
	// later with libx264.
	Path string
	// Preset of x264; default veryfast.
	Preset string
	// Threads of each rung's encoder; 0: one for each 30 million pixels a second, at most 4.
	Threads int
	// Nice is added to the process's priority number; default 5, below 0 none.
	Nice int
	// MaxMemoryBytes limits the address space of the process; default 4 GiB, below 0 none.
	MaxMemoryBytes int64
}

// ErrNoEncoder: this machine has nothing to encode with.
var ErrNoEncoder = errors.New("ffmpeg is not installed: install it (for example apt-get install ffmpeg) and start the worker again")

// shell limits the process before ffmpeg is there: address space in KiB, no
// files written, no core; then its priority.
const shell = `ulimit -c 0; ulimit -f 0; [ "$0" = - ] || ulimit -v "$0"; n=$1; shift; [ "$n" = - ] && exec "$@"; exec nice -n "$n" "$@"`

// maxPixels is the largest picture decoded: 8192 x 4320.
const maxPixels = 8192 * 4320

// arguments gives ffmpeg's command line. Only pipes may be opened, and only
// what a chunk can hold is demuxed and decoded.
func (e *Encoder) arguments(codec string, rungs []rung, fps float64) []string {
	a := []string{
		"-hide_banner", "-loglevel", "error", "-nostdin", "-nostats", "-max_alloc", strconv.Itoa(512 << 20),
		"-protocol_whitelist", "pipe", "-format_whitelist", "mov", "-codec_whitelist", "h264,hevc,libdav1d,libaom-av1,av1",
		// The init segment says all that is to be known: nothing is read ahead to find out more.
		"-nofind_stream_info", "-fflags", "nobuffer", "-max_pixels", strconv.Itoa(maxPixels),
		// Threads that decode several frames at once would keep frames back.
		"-thread_type", "slice", "-threads", "2",
	}
	if strings.HasPrefix(codec, "av01") {
		a = append(a, "-flags", "low_delay") // dav1d keeps frames back otherwise
	}
	a = append(a, "-copyts", "-f", "mov", "-i", "pipe:0")
	rate := max(1, int(math.Round(fps*1000)))
	for i, r := range rungs {
		b := strconv.FormatInt(r.bps, 10)
		a = append(a, "-map", "0:v:0",
			"-vf", fmt.Sprintf("scale=%d:%d:flags=bicubic,format=yuv420p", r.width, r.height),
			"-fps_mode", "passthrough", "-enc_time_base", "-1", "-muxdelay", "0", "-muxpreload", "0",
			"-c:v", "libx264", "-preset", e.Preset, "-tune", "zerolatency", "-bf", "0",
			"-b:v", b, "-maxrate", b, "-bufsize", b, "-threads", strconv.Itoa(e.threads(r, fps)),
			// Key frames where they are asked for, and nowhere else.
			"-g", "1000000", "-keyint_min", "1", "-sc_threshold", "0", "-forced-idr", "1",
			// t counts from the first frame, which is never marked; see remux.go.
			"-force_key_frames", "expr:mod(round(t*timebase),2)",
			"-x264-params", fmt.Sprintf("fps=%d/1000", rate),
			"-f", "nut", "-write_index", "0", "-flush_packets", "1", "pipe:"+strconv.Itoa(3+i))
	}
	return a
}

func (e *Encoder) threads(r rung, fps float64) int {
	if e.Threads > 0 {
		return e.Threads
	}
	n := 1 + int(float64(r.width*r.height)*fps/30e6)
	return min(n, 4, max(1, runtime.NumCPU()))
}

// process is one running encoder.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	outs   []*os.File
	scale  uint32
	stderr tail

	once sync.Once
	done chan struct{}
	err  error
}

// start runs an encoder of a source with this init segment.
func (e *Encoder) start(ctx context.Context, init []byte, source *schemas.TrackInfo, rungs []rung) (*process, error) {
	path, err := exec.LookPath(e.Path)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoEncoder, err)
	}
	init, err = doubleInit(init)
	if err != nil {
		return nil, err
	}
	fps := source.FPS
	if !(fps >= 1 && fps <= 240) {
		fps = 30
	}
	mem, nice := "-", "-"
	if e.MaxMemoryBytes > 0 {
		mem = strconv.FormatInt(e.MaxMemoryBytes>>10, 10)
	}
	if e.Nice > 0 {
		nice = strconv.Itoa(e.Nice)
	}
	args := e.arguments(source.Codec, rungs, fps)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "timebase", strconv.FormatUint(2*uint64(source.Timescale), 10))
	}
	p := &process{scale: source.Timescale, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", shell, mem, nice, path}, args...)...)
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // nothing else of ours is its business
	p.cmd.Stderr, p.cmd.WaitDelay = &p.stderr, time.Second
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start encoder: %w", err)
	}
	var theirs []*os.File
	closeAll := func(fs []*os.File) {
		for _, f := range fs {
			f.Close()
		}
	}
	for range rungs {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(p.outs)
			closeAll(theirs)
			return nil, fmt.Errorf("start encoder: %w", err)
		}
		p.outs, theirs = append(p.outs, r), append(theirs, w)
	}
	p.cmd.ExtraFiles = theirs
	err = p.cmd.Start()
	closeAll(theirs)
	if err != nil {
		closeAll(p.outs)
		return nil, fmt.Errorf("start encoder: %w", err)
	}
	go func() {
		defer close(p.done)
		if err := p.cmd.Wait(); err != nil {
			p.err = fmt.Errorf("ffmpeg: %w: %s", err, p.stderr.String())
		} else if s := p.stderr.String(); s != "" {
			p.err = fmt.Errorf("ffmpeg ended: %s", s)
		}
	}()
	if _, err := p.in.Write(init); err != nil {
		p.kill()
		return nil, fmt.Errorf("start encoder: %w: %w", err, p.failure())
	}
	return p, nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill() // it may be gone
		p.in.Close()
		<-p.done
		for _, f := range p.outs {
			f.Close()
		}
	})
}

// failure says what the process died of; nil if it has not said anything. It
// waits for a process that has closed its pipes.
func (p *process) failure() error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(time.Second):
		return nil
	}
}

// source is what the frames of rung i are read from.
type source struct {
	nut   *nutReader
	scale uint64
}

func (p *process) source(i int) *source { return &source{newNUTReader(p.outs[i]), uint64(p.scale)} }

// next gives the next frame.
func (s *source) next() (frame, error) {
	for {
		p, err := s.nut.next()
		if err != nil {
			return frame{}, err
		}
		num, den := s.nut.timebase()
		// ffmpeg may refine the time base; the time is a whole number of half source units all the same.
		n := p.pts * int64(num) * int64(2*s.scale)
		if n%int64(den) != 0 {
			return frame{}, fmt.Errorf("%w: time %d in 1/%d s is not one of the source's", errMismatch, p.pts, den)
		}
		au, err := cut.ParseVideo(cut.H264, p.data, 0)
		if err != nil {
			return frame{}, fmt.Errorf("%w: %w", errNUT, err)
		}
		if len(au.Data) == 0 {
			continue
		}
		return frame{pts: n / int64(den) >> 1, key: au.Key, data: bytes.Clone(au.Data)}, nil
	}
}

// track describes what the rung's frames need to be decoded, with the source's
// timescale and part target. A frame must have been read.
func (s *source) track(source *schemas.TrackInfo) (schemas.TrackInfo, []byte, error) {
	ps, err := cut.ParseVideo(cut.H264, s.nut.extra, 0)
	if err != nil {
		return schemas.TrackInfo{}, nil, fmt.Errorf("%w: %w", errNUT, err)
	}
	t, err := cut.NewVideoTrack(&cut.VideoConfig{Codec: cut.H264, SPS: ps.SPS, PPS: ps.PPS, MorePPS: ps.MorePPS, FPS: source.FPS}, source.PartTargetUs)
	if err != nil {
		return schemas.TrackInfo{}, nil, fmt.Errorf("%w: %w", errNUT, err)
	}
	if err := setTimescale(t.Init, source.Timescale); err != nil {
		return schemas.TrackInfo{}, nil, err
	}
	t.Info.Timescale, t.Info.PartTargetUs, t.Info.FPS = source.Timescale, source.PartTargetUs, source.FPS
	t.Info.InitID = schemas.InitID(t.Init)
	return t.Info, t.Init, nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - 2048; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
