package screenshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// once decodes with one short ffmpeg process for each picture: what [Pool] is measured against.
type once struct {
	// Path of the program; default ffmpeg from PATH.
	Path string
	// Timeout after which the process is killed; default 5 s.
	Timeout time.Duration
	// Processes at once; default 2.
	Processes int
	// MaxAllocBytes is the largest single allocation ffmpeg may make; default 128 MiB.
	MaxAllocBytes int64

	begin sync.Once
	path  string
	err   error
	slot  chan struct{}
}

// maxJPEG bounds what is read from the process, bytes.
const maxJPEG = 1 << 20

func (f *once) start() {
	if f.Path == "" {
		f.Path = "ffmpeg"
	}
	if f.Timeout == 0 {
		f.Timeout = 5 * time.Second
	}
	if f.Processes == 0 {
		f.Processes = 2
	}
	if f.MaxAllocBytes == 0 {
		f.MaxAllocBytes = 128 << 20
	}
	f.slot = make(chan struct{}, f.Processes)
	var err error
	if f.path, err = exec.LookPath(f.Path); err != nil {
		f.err = fmt.Errorf("%w (%w)", ErrNoDecoder, err)
	}
}

func (f *once) Decode(ctx context.Context, init, fragment []byte, width int) ([]byte, error) {
	f.begin.Do(f.start)
	if f.err != nil {
		return nil, f.err
	}
	select {
	case f.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-f.slot }()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	// The stream comes from a publisher: only the pipe may be opened, one thread,
	// bounded allocations, one picture.
	cmd := exec.CommandContext(ctx, f.path, "-hide_banner", "-loglevel", "error", "-nostdin",
		"-max_alloc", strconv.FormatInt(f.MaxAllocBytes, 10), "-protocol_whitelist", "pipe",
		"-threads", "1", "-f", "mp4", "-i", "pipe:0",
		"-map", "0:v:0", "-frames:v", "1", "-vf", "scale="+strconv.Itoa(width)+":-2", "-threads", "1",
		"-c:v", "mjpeg", "-q:v", "5", "-f", "image2pipe", "pipe:1")
	var out, problems limited
	out.left, problems.left = maxJPEG, 4<<10
	cmd.Stdin = io.MultiReader(bytes.NewReader(init), bytes.NewReader(fragment))
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.Env = []string{} // nothing of ours is its business
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ffmpeg was killed after %v: %w", f.Timeout, context.Cause(ctx))
	}
	// It stops reading once it has its picture, which may break the pipe to it.
	if len(out.b) == 0 {
		return nil, fmt.Errorf("ffmpeg made no picture: %w: %s", errOr(err), strings.TrimSpace(string(problems.b)))
	}
	if _, err := jpeg.DecodeConfig(bytes.NewReader(out.b)); err != nil {
		return nil, fmt.Errorf("ffmpeg made no valid JPEG (%d bytes): %w", len(out.b), err)
	}
	return out.b, nil
}

func errOr(err error) error {
	if err != nil {
		return err
	}
	return errors.New("it ended without an error")
}

// limited keeps the first bytes written to it and drops the rest.
type limited struct {
	b    []byte
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.b = append(l.b, p[:n]...)
	l.left -= n
	return len(p), nil
}
