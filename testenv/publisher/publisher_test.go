package publisher

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
)

func publish(t testing.TB, p *Publisher) (stop func()) {
	t.Helper()
	needFFmpeg(t)
	p.Logger = testLogger(t)
	ctx, cancel := context.WithCancel(t.Context())
	return start(t, func() error { return p.Run(ctx) }, cancel)
}

func TestCardArrives(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		p    *Publisher
		w, h int
		fps  float64
	}{
		{"defaults", &Publisher{}, 640, 360, 30},
		{"B-frames at 25 fps", &Publisher{Width: 320, Height: 180, FPS: 25, BFrames: 2, BitrateKbps: 300, KeyframeSeconds: 1}, 320, 180, 25},
		{"29.97 fps", &Publisher{Width: 320, Height: 180, FPS: 30000.0 / 1001}, 320, 180, 30000.0 / 1001},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			tc.p.URL = s.url("one") + "?key=secret"
			stop := publish(t, tc.p)
			c := s.first(t, int(tc.fps*5))
			stop()
			if c.path != "/live/one" || c.query != "key=secret" {
				t.Errorf("published to %q with %q", c.path, c.query)
			}
			checkMonotonic(t, "video", c.video)
			checkMonotonic(t, "audio", c.audio)
			// A machine that is too busy to encode in time drops pictures, and its rates are lower.
			if tc.p.Stats().Dropped == 0 {
				checkRate(t, "pictures", c.video, tc.fps)
				checkRate(t, "sound packets", c.audio, 48000.0/1024)
				checkKeyFrames(t, c.video, orDefault(tc.p.KeyframeSeconds, DefaultKeyframeSeconds))
				// Sound and picture carry the same time line: both have come equally far.
				if skew := c.audio[len(c.audio)-1].pts - c.video[len(c.video)-1].pts; skew.Abs() > 300*time.Millisecond {
					t.Errorf("sound is %v ahead of the picture", skew)
				}
			}
			if c.aac == nil || c.aac.SampleRate != 48000 {
				t.Errorf("sound configuration %+v", c.aac)
			}
			reordered := slices.ContainsFunc(c.video, func(p packet) bool { return p.pts-p.dts > 50*time.Millisecond })
			if reordered != (tc.p.BFrames > 0) {
				t.Errorf("pictures reordered: %v", reordered)
			}

			// The clock in the picture moves as the timestamps do: a difference is a frame drawn late, and
			// most are drawn within a few milliseconds even on a busy machine.
			clocks, shown := c.clocks(t, tc.w, tc.h)
			var off []time.Duration
			for i := range clocks {
				off = append(off, time.Duration(clocks[i]-clocks[0])*time.Millisecond-(shown[i].pts-shown[0].pts))
				if i > 0 && clocks[i] <= clocks[i-1] {
					t.Errorf("picture %d shows %d after %d", i, clocks[i], clocks[i-1])
				}
			}
			slices.Sort(off)
			if spread := off[len(off)*9/10] - off[len(off)/10]; spread > time.Duration(1.5*float64(time.Second)/tc.fps) {
				t.Errorf("clock and timestamps differ by %v to %v", off[0], off[len(off)-1])
			}
			t.Logf("%+v; capture to arrival of the packet: %s", tc.p.Stats(), latencies(clocks, shown))
		})
	}
}

func TestWithoutAudio(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	stop := publish(t, &Publisher{URL: s.url("mute"), NoAudio: true, Width: 320, Height: 180})
	c := s.first(t, 60)
	stop()
	if len(c.audio) != 0 || c.aac != nil {
		t.Error("sound arrived")
	}
	checkMonotonic(t, "video", c.video)
}

func TestFileIsCopiedOrReencoded(t *testing.T) {
	t.Parallel()
	needFFmpeg(t)
	dir := t.TempDir()
	for _, tc := range []struct {
		name, file string
		args       []string
		width      int
		sound      bool
	}{
		{"copied", "a.mp4", []string{"-c:v", "libx264", "-bf", "2", "-g", "25", "-c:a", "aac"}, 256, true},
		{"re-encoded", "b.webm", []string{"-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"}, 256, true},
		{"without sound", "c.mp4", []string{"-c:v", "mpeg4", "-an"}, 256, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(dir, tc.file)
			args := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=s=256x144:r=25:d=2", "-f", "lavfi",
				"-i", "sine=r=48000:d=2", "-pix_fmt", "yuv420p"}, append(tc.args, file)...)
			if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s := newSink(t)
			stop := publish(t, &Publisher{URL: s.url("file"), Input: file})
			c := s.first(t, 120) // the file has 50, so it is in its third round
			stop()
			checkMonotonic(t, "video", c.video)
			if tc.sound != (c.aac != nil) {
				t.Errorf("sound: %v", c.aac)
			}
			// Where a copied file starts over, ffmpeg may give two sound packets the same time: its sound is not
			// exactly as long as its picture.
			for i := 1; i < len(c.audio); i++ {
				if c.audio[i].dts < c.audio[i-1].dts {
					t.Errorf("sound goes back from %v to %v", c.audio[i-1].dts, c.audio[i].dts)
				}
			}
		})
	}
}

func TestServerThatGoesAwayIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := &Publisher{URL: s.url("again"), Width: 320, Height: 180}
	publish(t, p)
	s.first(t, 10)
	s.mu.Lock()
	s.conns[0].conn.Close()
	s.mu.Unlock()
	s.look(t, "the second connection", func(c []*sinkConn) bool { return len(c) > 1 && len(c[1].video) > 10 })
	if p.Stats().Restarts < 1 {
		t.Errorf("%+v", p.Stats())
	}
}

// TestSlowEncoderMakesFramesDrop halts ffmpeg and expects frames to be dropped, not piled up: the picture is up
// to date as soon as ffmpeg goes on, and the timestamps show the gap.
func TestSlowEncoderMakesFramesDrop(t *testing.T) {
	s := newSink(t)
	p := &Publisher{URL: s.url("slow"), Width: 640, Height: 360}
	stop := publish(t, p)
	s.first(t, 10)
	pid := childPID(t, s.url("slow"))
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the length of the halt, not a wait for something
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	resumed := time.Now()
	s.look(t, "dropped frames, and pictures drawn after the halt", func(c []*sinkConn) bool {
		v := c[0].video
		return v[len(v)-1].at.After(resumed.Add(time.Second)) && p.Stats().Dropped >= 10
	})
	c := s.first(t, 10)
	stop()
	checkMonotonic(t, "video", c.video)
	checkMonotonic(t, "audio", c.audio)
	clocks, shown := c.clocks(t, 640, 360)
	last := len(clocks) - 1
	if drawn := time.UnixMilli(clocks[last]); drawn.Before(resumed) {
		t.Errorf("the last picture was drawn %v before ffmpeg went on", resumed.Sub(drawn))
	}
	passed, stamped := clocks[last]-clocks[0], (shown[last].pts - shown[0].pts).Milliseconds()
	if d := passed - stamped; d < -150 || d > 150 {
		t.Errorf("%d ms passed, the timestamps say %d", passed, stamped)
	}
	if p.Stats().Restarts != 0 {
		t.Errorf("%+v", p.Stats())
	}
}

// childPID finds the ffmpeg that pushes to a URL.
func childPID(t *testing.T, url string) int {
	t.Helper()
	found, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(found) == 0 {
		t.Skip("this system does not list child processes")
	}
	for _, file := range found {
		list, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(list)) {
			if line, _ := os.ReadFile("/proc/" + field + "/cmdline"); bytes.Contains(line, []byte(url)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no ffmpeg is running")
	return 0
}

func TestBadSettingsAreRefused(t *testing.T) {
	needFFmpeg(t)
	junk := filepath.Join(t.TempDir(), "junk.mp4")
	if err := os.WriteFile(junk, []byte("no media at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok := "rtmp://127.0.0.1:1/live/a"
	for _, tc := range []struct {
		want string
		p    *Publisher
	}{
		{"apt-get install ffmpeg", &Publisher{URL: ok, FFmpeg: "no-such-ffmpeg"}},
		{"not of the form", &Publisher{URL: ""}},
		{"not of the form", &Publisher{URL: "http://127.0.0.1/live/a"}},
		{"not of the form", &Publisher{URL: "rtmp://127.0.0.1/"}},
		{"not a URL", &Publisher{URL: "rtmp://[::1/secret"}},
		{"no such file", &Publisher{URL: ok, Input: "/no/such/file"}},
		{"junk.mp4", &Publisher{URL: ok, Input: junk}},
		{"even", &Publisher{URL: ok, Width: 641, Height: 360}},
		{"B-frames", &Publisher{URL: ok, BFrames: -1}},
		{"frame rate", &Publisher{URL: ok, FPS: math.NaN()}},
		{"frame rate", &Publisher{URL: ok, FPS: -5}},
		{"key frame", &Publisher{URL: ok, KeyframeSeconds: -1}},
		{"bit rate", &Publisher{URL: ok, BitrateKbps: -1}},
	} {
		err := tc.p.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v does not say %q", err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the URL's secrets", err)
		}
	}
}

func TestErrorsDoNotTellTheKey(t *testing.T) {
	needFFmpeg(t)
	var log bytes.Buffer
	p := &Publisher{URL: "rtmp://127.0.0.1:1/live/a?key=secret", Width: 320, Height: 180, Logger: newTextLogger(&log)}
	ctx, cancel := context.WithCancel(t.Context())
	wait := start(t, func() error { return p.Run(ctx) }, cancel)
	await.True(t, "it has tried again", func() bool { return p.Stats().Restarts >= 2 })
	wait()
	if text := log.String(); !strings.Contains(text, "127.0.0.1:1/live/a") || strings.Contains(text, "secret") {
		t.Errorf("log: %s", text)
	}
}

func checkMonotonic(t *testing.T, what string, packets []packet) {
	t.Helper()
	for i := 1; i < len(packets); i++ {
		if packets[i].dts <= packets[i-1].dts {
			t.Errorf("%s: decode time %v follows %v", what, packets[i].dts, packets[i-1].dts)
		}
	}
}

// checkRate compares the rate by timestamps with what is expected: it must hold whatever the machine's load,
// save for frames that were dropped.
func checkRate(t *testing.T, what string, packets []packet, want float64) {
	t.Helper()
	if len(packets) < 2 {
		t.Fatalf("%d %s", len(packets), what)
	}
	span := packets[len(packets)-1].dts - packets[0].dts
	if got := float64(len(packets)-1) / span.Seconds(); got > want*1.01 || got < want*0.8 {
		t.Errorf("%.2f %s a second, expected %.2f", got, what, want)
	}
}

func checkKeyFrames(t *testing.T, video []packet, seconds float64) {
	t.Helper()
	if !video[0].key {
		t.Error("the stream does not start with a key frame")
	}
	var keys []time.Duration
	for _, p := range video {
		if p.key {
			keys = append(keys, p.pts)
		}
	}
	for i := 1; i < len(keys); i++ {
		if d := (keys[i] - keys[i-1]).Seconds(); math.Abs(d-seconds) > 0.1 {
			t.Errorf("key frames %.3f s apart, expected %v", d, seconds)
		}
	}
	if len(keys) < 2 {
		t.Error("only one key frame")
	}
}

// latencies sums up the time from drawing a picture to its packet's arrival at the server.
func latencies(clocks []int64, shown []packet) string {
	var ms []int64
	for i := range clocks {
		ms = append(ms, shown[i].at.UnixMilli()-clocks[i])
	}
	ms = ms[len(ms)/3:] // without the start of ffmpeg
	slices.Sort(ms)
	return fmt.Sprintf("p50 %d ms, p95 %d ms, max %d ms", ms[len(ms)/2], ms[len(ms)*95/100], ms[len(ms)-1])
}
