package srt_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/ingest/srt"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

// env is a server on a real bus.
type env struct {
	t    *testing.T
	bus  *bustest.Bus
	srv  *srt.Server
	keys *token.Signer
	reg  *prometheus.Registry
	log  *running.Log
}

func start(t *testing.T, change func(*srt.Settings, *publish.Settings)) *env {
	t.Helper()
	e := &env{t: t, bus: bustest.Start(t), reg: prometheus.NewRegistry(), log: running.NewLog(t)}
	var err error
	if e.keys, err = token.NewSigner([]byte("0123456789abcdef0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	logger := e.log.Logger()
	ps := publish.Settings{JetStream: e.bus.JS, Auth: publish.Auth{Keys: e.keys, OpenLoopback: true}, Logger: logger, Registerer: e.reg}
	s := srt.Settings{Listen: "127.0.0.1:0", Logger: logger, Registerer: e.reg}
	if change != nil {
		change(&s, &ps)
	}
	if s.Publish, err = publish.New(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	if e.srv, err = srt.New(s); err != nil {
		t.Fatal(err)
	}
	running.Start(t, s.Publish.Run, e.srv.Run).Ready(e.srv.Ready())
	return e
}

func (e *env) counter(name string) float64 {
	e.t.Helper()
	return running.Sum(e.t, e.reg, name)
}

func (e *env) url(streamID string, more ...string) string {
	return "srt://" + e.srv.Addr().String() + "?" + strings.Join(append([]string{"pkt_size=1316&connect_timeout=30000&streamid=" + url.QueryEscape(streamID)}, more...), "&")
}

// least is how many of so many frames must have come. A machine too slow for SRT's
// latency loses packets, which is counted, and some more with the last window.
func (e *env) least(want int) int {
	if e.counter("spillway_srt_ts_gaps_total") > 0 {
		return 1
	}
	return want / 2
}

// source describes what ffmpeg publishes, in real time.
type source struct {
	video, audio []string // encoder's arguments; nil: none
	seconds      int
	extra        []string
}

var (
	x264 = []string{"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2", "-threads", "1"}
	x265 = []string{"-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params", "log-level=none:keyint=25:min-keyint=25:pools=1:frame-threads=1"}
	aac  = []string{"-c:a", "aac"}
	opus = []string{"-c:a", "libopus", "-ac", "2"}
)

func (s source) args() []string {
	a := []string{"-hide_banner", "-loglevel", "error", "-nostdin"}
	if s.video != nil {
		a = append(a, "-re", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25")
	}
	if s.audio != nil {
		a = append(a, "-re", "-f", "lavfi", "-i", "sine=sample_rate=48000")
	}
	a = append(append(append(a, "-t", fmt.Sprint(s.seconds)), s.video...), s.audio...)
	return append(append(a, s.extra...), "-f", "mpegts")
}

// publish runs ffmpeg until it ends or the context does.
func (s source) publish(ctx context.Context, url string) (stderr string, err error) {
	cmd := exec.CommandContext(ctx, "ffmpeg", append(s.args(), url)...)
	var b bytes.Buffer
	cmd.Stderr = &b
	err = cmd.Run()
	return b.String(), err
}

// TestFormats goes the whole way: ffmpeg, SRT, chunks, ffmpeg.
func TestFormats(t *testing.T) {
	const passphrase = "correct-horse"
	for name, c := range map[string]struct {
		s          source
		more       []string
		passphrase string
		tracks     map[schemas.Track]string // codec by track
	}{
		"h264 aac":   {s: source{video: x264, audio: aac}, tracks: map[schemas.Track]string{schemas.Video: "avc1.", schemas.Audio: "mp4a.40.2"}},
		"h265 opus":  {s: source{video: x265, audio: opus}, tracks: map[schemas.Track]string{schemas.Video: "hvc1.", schemas.Audio: "opus"}},
		"audio only": {s: source{audio: aac}, tracks: map[schemas.Track]string{schemas.Audio: "mp4a.40.2"}},
		"video only": {s: source{video: x264}, tracks: map[schemas.Track]string{schemas.Video: "avc1."}},
		"aes 256":    {s: source{video: x264, audio: aac}, more: []string{"passphrase=" + passphrase, "pbkeylen=32"}, passphrase: passphrase, tracks: map[schemas.Track]string{schemas.Video: "avc1.", schemas.Audio: "mp4a.40.2"}},
		"wrapping":   {s: source{video: x264, audio: aac, extra: []string{"-output_ts_offset", "95441"}}, tracks: map[schemas.Track]string{schemas.Video: "avc1.", schemas.Audio: "mp4a.40.2"}},
		"aes 128":    {s: source{audio: aac}, more: []string{"passphrase=" + passphrase, "pbkeylen=16"}, passphrase: passphrase, tracks: map[schemas.Track]string{schemas.Audio: "mp4a.40.2"}},
		"aes 192":    {s: source{audio: aac}, more: []string{"passphrase=" + passphrase, "pbkeylen=24"}, passphrase: passphrase, tracks: map[schemas.Track]string{schemas.Audio: "mp4a.40.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, func(s *srt.Settings, _ *publish.Settings) { s.Passphrase = c.passphrase })
			c.s.seconds = 4
			if out, err := c.s.publish(t.Context(), e.url("#!::r=live/demo,m=publish,cdn=b", c.more...)); err != nil {
				t.Fatalf("ffmpeg: %v: %s", err, out)
			}
			st := publishtest.WaitEnd(t, e.bus.JS, demo)
			r := publishtest.Record(t, e.bus.JS, demo)
			if len(r.Opens) != 1 || r.Ends != 1 || r.Opens[0].CDN != "b" || r.Opens[0].Protocol != "srt" {
				t.Fatalf("%d epochs, %d ends, %q: %+v", len(r.Opens), r.Ends, st.EndReason, r.Opens)
			}
			if len(r.Opens[0].Tracks) != len(c.tracks) {
				t.Errorf("tracks %+v", r.Opens[0].Tracks)
			}
			for _, track := range r.Opens[0].Tracks {
				if !strings.HasPrefix(track.Codec, c.tracks[track.Track]) {
					t.Errorf("%s in %s, want %s", track.Track, track.Codec, c.tracks[track.Track])
				}
			}
			frames := r.Decode(t, r.Opens[0])
			// What is in the last latency window when ffmpeg closes never arrives.
			if want := c.s.seconds * 25; c.s.video != nil && (frames[schemas.Video] < e.least(want) || frames[schemas.Video] > want) {
				t.Errorf("%d pictures, want about %d", frames[schemas.Video], want)
			}
			if want := c.s.seconds * 46; c.s.audio != nil && (frames[schemas.Audio] < e.least(want) || frames[schemas.Audio] > want*11/10+5) {
				t.Errorf("%d audio frames, want about %d", frames[schemas.Audio], want)
			}
			if e.counter("spillway_srt_packets_total") == 0 {
				t.Error("packets are not counted")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		id, more, passphrase, want string
		audio                      []string
	}{
		"no stream id":      {id: "", want: "stream id is missing"},
		"not a name":        {id: "live", want: "not <application>/<stream>"},
		"mode":              {id: "#!::r=live/demo,m=request", want: "publishers only"},
		"wrong key":         {id: "live/demo?key=abc", want: "publish key"},
		"wrong passphrase":  {id: "live/demo", more: "passphrase=wrong-horse", passphrase: "correct-horse", want: "passphrase is wrong"},
		"no passphrase":     {id: "live/demo", passphrase: "correct-horse", want: "passphrase is missing"},
		"needless":          {id: "live/demo", more: "passphrase=wrong-horse", want: "no passphrase is set"},
		"codec":             {id: "live/demo", audio: []string{"-c:a", "ac3"}, want: "AC-3"},
		"codec beside good": {id: "live/demo", audio: []string{"-c:a", "mp2"}, want: "MPEG-1 audio"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, func(s *srt.Settings, _ *publish.Settings) { s.Passphrase = c.passphrase })
			s := source{video: x264, audio: aac, seconds: 20}
			if c.audio != nil {
				s.audio = c.audio
			}
			if _, err := s.publish(t.Context(), e.url(c.id, c.more)); err == nil {
				t.Error("ffmpeg went on to the end")
			}
			await.True(t, "the refusal is told", func() bool {
				ev := publishtest.Events(t, e.bus.JS, schemas.EventPublishRefused)
				return len(ev) > 0 && strings.Contains(ev[0].Reason, c.want)
			})
		})
	}
}

// TestKey: a signed key in the stream id admits.
func TestKey(t *testing.T) {
	t.Parallel()
	e := start(t, func(_ *srt.Settings, p *publish.Settings) { p.Auth.OpenLoopback = false })
	key, err := e.keys.SignPublish(token.Publish{App: "live", Stream: "demo", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	s := source{audio: aac, seconds: 3}
	if out, err := s.publish(t.Context(), e.url("#!::r=live/demo,m=publish,k="+key)); err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, out)
	}
	publishtest.WaitEnd(t, e.bus.JS, demo)
	if out, err := s.publish(t.Context(), e.url("live/demo")); err == nil {
		t.Fatalf("without a key: %s", out)
	}
}
