// Package publisher feeds live streams into the system as broadcasters do: over RTMP, in real time.
//
// Publisher pushes one stream through ffmpeg: a moving test card with a clock in the picture and a tone, or a
// file in a loop. Replay pushes one prepared clip over many connections at the cost of little more than the
// network writes, to load servers. Clip prepares such a file.
//
// It promises: frames at an exact pace, dropped rather than sent late; the clock in the picture is the wall
// clock at capture; no ffmpeg is left behind, however this process ends; a server that goes away is tried
// again until the context ends. It leaves out protocols other than RTMP and codecs other than H.264 and AAC.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// Defaults and limits of a Publisher.
const (
	DefaultFPS             = 30
	DefaultBitrateKbps     = 1200
	DefaultKeyframeSeconds = 2
	maxFPS                 = 240
	maxBFrames             = 16
)

const (
	backoffFirst = 250 * time.Millisecond
	backoffMost  = 5 * time.Second
	// healthyAfter is how long a push must have lasted for the next delay to start small again.
	healthyAfter = 10 * time.Second
	// stopGrace is what ffmpeg gets to send its last packets after its input has ended.
	stopGrace = 1500 * time.Millisecond
)

// Publisher pushes one live stream with ffmpeg. The zero value of every field but URL has a meaning. Its
// fields must not change once Run has been called.
type Publisher struct {
	// FFmpeg is the program's name or path; "ffmpeg" when empty. It needs libx264.
	FFmpeg string
	// URL is where to push: rtmp://host:port/application/stream. User and query are never logged.
	URL string
	// Name is shown in the picture; the URL's path when empty.
	Name string
	// Width and Height are in pixels; 640x360 when 0.
	Width, Height int
	// FPS is in frames per second; 30 when 0. Fractions such as 30000.0/1001 are kept exactly on average.
	FPS float64
	// BitrateKbps is the constant video bit rate; 1200 when 0. Sound adds 96.
	BitrateKbps int
	// KeyframeSeconds is the time between key frames; 2 when 0.
	KeyframeSeconds float64
	// BFrames is the number of B-frames between reference frames; each adds one frame interval of delay.
	BFrames int
	// Input is a media file to push in a loop instead of the card. H.264 and AAC are sent as they are,
	// anything else is re-encoded with the settings above.
	Input string
	// NoAudio leaves out sound.
	NoAudio bool
	// Logger takes restarts and their causes; slog.Default() when nil.
	Logger *slog.Logger

	frames, dropped, restarts atomic.Int64
}

// Stats counts what a Publisher did since Run was called.
type Stats struct {
	// Frames were handed to ffmpeg (0 when a file is pushed).
	Frames int64
	// Dropped frames were skipped because ffmpeg or the network did not keep up.
	Dropped int64
	// Restarts of ffmpeg after it ended by itself.
	Restarts int64
}

// Stats may be called while Run runs.
func (p *Publisher) Stats() Stats {
	return Stats{p.frames.Load(), p.dropped.Load(), p.restarts.Load()}
}

// job is a Publisher's settings, checked and completed.
type job struct {
	p        *Publisher
	ffmpeg   string
	target   *url.URL
	args     []string
	camera   *camera // nil when a file is pushed
	logger   *slog.Logger
	redacted string
}

// Run pushes until ctx ends, then returns nil. Settings that can never work (no ffmpeg, no such file, a bad
// size or URL) return an error at once; a server that refuses or goes away, or an ffmpeg that dies, is tried
// again after 250 ms, growing to 5 s.
func (p *Publisher) Run(ctx context.Context) error {
	j, err := p.prepare(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	delay := backoffFirst
	for {
		began := time.Now()
		err := j.push(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if child.NotFound(err) {
			return err
		}
		if time.Since(began) > healthyAfter {
			delay = backoffFirst
		}
		p.restarts.Add(1)
		j.logger.Warn("publishing was interrupted", "url", j.redacted, "err", err, "retry_in", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay + rand.N(delay/4)):
		}
		delay = min(2*delay, backoffMost)
	}
}

func (p *Publisher) prepare(ctx context.Context) (*job, error) {
	j := &job{p: p, logger: p.Logger}
	if j.logger == nil {
		j.logger = slog.Default()
	}
	var err error
	if j.target, err = checkURL(p.URL); err != nil {
		return nil, err
	}
	j.redacted = redact(j.target)
	if j.ffmpeg, err = findProgram(orDefault(p.FFmpeg, "ffmpeg")); err != nil {
		return nil, err
	}
	fps, kbps := orDefault(p.FPS, DefaultFPS), orDefault(p.BitrateKbps, DefaultBitrateKbps)
	key := orDefault(p.KeyframeSeconds, DefaultKeyframeSeconds)
	switch {
	case !(fps > 0 && fps <= maxFPS):
		return nil, fmt.Errorf("frame rate %v is outside 0 to %d: set FPS to frames per second", p.FPS, maxFPS)
	case kbps < 0:
		return nil, fmt.Errorf("bit rate %d kbit/s is negative: set BitrateKbps above 0", p.BitrateKbps)
	case !(key > 0 && key <= 60):
		return nil, fmt.Errorf("key frame distance %v s is outside 0 to 60: set KeyframeSeconds", p.KeyframeSeconds)
	case p.BFrames < 0 || p.BFrames > maxBFrames:
		return nil, fmt.Errorf("%d B-frames are outside 0 to %d: set BFrames", p.BFrames, maxBFrames)
	}
	if p.Input != "" {
		return j, j.useFile(ctx, kbps, fps, key)
	}
	name := orDefault(p.Name, strings.Trim(j.target.Path, "/"))
	card, err := testcard.New(p.Width, p.Height, name)
	if err != nil {
		return nil, err
	}
	j.camera = &camera{card: card, fps: fps, mute: p.NoAudio, frames: &p.frames, dropped: &p.dropped}
	j.args = append(j.args, pipeInput...)
	j.args = append(j.args, encodeArgs(kbps, p.BFrames, fps, key)...)
	if !p.NoAudio {
		j.args = append(j.args, audioArgs...)
	}
	j.args = append(j.args, rtmpOutput(j.target.String())...)
	return j, nil
}

func (j *job) useFile(ctx context.Context, kbps int, fps, key float64) error {
	if _, err := os.Stat(j.p.Input); err != nil {
		return fmt.Errorf("open input file: %w", err)
	}
	have, err := probe(ctx, j.ffmpeg, j.p.Input)
	if err != nil {
		return err
	}
	j.args = []string{"-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-stream_loop", "-1",
		"-i", "file:" + j.p.Input, "-map", "0:v:0"}
	if have.copyVideo {
		j.args = append(j.args, "-c:v", "copy")
	} else {
		j.args = append(j.args, encodeArgs(kbps, j.p.BFrames, fps, key)...)
	}
	switch {
	case j.p.NoAudio:
	case have.copyAudio:
		j.args = append(j.args, "-map", "0:a:0", "-c:a", "copy")
	default:
		// The question mark: without sound, or without ffprobe to say so, the picture goes alone.
		j.args = append(append(j.args, "-map", "0:a:0?"), audioArgs...)
	}
	j.args = append(j.args, rtmpOutput(j.target.String())...)
	return nil
}

// push runs one ffmpeg until it ends or ctx does. Its error never holds the URL's secrets.
func (j *job) push(ctx context.Context) error {
	var said child.Tail
	cmd := exec.Command(j.ffmpeg, j.args...)
	cmd.Stderr = &said
	var feed *os.File
	if j.camera != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("open pipe to ffmpeg: %w", err)
		}
		defer w.Close()
		widenPipe(w, 2*j.camera.card.FrameBytes())
		cmd.Stdin, feed = r, w
	}
	proc, err := child.Start(cmd)
	if feed != nil {
		cmd.Stdin.(*os.File).Close()
	}
	if err != nil {
		return startError(err)
	}
	feedCtx, endFeed := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() {
		if feed == nil {
			fed <- nil
			return
		}
		fed <- j.camera.run(feedCtx, feed)
	}()
	select {
	case <-ctx.Done():
	case <-proc.Done():
	}
	endFeed()
	if feed != nil {
		// Ends a write that is blocked, and ffmpeg's input with it.
		feed.Close()
	}
	feedErr := <-fed
	if ctx.Err() != nil {
		j.settle(proc)
		return ctx.Err()
	}
	if text := said.LastLine(); text != "" {
		text = strings.ReplaceAll(text, j.target.String(), j.redacted)
		return fmt.Errorf("push to %s: ffmpeg ended: %s", j.redacted, text)
	}
	return fmt.Errorf("push to %s: %w", j.redacted, errors.Join(errors.New("ffmpeg ended"), proc.Err(), feedErr))
}

// settle lets ffmpeg drain its input, or tells it to end when it reads a file, and kills it after a while.
func (j *job) settle(proc *child.Process) {
	if j.camera != nil {
		select {
		case <-proc.Done():
		case <-time.After(stopGrace):
		}
	}
	proc.Stop(stopGrace)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
