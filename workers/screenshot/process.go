package screenshot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A process takes key frames as IVF (a length and a time before each) and gives
// raw pictures. The time is the frame's tag: a number, and the width and height
// to scale to, so that one process makes pictures of any size. A filter prints
// the tag of each picture to a pipe of its own before the picture comes out, so
// what comes out is always known by its key frame and its size, however many
// pictures a hostile frame makes, or none.
type process struct {
	cmd   *exec.Cmd
	in    *os.File // key frames
	out   *bufio.Reader
	files []*os.File
	tags  chan uint64
	said  *errorText
	done  chan struct{} // closed when the process has ended
	once  sync.Once

	number uint64
	made   int
	rest   *time.Timer // ends it when it has no work
}

type limits struct {
	maxAlloc, maxPixels int64
	memory              uint64
}

// Tags have the bits of number, width and height.
const (
	sideBits = 13
)

// Tag fields.
func tagOf(number uint64, w, h int) uint64 {
	return number<<(2*sideBits) | uint64(w)<<sideBits | uint64(h)
}

func tagSize(tag uint64) (w, h int) {
	return int(tag >> sideBits & (1<<sideBits - 1)), int(tag & (1<<sideBits - 1))
}

// errWasGone: the process had ended before it was given the key frame.
var errWasGone = errors.New("the decoder had ended")

// quiet is how long a decoder that complained may still give a picture.
const quiet = 500 * time.Millisecond

// filter scales to the size in the tag and prints the tag.
const filter = "scale=w='mod(floor(round(t*1e9)/8192),8192)':h='mod(round(t*1e9),8192)':eval=frame:flags=area:out_range=pc,format=yuvj420p," +
	"metadata=mode=add:key=k:value=v,metadata=mode=print:file=pipe\\\\:3:direct=1"

func arguments(c codec, l limits) []string {
	args := []string{
		"-hide_banner", "-loglevel", "error", "-nostdin", "-copyts", "-max_alloc", strconv.FormatInt(l.maxAlloc, 10), "-protocol_whitelist", "pipe",
		// Nothing is looked at in advance, and nothing held back.
		"-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0", "-flags", "+low_delay",
		// At a fifth of the size nobody sees what a loop filter smooths.
		"-skip_loop_filter", "all", "-flags2", "+fast", "-threads", "1", "-max_pixels", strconv.FormatInt(l.maxPixels, 10),
	}
	if n := ffmpegNames[c]; n != "" {
		args = append(args, "-c:v", n)
	}
	return append(args, "-f", "ivf", "-i", "pipe:0", "-map", "0:v:0", "-vsync", "passthrough", "-autoscale", "0", "-filter_threads", "1",
		// As fine as the tags: in coarser times two good pictures may be at one, of which ffmpeg complains.
		"-vf", filter, "-c:v", "rawvideo", "-enc_time_base", "1:1000000000", "-threads", "1", "-f", "rawvideo", "-flush_packets", "1", "pipe:1")
}

func open(path string, c codec, l limits) (d *process, err error) {
	d = &process{tags: make(chan uint64, 16), done: make(chan struct{}), said: newErrorText()}
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				d.files = append(d.files, r, w)
			}
		}
		return r, w
	}
	stdin, in := pipe()
	out, stdout := pipe()
	tags, tagWriter := pipe()
	if err != nil {
		d.closeFiles()
		return nil, fmt.Errorf("start a decoder: %w", err)
	}
	d.in, d.out = in, bufio.NewReaderSize(out, 64<<10)
	d.cmd = exec.Command(path, arguments(c, l)...)
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr, d.cmd.ExtraFiles = stdin, stdout, d.said, []*os.File{tagWriter}
	d.cmd.Env = []string{} // nothing of ours is its business
	d.cmd.WaitDelay = time.Second
	if err := d.cmd.Start(); err != nil {
		d.closeFiles()
		return nil, fmt.Errorf("start a decoder: %w", err)
	}
	limited := confine(d.cmd.Process.Pid, l.memory)
	for _, f := range []*os.File{stdin, stdout, tagWriter} {
		f.Close() // the process has them
	}
	go d.readTags(tags)
	go func() {
		_ = d.cmd.Wait() // why is in what it said
		close(d.done)
	}()
	if limited != nil {
		d.kill()
		return nil, fmt.Errorf("start a decoder: what it may take cannot be limited, so it is given nothing to decode: %w", limited)
	}
	header := make([]byte, 0, 32)
	header = append(header, "DKIF\x00\x00\x20\x00"+fourCC[c]...)
	header = binary.LittleEndian.AppendUint16(header, 1280)
	header = binary.LittleEndian.AppendUint16(header, 720)
	header = binary.LittleEndian.AppendUint32(header, 1e9)
	header = binary.LittleEndian.AppendUint32(header, 1)
	header = append(header, make([]byte, 8)...)
	if _, err := in.Write(header); err != nil {
		d.kill()
		return nil, fmt.Errorf("start a decoder: %w: %s", err, d.said.text())
	}
	return d, nil
}

func (d *process) closeFiles() {
	for _, f := range d.files {
		f.Close()
	}
}

// readTags reads what the filter prints: a line with pts: for each picture.
func (d *process) readTags(r io.Reader) {
	defer close(d.tags)
	for s := bufio.NewScanner(r); s.Scan(); {
		_, rest, ok := strings.Cut(s.Text(), " pts:")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		tag, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return // the pictures cannot be told apart any more
		}
		d.tags <- tag
	}
}

// gone reports whether the process has ended, or nothing can be had of it any more.
func (d *process) gone() bool {
	select {
	case <-d.done:
		return true
	default:
		return d.cmd == nil
	}
}

func (d *process) kill() {
	d.once.Do(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		go func() { // lets the reader of tags end
			for range d.tags {
			}
		}()
		d.closeFiles()
	})
}

// picture makes the picture of one key frame. After an error the process is gone.
func (d *process) picture(ctx context.Context, frame []byte, w, h int, timeout time.Duration) (*image.YCbCr, error) {
	if d.gone() {
		return nil, errWasGone
	}
	d.number++
	d.said.reset()
	tag := tagOf(d.number, w, h)
	hung := time.AfterFunc(timeout, d.kill)
	defer hung.Stop()
	defer context.AfterFunc(ctx, d.kill)()
	head := binary.LittleEndian.AppendUint32(make([]byte, 0, 12), uint32(len(frame)))
	head = binary.LittleEndian.AppendUint64(head, tag)
	if err := d.write(head, frame); err != nil {
		return nil, d.ended(ctx, err, timeout)
	}
	var waited <-chan time.Time
	for {
		select {
		case t, ok := <-d.tags:
			if !ok {
				return nil, d.ended(ctx, errors.New("it ended"), timeout)
			}
			img, err := d.read(t)
			if err != nil {
				return nil, d.ended(ctx, err, timeout)
			}
			if t == tag {
				d.made++
				return img, nil
			}
			// A second picture of a key frame before, or a late one.
		case <-d.said.more:
			if waited == nil {
				waited = time.After(quiet)
			}
		case <-waited:
			// It may still be at work on it, and complain of it under the next one's name.
			d.kill()
			return nil, fmt.Errorf("%w: ffmpeg made no picture: %s", ErrDecoderLost, d.said.text())
		}
	}
}

func (d *process) write(head, frame []byte) error {
	if _, err := d.in.Write(head); err != nil {
		return err
	}
	_, err := d.in.Write(frame)
	return err
}

// read takes the picture of a tag.
func (d *process) read(tag uint64) (*image.YCbCr, error) {
	w, h := tagSize(tag)
	if tag>>(2*sideBits) > d.number || w < 2 || h < 2 || w > maxSide || h > maxSide || w%2+h%2 != 0 {
		return nil, fmt.Errorf("picture with the tag %d, which was not given", tag)
	}
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for _, plane := range [][]byte{img.Y, img.Cb, img.Cr} {
		if _, err := io.ReadFull(d.out, plane); err != nil {
			return nil, fmt.Errorf("picture ends early: %w", err)
		}
	}
	return img, nil
}

// ended puts an end to a process of which no more can be expected, and says why.
func (d *process) ended(ctx context.Context, cause error, timeout time.Duration) error {
	select {
	case <-d.done: // the deadline, or the key frame itself
	case <-time.After(100 * time.Millisecond):
	}
	state := "was killed"
	d.kill()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case d.cmd.ProcessState != nil:
		state = d.cmd.ProcessState.String()
	}
	return fmt.Errorf("%w (%s; it has %v for a key frame): %w: %s", ErrDecoderLost, state, timeout, cause, d.said.text())
}

// errorText keeps the first bytes of what a process complained of since it was reset.
type errorText struct {
	mu   sync.Mutex
	b    []byte
	more chan struct{}
}

const maxErrorText = 512

func newErrorText() *errorText { return &errorText{more: make(chan struct{}, 1)} }

func (e *errorText) Write(p []byte) (int, error) {
	e.mu.Lock()
	e.b = append(e.b, p[:min(len(p), maxErrorText-len(e.b))]...)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (e *errorText) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.b = e.b[:0]
	select {
	case <-e.more:
	default:
	}
}

// text is printable, whatever names a publisher gave things.
func (e *errorText) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(strings.ToValidUTF8(string(e.b), "")))
}
