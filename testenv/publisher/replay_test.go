package publisher

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib/pkg/bytecounter"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"
)

// makeClip makes a clip of 320x180, so that its two rounds of 2 s fit a test.
func makeClip(t testing.TB, c Clip) string {
	t.Helper()
	needFFmpeg(t)
	c.Path = filepath.Join(t.TempDir(), "clip.flv")
	c.Width, c.Height = 320, 180
	if err := c.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.Path
}

func TestReplayOverManyConnections(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		clip Clip
		mp4  bool
	}{
		{"FLV", Clip{Seconds: 2, BitrateKbps: 500}, false},
		{"MP4 with B-frames", Clip{Seconds: 2, BitrateKbps: 500, BFrames: 2}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := makeClip(t, tc.clip)
			if tc.mp4 {
				mp4 := file + ".mp4"
				if out, err := exec.Command("ffmpeg", "-v", "error", "-i", file, "-c", "copy", mp4).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				file = mp4
			}
			s := newSink(t)
			r := &Replay{File: file, URLs: []string{s.url("a?key=1"), s.url("b"), s.url("c")},
				Spread: 300 * time.Millisecond, Logger: testLogger(t)}
			ctx, cancel := context.WithCancel(t.Context())
			stop := start(t, func() error { return r.Run(ctx) }, cancel)
			const pictures = 150 // 60 a round
			s.look(t, "150 pictures on 3 connections", func(conns []*sinkConn) bool {
				return len(conns) == 3 && len(conns[0].video) > pictures && len(conns[1].video) > pictures && len(conns[2].video) > pictures
			})
			if st := r.Stats(); st.Connected != 3 || st.Interruptions != 0 || st.Messages < 3*pictures {
				t.Errorf("%+v", st)
			}
			stop()
			if st := r.Stats(); st.Connected != 0 {
				t.Errorf("after the end: %+v", st)
			}
			s.look(t, "the end of all connections", func(conns []*sinkConn) bool {
				return conns[0].ended && conns[1].ended && conns[2].ended
			})
			paths := map[string]bool{}
			for _, c := range s.conns {
				paths[c.path+"?"+c.query] = true
				checkMonotonic(t, "video", c.video)
				checkMonotonic(t, "audio", c.audio)
				checkRate(t, "pictures", c.video, 30)
				checkRate(t, "sound packets", c.audio, 48000.0/1024)
				checkKeyFrames(t, c.video, 2)
				for i := 1; i < len(c.video); i++ { // also where a round begins
					if d := c.video[i].dts - c.video[i-1].dts; d < 33*time.Millisecond || d > 34*time.Millisecond {
						t.Errorf("picture %d comes %v after the one before", i, d)
					}
				}
				// In real time: neither all at once nor behind by more than a busy machine explains.
				sent, stamped := c.video[pictures-1].at.Sub(c.video[0].at), c.video[pictures-1].dts-c.video[0].dts
				if sent < stamped-time.Second || sent > stamped+10*time.Second {
					t.Errorf("%v of video took %v", stamped, sent)
				}
			}
			if !paths["/live/a?key=1"] || !paths["/live/b?"] || !paths["/live/c?"] {
				t.Errorf("published to %v", paths)
			}
			clocks, shown := s.conns[0].clocks(t, 320, 180)
			for i := range clocks {
				round, want := int64(i/60), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
				want += (shown[i].pts - shown[0].pts).Milliseconds() - round*2000
				if math.Abs(float64(clocks[i]-want)) > 2 {
					t.Fatalf("picture %d shows %d, expected %d", i, clocks[i], want)
				}
			}
		})
	}
}

func TestClipHasItsBitrate(t *testing.T) {
	const kbps, seconds = 800, 4
	info, err := os.Stat(makeClip(t, Clip{Seconds: seconds, BitrateKbps: kbps}))
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(info.Size()) * 8 / seconds / 1000; got < kbps*0.9 || got > kbps*1.1 {
		t.Errorf("%.0f kbit/s, expected %d", got, kbps)
	}
}

// TestDefaultClipLoopsWithoutSeam holds 8 s to its promise of whole sound packets.
func TestDefaultClipLoopsWithoutSeam(t *testing.T) {
	data, err := os.ReadFile(makeClip(t, Clip{BitrateKbps: 300}))
	if err != nil {
		t.Fatal(err)
	}
	tags, err := parseFLV(data)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := newWirePlan(tags)
	if err != nil {
		t.Fatal(err)
	}
	var sound []time.Duration
	for _, m := range plan.next {
		if m.wire[0]&0x3F == audioChunkStream {
			sound = append(sound, m.at)
		}
	}
	if plan.length != 8*time.Second || len(sound) != 375 || len(plan.next) != 375+240 {
		t.Errorf("a round of %v has %d sound packets of %d messages", plan.length, len(sound), len(plan.next))
	}
	if gap := plan.length - sound[len(sound)-1] + sound[0]; gap < 21*time.Millisecond || gap > 22*time.Millisecond {
		t.Errorf("sound packets are %v apart where rounds meet", gap)
	}
	if sound[0] > 0 {
		t.Errorf("the first sound comes at %v", sound[0])
	}
}

// TestEveryLaterRoundIsTheSameBytes compares the shared bytes with what a writer that never stops would send.
func TestEveryLaterRoundIsTheSameBytes(t *testing.T) {
	var tags []flvTag
	for i := range 20 {
		at := time.Duration(i) * 33 * time.Millisecond
		tags = append(tags, flvTag{tagVideo, at, bytes.Repeat([]byte{0x27, 1, byte(i)}, 10+i%3)},
			flvTag{tagAudio, at + 5*time.Millisecond, []byte{0xAF, 1, byte(i)}})
	}
	plan, err := newWirePlan(tags)
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	for _, m := range plan.first {
		stream.Write(m.wire)
	}
	for range 4 {
		for _, m := range plan.next {
			stream.Write(m.wire)
		}
	}
	reader := bytecounter.NewReader(&stream)
	in := rawmessage.NewReader(reader, reader, func(uint32) error { return nil })
	for i := range 5 * len(tags) {
		msg, err := in.Read()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		want := tags[i%len(tags)]
		at := want.at + time.Duration(i/len(tags))*plan.length
		if msg.Timestamp != at || msg.Type != want.kind || !bytes.Equal(msg.Body, want.body) {
			t.Fatalf("message %d: type %d at %v, expected %d at %v", i, msg.Type, msg.Timestamp, want.kind, at)
		}
	}
	if _, err := in.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last message: %v", err)
	}
}

func TestReplayTriesAgain(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	r := &Replay{File: makeClip(t, Clip{Seconds: 1, BitrateKbps: 300}), URLs: []string{s.url("a")}, Logger: testLogger(t)}
	ctx, cancel := context.WithCancel(t.Context())
	start(t, func() error { return r.Run(ctx) }, cancel)
	s.first(t, 5)
	s.mu.Lock()
	s.conns[0].conn.Close()
	s.mu.Unlock()
	s.look(t, "the second connection", func(c []*sinkConn) bool { return len(c) > 1 && len(c[1].video) > 5 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := s.conns[1]; !second.video[0].key || second.video[0].dts > time.Second {
		t.Errorf("the second connection starts at %v, key frame: %v", second.video[0].dts, second.video[0].key)
	}
	if r.Stats().Interruptions != 1 {
		t.Errorf("%+v", r.Stats())
	}
}

// TestReplayNobodyTakes ends with the reason when a server never accepted the stream.
func TestReplayNobodyTakes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r := &Replay{File: makeClip(t, Clip{Seconds: 1, BitrateKbps: 300}), URLs: []string{"rtmp://" + address + "/live/a?key=secret"},
		Logger: testLogger(t)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for r.Stats().Interruptions < 2 && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if err := r.Run(ctx); err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestBadClipsAreRefused(t *testing.T) {
	needFFmpeg(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	header := []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
	tag := func(kind byte, ms byte, body ...byte) []byte {
		head := []byte{kind, 0, 0, byte(len(body)), 0, 0, ms, 0, 0, 0, 0}
		return append(append(head, body...), 0, 0, 0, byte(len(head)+len(body)))
	}
	for _, tc := range []struct{ want, file string }{
		{"no such file", filepath.Join(dir, "missing")},
		{"repack", write("junk", []byte("no media"))},
		{"does not fit", write("header", []byte("FLV\x01\x05\xff\xff\xff\xff\x00\x00\x00\x00"))},
		{"tag type 7", write("type", append(header[:13:13], tag(7, 0, 1)...))},
		{"H.264 and AAC", write("codec", append(header[:13:13], tag(tagVideo, 0, 0x12, 1)...))},
		{"less than two frames", write("empty", header)},
		{"backwards", write("back", append(append(header[:13:13], tag(tagVideo, 9, 0x27, 1)...), tag(tagVideo, 3, 0x27, 1)...))},
		{"same time", write("same", append(append(header[:13:13], tag(tagVideo, 3, 0x27, 1)...), tag(tagVideo, 3, 0x27, 1)...))},
	} {
		r := &Replay{File: tc.file, URLs: []string{"rtmp://127.0.0.1:1/live/a"}}
		if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v does not say %q", err, tc.want)
		}
	}
	if err := (&Replay{File: "x", URLs: []string{"http://a/b"}}).Run(t.Context()); err == nil {
		t.Error("an http URL was taken")
	}
	for _, c := range []Clip{{BitrateKbps: 50}, {Seconds: -1}, {FPS: -1}, {Width: 3}, {BFrames: 99}, {FFmpeg: "no-such-ffmpeg"}} {
		c.Path = filepath.Join(dir, "bad.flv")
		if err := c.Make(t.Context()); err == nil {
			t.Errorf("%+v was made", c)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.flv")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzParseFLV(f *testing.F) {
	f.Add([]byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x09\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x27\x01\x00\x00\x00\x0d"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tags, err := parseFLV(data)
		if err != nil {
			return
		}
		if plan, err := newWirePlan(tags); err == nil && (plan.length <= 0 || len(plan.first) != len(plan.next)) {
			t.Fatalf("a plan of %v with %d and %d messages", plan.length, len(plan.first), len(plan.next))
		}
	})
}
