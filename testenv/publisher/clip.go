package publisher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// DefaultClipSeconds is a length that loops without a seam: 8 s are exactly 375 AAC packets at 48 kHz (any
// multiple of 64/3 ms is whole in packets) and a whole number of frames at the usual rates.
const DefaultClipSeconds = 8

// Clip makes a file for load tests: the test card under fine noise, so that the encoder really needs the bit
// rate, with a tone, H.264 main profile and AAC in FLV. The clock in its picture starts at the year 2000, so
// that nobody takes it for the time. Its fields must not change while Make runs.
type Clip struct {
	// FFmpeg is the program's name or path; "ffmpeg" when empty.
	FFmpeg string
	// Path of the file to write; replaced when it exists.
	Path string
	// Seconds is the length; 8 when 0.
	Seconds int
	// BitrateKbps is the total of picture and sound; 2600 when 0.
	BitrateKbps int
	// Width and Height are in pixels; 1280x720 when 0.
	Width, Height int
	// FPS is in frames per second; 30 when 0.
	FPS float64
	// KeyframeSeconds is the time between key frames; 2 when 0. The length should be a multiple.
	KeyframeSeconds float64
	// BFrames is the number of B-frames between reference frames.
	BFrames int
}

const (
	audioKbps       = 96
	defaultClipKbps = 2600
)

// Make encodes the file, faster than real time, and puts it in place whole.
func (c Clip) Make(ctx context.Context) error {
	ffmpeg, err := findProgram(orDefault(c.FFmpeg, "ffmpeg"))
	if err != nil {
		return err
	}
	kbps, seconds := orDefault(c.BitrateKbps, defaultClipKbps), orDefault(c.Seconds, DefaultClipSeconds)
	if kbps <= audioKbps || seconds < 1 || seconds > 600 {
		return fmt.Errorf("clip of %d s at %d kbit/s: choose 1 to 600 s and more than %d kbit/s", seconds, kbps, audioKbps)
	}
	fps := orDefault(c.FPS, DefaultFPS)
	if !(fps > 0 && fps <= maxFPS) || c.BFrames < 0 || c.BFrames > maxBFrames || c.KeyframeSeconds < 0 {
		return fmt.Errorf("clip at %v frames per second, %d B-frames, key frames every %v s: out of range",
			c.FPS, c.BFrames, c.KeyframeSeconds)
	}
	card, err := testcard.New(orDefault(c.Width, 1280), orDefault(c.Height, 720), "replay")
	if err != nil {
		return err
	}
	partial, err := os.CreateTemp(filepath.Dir(c.Path), ".clip-*.flv")
	if err != nil {
		return fmt.Errorf("create clip: %w", err)
	}
	partial.Close()
	defer os.Remove(partial.Name())

	args := append([]string{"-y"}, pipeInput...)
	args = append(args, "-vf", "noise=alls=14:allf=t")
	args = append(args, encodeArgs(kbps-audioKbps, c.BFrames, fps, orDefault(c.KeyframeSeconds, DefaultKeyframeSeconds))...)
	args = append(args, audioArgs...)
	args = append(args, "-flvflags", "no_duration_filesize", "-f", "flv", partial.Name())
	if err := c.encode(ctx, ffmpeg, args, card, fps, time.Duration(seconds)*time.Second); err != nil {
		return fmt.Errorf("encode clip %s: %w", c.Path, err)
	}
	if err := os.Rename(partial.Name(), c.Path); err != nil {
		return fmt.Errorf("put clip in place: %w", err)
	}
	return nil
}

func (c Clip) encode(ctx context.Context, ffmpeg string, args []string, card *testcard.Card, fps float64, length time.Duration) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	var said child.Tail
	cmd := exec.Command(ffmpeg, args...)
	cmd.Stdin, cmd.Stderr = r, &said
	proc, err := child.Start(cmd)
	r.Close()
	if err != nil {
		return startError(err)
	}
	defer proc.Stop(stopGrace)
	defer context.AfterFunc(ctx, func() { w.Close() })()
	drawErr := draw(w, card, fps, length)
	w.Close()
	select {
	case <-proc.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := proc.Err(); err != nil {
		return errors.Join(fmt.Errorf("ffmpeg: %w: %s", err, said.LastLine()), drawErr)
	}
	return drawErr
}

// draw writes a card of the given length at once, with sound a little longer, for the encoder's delay.
func draw(w *os.File, card *testcard.Card, fps float64, length time.Duration) error {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	var unused atomic.Int64
	cam := camera{card: card, fps: fps, frames: &unused, dropped: &unused}
	mkv, err := newMKV(w, card.Width(), card.Height(), cam.at(1), sampleRate)
	if err != nil {
		return err
	}
	sound := newTone(start)
	var picture []byte
	for slot := int64(0); cam.at(slot) < length; slot++ {
		at := cam.at(slot)
		picture = card.Render(picture, start.Add(at))
		audioAt, samples := sound.until(at + audioLead)
		if err := mkv.write(at, picture, audioAt, samples); err != nil {
			return err
		}
	}
	return nil
}
