package push_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/certs"
	"github.com/spillway-live/spillway/ingest/certs/certstest"
	"github.com/spillway-live/spillway/ingest/cut/cuttest"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/peers"
)

// ingest takes publishers, at the second address over TLS with a certificate that trust knows.
func ingest(t *testing.T, b *bustest.Bus) (addr, addrTLS string, trust *tls.Config) {
	t.Helper()
	certFile, keyFile := certstest.Write(t, t.TempDir(), "target")
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	trust = &tls.Config{RootCAs: x509.NewCertPool()}
	trust.RootCAs.AppendCertsFromPEM(pem)
	files, err := certs.Open(certFile, keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := publish.New(t.Context(), publish.Settings{JetStream: b.JS, Auth: publish.Auth{OpenLoopback: true}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0", TLS: files.Config(), Publish: svc})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		var g errgroup.Group
		g.Go(func() error { return svc.Run(ctx) })
		g.Go(func() error { return srv.Run(ctx) })
		return g.Wait()
	})
	<-srv.Ready()
	return srv.Addr().String(), srv.AddrTLS().String(), trust
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// takes is a target that takes publishers and closes after so many messages; 0: it reads nothing and closes never.
func takes(t *testing.T, messages int) (addr string) {
	t.Helper()
	l := listen(t)
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		s := &gortmplib.ServerConn{RW: c}
		if s.Initialize() != nil || s.AcceptConn() != nil || s.AcceptAction() != nil {
			return
		}
		for range messages {
			if _, err := s.Read(); err != nil {
				return
			}
		}
		if messages == 0 {
			<-t.Context().Done()
		}
	}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(4096)
			all.Go(func() { serve(c) })
		}
	})
	return l.Addr().String()
}

// startNginx runs nginx with its RTMP module; nil where it is not installed.
func startNginx(t *testing.T) *peers.Server {
	t.Helper()
	n := peers.NginxRTMP{SegmentDuration: time.Second}
	if !n.Installed() {
		if os.Getenv(need.Complete) != "" {
			t.Error("nginx with its RTMP module is not installed: ./dev test installs it")
		}
		return nil
	}
	s, err := n.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// plays waits until a stream comes out of nginx again, as HLS, and has ffprobe look at a segment.
func plays(t *testing.T, s *peers.Server, stream string) {
	t.Helper()
	if s == nil {
		return
	}
	get := func(u string) string {
		r, err := http.Get(u)
		if err != nil {
			return ""
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			return ""
		}
		return string(b)
	}
	segment := ""
	await.True(t, "nginx serves the stream that is pushed to it", func() bool {
		for line := range strings.Lines(get(s.PlayURL(stream))) {
			if line = strings.TrimSpace(line); strings.HasSuffix(line, ".ts") {
				segment = get(s.HTTPBase() + "/" + line)
			}
		}
		return segment != ""
	})
	file := filepath.Join(t.TempDir(), "segment.ts")
	if err := os.WriteFile(file, []byte(segment), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(need.Program(t, "ffprobe"), "-loglevel", "error", "-count_frames", "-show_entries", "stream=codec_name,width,nb_read_frames", "-of", "json", file).Output()
	var seen struct {
		Streams []struct {
			Codec  string `json:"codec_name"`
			Width  int
			Frames string `json:"nb_read_frames"`
		}
	}
	if err != nil || json.Unmarshal(out, &seen) != nil {
		t.Fatalf("ffprobe: %v: %s", err, out)
	}
	codecs := map[string]bool{}
	for _, x := range seen.Streams {
		codecs[x.Codec] = x.Frames != "" && x.Frames != "0" && (x.Codec == "aac" || x.Width == 320)
	}
	if !codecs["h264"] || !codecs["aac"] {
		t.Errorf("nginx has %s", out)
	}
}

// publishHEVC publishes HEVC with B-frames and AAC by Enhanced RTMP, over and over in real time.
func publishHEVC(t *testing.T, to string) {
	t.Helper()
	clip := cuttest.Encode(t, 2, cuttest.H265, cuttest.AAC)
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	c := &gortmplib.Client{URL: u, Publish: true}
	if err := c.Initialize(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := clip.VideoConfig
	video, audio := &gortmplib.Track{Codec: &codecs.H265{VPS: v.VPS, SPS: v.SPS, PPS: v.PPS}}, &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: clip.AudioConfig.AAC}}
	w := &gortmplib.Writer{Conn: c, Tracks: []*gortmplib.Track{video, audio}}
	if err := w.Initialize(); err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		defer c.Close()
		start := time.Now()
		us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
		for turn := int64(0); ; turn++ {
			sound := clip.Audio
			for i := range clip.Video {
				s, shift := &clip.Video[i], us(turn*2_000_000)
				select { // the publisher's own pace
				case <-ctx.Done():
					return nil
				case <-time.After(time.Until(start.Add(shift + us(s.DTSUs)))):
				}
				for ; len(sound) > 0 && sound[0].DTSUs <= s.DTSUs; sound = sound[1:] {
					if sound[0].DTSUs >= 0 && sound[0].DTSUs < 2_000_000 {
						if err := w.WriteMPEG4Audio(audio, shift+us(sound[0].DTSUs), sound[0].Data); err != nil {
							return err
						}
					}
				}
				var au h264.AVCC
				if err := au.Unmarshal(s.Data); err != nil {
					return err
				}
				if err := w.WriteH265(video, shift+us(s.DTSUs+s.CTSUs), shift+us(s.DTSUs), au); err != nil {
					return err
				}
			}
		}
	})
}
