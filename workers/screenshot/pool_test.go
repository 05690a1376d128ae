package screenshot

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// shot is a key frame of a stream of one grey, which tells whose picture it is.
type shot struct {
	init, fragment []byte
	grey           int // luma of full range
	width, height  int
}

// shots encodes one-colour clips and gives their first fragments.
func shots(t testing.TB, names ...string) map[string]shot {
	t.Helper()
	bin, dir := need.Program(t, "ffmpeg"), t.TempDir()
	kinds := map[string]struct {
		grey int
		size string
		args []string
	}{
		// Three B frames: the decoder is told to hold pictures back.
		"avc":      {40, "640x360", []string{"-c:v", "libx264", "-bf", "3", "-profile:v", "high"}},
		"portrait": {90, "180x320", []string{"-c:v", "libx264", "-bf", "0", "-profile:v", "baseline"}},
		"small":    {140, "160x120", []string{"-c:v", "libx264", "-bf", "2"}},
		"hevc":     {190, "320x180", []string{"-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=none:bframes=3:pools=none"}},
		"av1":      {230, "320x180", []string{"-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"}},
	}
	out := map[string]shot{}
	for _, name := range names {
		k := kinds[name]
		file := filepath.Join(dir, name+".mp4")
		args := append([]string{"-hide_banner", "-loglevel", "error", "-nostdin",
			"-f", "lavfi", "-i", fmt.Sprintf("color=c=0x%02x%02x%02x:size=%s:rate=10:duration=1", k.grey, k.grey, k.grey, k.size), "-pix_fmt", "yuv420p", "-threads", "1"}, k.args...)
		args = append(args, "-movflags", "delay_moov+default_base_moof+frag_every_frame", "-y", file)
		if b, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput(); err != nil {
			need.Missing(t, "ffmpeg cannot encode %s: %v: %s", name, err, b)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cut := strings.Index(string(b), "moof") - 4
		s := shot{init: b[:cut], fragment: b[cut:], grey: k.grey}
		i, err := cmaf.ParseInit(s.init)
		if err != nil {
			t.Fatal(err)
		}
		s.width, s.height = i.Width, i.Height
		out[name] = s
	}
	return out
}

func grey(img *image.YCbCr) int {
	sum := 0
	for _, v := range img.Y {
		sum += int(v)
	}
	return sum / len(img.Y)
}

// decode pictures a key frame and says what is wrong with the picture.
func (s shot) decode(ctx context.Context, p *Pool, width int) error {
	img, err := p.Decode(ctx, s.init, s.fragment, width)
	if err != nil {
		return err
	}
	w := min(width, s.width)
	if got, want := img.Bounds().Size(), image.Pt(w, (w*s.height/s.width+1)&^1); got != want {
		return fmt.Errorf("picture of %v, want %v", got, want)
	}
	if g := grey(img); g < s.grey-4 || g > s.grey+4 {
		return fmt.Errorf("picture of grey %d, want %d: it is another stream's", g, s.grey)
	}
	return nil
}

// Key frames of many streams, of three codecs, of sizes that change from one to
// the next: every picture is that of its key frame, and few processes made them.
func TestPoolGivesEachItsOwnPicture(t *testing.T) {
	t.Parallel()
	all := shots(t, "avc", "portrait", "small", "hevc", "av1")
	p := &Pool{Processes: 2, Timeout: time.Minute}
	t.Cleanup(p.Close)
	var list []shot
	for _, s := range all {
		list = append(list, s)
	}
	errs := make(chan error)
	const workers, each = 4, 20
	for w := range workers {
		go func() {
			var failed error
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range each {
				failed = errors.Join(failed, list[r.IntN(len(list))].decode(t.Context(), p, 64+32*r.IntN(3)))
			}
			errs <- failed
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if p.started > 2*int(codecs) || p.lost != 0 {
		t.Errorf("%d processes for %d pictures, %d lost", p.started, workers*each, p.lost)
	}
}

// What no picture can be made of is told with the reason; the pool goes on.
func TestPoolSurvivesHostileKeyFrames(t *testing.T) {
	t.Parallel()
	good := shots(t, "avc")["avc"]
	p := &Pool{Processes: 1, Timeout: time.Minute}
	t.Cleanup(p.Close)
	at := strings.Index(string(good.fragment), "mdat") + 4
	hostile := map[string][]byte{"noise": append([]byte(nil), good.fragment...), "nothing": good.fragment[:at]}
	for i := at + 5; i < len(hostile["noise"]); i++ {
		hostile["noise"][i] = byte(i * 7)
	}
	for name, b := range hostile {
		if err := good.decode(t.Context(), p, 320); err != nil {
			t.Error(err)
		}
		img, err := p.Decode(t.Context(), good.init, b, 320)
		if err == nil || img != nil || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.decode(t.Context(), p, 320); err != nil {
		t.Error(err)
	}
	if p.started != 1 || p.lost != 0 {
		t.Errorf("%d processes, %d lost", p.started, p.lost)
	}
	small := &Pool{MaxPixels: 320 * 180, Timeout: time.Minute}
	t.Cleanup(small.Close)
	if err := good.decode(t.Context(), small, 320); err == nil {
		t.Error("a picture larger than the limit was decoded")
	}
}

// A key frame that ends its decoder, or hangs it, is lost; the one after is not.
func TestPoolReplacesDecoders(t *testing.T) {
	t.Parallel()
	good := shots(t, "portrait")["portrait"]
	dir := t.TempDir()
	script := filepath.Join(dir, "decoder")
	// What the file "next" says happens once a key frame is there.
	if err := os.WriteFile(script, []byte(`#!/bin/sh
case "$(cat '`+dir+`/next')" in
crash) head -c 64 >/dev/null; kill -SEGV $$;;
hang) exec sleep 600;;
*) exec '`+need.Program(t, "ffmpeg")+`' "$@";;
esac
`), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &Pool{Path: script, Processes: 1}
	next := func(what string) {
		if err := os.WriteFile(filepath.Join(dir, "next"), []byte(what), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	next("crash")
	p.Timeout = time.Minute
	if err := good.decode(t.Context(), p, 320); err == nil || !strings.Contains(err.Error(), "segmentation fault") {
		t.Errorf("crash: %v", err)
	}
	next("work")
	if err := good.decode(t.Context(), p, 320); err != nil {
		t.Error(err)
	}
	// Ended by somebody else between two key frames: nothing is lost.
	d := p.idle[avc][0]
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
	if err := good.decode(t.Context(), p, 320); err != nil {
		t.Error(err)
	}
	p.Close()
	next("hang")
	h := &Pool{Path: script, Timeout: 50 * time.Millisecond}
	t.Cleanup(h.Close)
	if err := good.decode(t.Context(), h, 320); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("hang: %v", err)
	}
	next("work")
	h.Timeout = time.Minute
	if err := good.decode(t.Context(), h, 320); err != nil {
		t.Error(err)
	}
}

func FuzzReadKeyFrame(f *testing.F) {
	clip := media.Load(f)
	p := &media.Publisher{Clip: clip, Key: key}
	c, payload := p.Chunk()
	f.Add(clip.Init(schemas.Video), payload[c.Fragments[0].Offset:c.Fragments[0].Offset+c.Fragments[0].Size])
	f.Fuzz(func(t *testing.T, init, fragment []byte) {
		k, err := readKeyFrame(init, fragment)
		if err != nil {
			return
		}
		if w, h := k.size(320); w < 2 || h < 2 || w > maxSide || h > maxSide || w%2+h%2 != 0 {
			t.Errorf("picture of %d x %d", w, h)
		}
	})
}
