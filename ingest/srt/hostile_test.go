package srt_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/ingest/srt"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// lossy forwards datagrams between one caller and the server, and loses some of the caller's.
type lossy struct {
	in, out *net.UDPConn
	mu      sync.Mutex
	caller  *net.UDPAddr
	n       int
	every   int // loses one in so many
	// spoil gives datagrams to send beside one of the caller's, once it is connected.
	spoil func([]byte) [][]byte
}

func (l *lossy) set(spoil func([]byte) [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoil = spoil
}

func relay(t *testing.T, to net.Addr, every int) *lossy {
	t.Helper()
	in, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{in: in, out: out, every: every}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := in.ReadFromUDP(b)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.caller = from
			l.n++
			lose := l.n > 40 && l.n%l.every == 0
			if l.n > 40 && l.spoil != nil && n >= 16 {
				for _, more := range l.spoil(b[:n]) {
					_, _ = out.Write(more)
				}
			}
			l.mu.Unlock()
			if !lose {
				_, _ = out.Write(b[:n])
			}
		}
	})
	wg.Go(func() {
		b := make([]byte, 2048)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			l.mu.Lock()
			to := l.caller
			l.mu.Unlock()
			_, _ = in.WriteToUDP(b[:n], to)
		}
	})
	t.Cleanup(func() { in.Close(); out.Close(); wg.Wait() })
	return l
}

// TestLossIsRepaired: packets that are lost on the way come again, and nobody sees it.
func TestLossIsRepaired(t *testing.T) {
	t.Parallel()
	e := start(t, func(s *srt.Settings, _ *publish.Settings) { s.Latency = 500 * time.Millisecond })
	l := relay(t, e.srv.Addr(), 20)
	s := source{video: x264, audio: aac, seconds: 5}
	u := strings.Replace(e.url("live/demo"), e.srv.Addr().String(), l.in.LocalAddr().String(), 1)
	if out, err := s.publish(t.Context(), u); err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, out)
	}
	st := publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	if len(r.Opens) != 1 {
		t.Errorf("%d epochs", len(r.Opens))
	}
	r.Decode(t, r.Opens[0])
	if st.Stats.PacketsLost == 0 || st.Stats.PacketsRetransmitted == 0 || st.Stats.RTTMs <= 0 {
		t.Errorf("statistics %+v", st.Stats)
	}
	if e.counter("spillway_srt_packets_retransmitted_total") == 0 {
		t.Error("packets sent again are not counted")
	}
}

// dial calls with the library's own client, which asks once: where that packet was lost, it calls again.
func (e *env) dial(streamID string) (gosrt.Conn, error) {
	c := gosrt.DefaultConfig()
	c.StreamId, c.ConnectionTimeout = streamID, await.Limit/12
	for begun := time.Now(); ; {
		conn, err := gosrt.Dial("srt", e.srv.Addr().String(), c)
		if err == nil || !strings.Contains(err.Error(), "server didn't respond") || time.Since(begun) > await.Limit {
			return conn, err
		}
	}
}

func transportStream(t *testing.T, seconds string) []byte {
	t.Helper()
	b, err := exec.Command("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", seconds,
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac", "-f", "mpegts", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send writes in messages of seven packets, spread over d.
func send(ctx context.Context, c gosrt.Conn, b []byte, d time.Duration) error {
	n := (len(b) + 1315) / 1316
	tick := time.NewTicker(max(time.Microsecond, d/time.Duration(n)))
	defer tick.Stop()
	for len(b) > 0 {
		k := min(1316, len(b))
		if _, err := c.Write(b[:k]); err != nil {
			return err
		}
		b = b[k:]
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// TestHolesAreBridged: what the network lost for good leaves whole pictures, from the next key frame on.
func TestHolesAreBridged(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	c, err := e.dial("live/demo")
	if err != nil {
		t.Fatal(err)
	}
	var holes []byte
	for i, b := 0, transportStream(t, "8"); len(b) >= 188; i, b = i+1, b[188:] {
		if i < 50 || i%97 != 0 { // some packets are missing, and between some is dirt
			holes = append(holes, b[:188]...)
		}
		if i%301 == 300 {
			holes = append(holes, 0x47, 1, 2, 3)
		}
	}
	if err := send(t.Context(), c, holes, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	await.True(t, "something is published", func() bool {
		st, ok := publishtest.State(t, e.bus.JS, demo)
		return ok && st.Stats.Chunks > 5
	})
	c.Close()
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	for _, o := range r.Opens {
		r.Decode(t, o) // ffmpeg says if a picture refers to one that is not there
	}
	if e.counter("spillway_srt_ts_gaps_total") == 0 || e.counter("spillway_srt_frames_skipped_total") == 0 {
		t.Error("gaps are not counted")
	}
}

// TestHostile: datagrams of rubbish, broken handshakes and a publisher of noise harm nobody else.
func TestHostile(t *testing.T) {
	t.Parallel()
	e := start(t, func(s *srt.Settings, _ *publish.Settings) { s.MaxConnsPerPeer, s.ReadTimeout = 2, 5*time.Second })
	good := make(chan error, 1)
	go func() {
		s := source{video: x264, audio: aac, seconds: 6}
		_, err := s.publish(t.Context(), e.url("live/demo"))
		good <- err
	}()
	await.True(t, "the good one is live", func() bool { st, ok := publishtest.State(t, e.bus.JS, demo); return ok && st.Live })
	raw, err := net.Dial("udp", e.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for i := range 2000 {
		b := make([]byte, i%200)
		_, _ = rand.Read(b)
		if len(b) > 20 && i%2 == 0 { // a control packet for nobody: a handshake
			copy(b, []byte{0x80, byte(i / 2 % 9)})
			copy(b[12:16], []byte{0, 0, 0, 0})
		}
		_, _ = raw.Write(b)
	}
	noise, err := e.dial("live/noise")
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	if c, err := e.dial("live/third"); err == nil {
		c.Close()
		t.Error("more connections of one address than are allowed")
	}
	rubbish := make([]byte, 1<<20)
	_, _ = rand.Read(rubbish)
	_ = send(t.Context(), noise, rubbish, 3*time.Second)
	await.True(t, "the noisy one is cut off", func() bool {
		for _, ev := range publishtest.Events(t, e.bus.JS, schemas.EventPublishRefused) {
			if ev.Stream == "noise" && strings.Contains(ev.Reason, "no MPEG transport stream") {
				return true
			}
		}
		return false
	})
	if err := <-good; err != nil {
		t.Errorf("the good one: %v", err)
	}
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	if len(r.Opens) != 1 || r.Ends != 1 {
		t.Errorf("%d epochs, %d ends", len(r.Opens), r.Ends)
	}
	if frames := r.Decode(t, r.Opens[0]); frames[schemas.Video] < e.least(150) {
		t.Errorf("%v frames of the good one", frames)
	}
	if bytes.Contains([]byte(e.log.String()), []byte("panicked")) {
		t.Error("something panicked")
	}
}
