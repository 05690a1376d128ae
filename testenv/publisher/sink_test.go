package publisher

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// sink is a small RTMP server that keeps what publishers send.
type sink struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []*sinkConn
}

// sinkConn is what one publisher sent.
type sinkConn struct {
	conn         net.Conn
	path, query  string
	sps, pps     []byte
	aac          *mpeg4audio.AudioSpecificConfig
	video, audio []packet
	ended        bool
}

type packet struct {
	at       time.Time
	dts, pts time.Duration
	key      bool
	data     []byte
}

func newSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.conn.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

func (s *sink) url(stream string) string {
	return fmt.Sprintf("rtmp://%s/live/%s", s.listener.Addr(), stream)
}

func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	sc := &gortmplib.ServerConn{RW: conn}
	if sc.Initialize() != nil || sc.AcceptConn() != nil || sc.AcceptAction() != nil {
		return
	}
	c := &sinkConn{conn: conn, path: sc.URL.Path, query: sc.URL.RawQuery}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	for {
		msg, err := sc.Read()
		s.mu.Lock()
		if err != nil {
			c.ended = true
			s.mu.Unlock()
			return
		}
		c.take(msg)
		s.mu.Unlock()
	}
}

func (c *sinkConn) take(msg message.Message) {
	now := time.Now()
	switch m := msg.(type) {
	case *message.Video:
		if m.Type == message.VideoTypeConfig && m.AVCConfig != nil {
			c.sps = m.AVCConfig.SequenceParameterSets[0].NALUnit
			c.pps = m.AVCConfig.PictureParameterSets[0].NALUnit
		}
		if m.Type == message.VideoTypeAU {
			c.video = append(c.video, packet{now, m.DTS, m.DTS + m.PTSDelta, m.IsKeyFrame, m.AU})
		}
	case *message.Audio:
		if m.AACType == message.AudioAACTypeConfig {
			c.aac = m.AACConfig
		} else {
			c.audio = append(c.audio, packet{at: now, dts: m.DTS, pts: m.DTS, data: m.AU})
		}
	}
}

// look calls f with the connections so far, until it says true.
func (s *sink) look(t testing.TB, what string, f func([]*sinkConn) bool) {
	t.Helper()
	await.True(t, what, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return f(s.conns)
	})
}

// first waits for n pictures on the first connection and returns a copy of what it had then.
func (s *sink) first(t testing.TB, n int) sinkConn {
	t.Helper()
	var c sinkConn
	s.look(t, fmt.Sprintf("%d pictures", n), func(conns []*sinkConn) bool {
		if len(conns) == 0 || len(conns[0].video) < n {
			return false
		}
		c = *conns[0]
		return true
	})
	return c
}

// clocks decodes the pictures with ffmpeg and reads the clock in each, in the order they are shown. It
// returns the packets in that order, too.
func (c *sinkConn) clocks(t testing.TB, w, h int) (unixMs []int64, shown []packet) {
	t.Helper()
	var annexB bytes.Buffer
	write := func(nalu []byte) {
		annexB.Write([]byte{0, 0, 0, 1})
		annexB.Write(nalu)
	}
	write(c.sps)
	write(c.pps)
	for _, p := range c.video {
		var au h264.AVCC
		if err := au.Unmarshal(p.data); err != nil {
			t.Fatal(err)
		}
		for _, nalu := range au {
			write(nalu)
		}
	}
	file := filepath.Join(t.TempDir(), "received.h264")
	if err := os.WriteFile(file, annexB.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-i", file, "-vsync", "passthrough",
		"-f", "rawvideo", "-pix_fmt", "gray", "pipe:1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	luma := make([]byte, w*h)
	for {
		if _, err := io.ReadFull(out, luma); err != nil {
			break
		}
		ms, ok := testcard.DecodeLuma(luma, w, h)
		if !ok {
			t.Fatalf("picture %d shows no clock", len(unixMs))
		}
		unixMs = append(unixMs, ms)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	shown = slices.Clone(c.video)
	slices.SortStableFunc(shown, func(a, b packet) int { return int(a.pts - b.pts) })
	if len(unixMs) != len(shown) {
		t.Fatalf("%d pictures decoded of %d received", len(unixMs), len(shown))
	}
	return unixMs, shown
}

func needFFmpeg(t testing.TB) {
	t.Helper()
	need.Program(t, "ffmpeg")
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// start runs f in the background and ends it when the test does, failing the test on an error.
func start(t testing.TB, f func() error, cancel func()) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	wait = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("did not end within 30 s of being told to")
		}
	})
	t.Cleanup(wait)
	return wait
}

func newTextLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
