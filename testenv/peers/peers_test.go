package peers

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// mediaMTXEnv names a MediaMTX binary for these tests and benchmarks; otherwise one on the path is used.
const mediaMTXEnv = "SPILLWAY_MEDIAMTX"

type starter interface {
	Start(context.Context) (*Server, error)
}

func available(t testing.TB) map[string]starter {
	t.Helper()
	found := map[string]starter{}
	if binary, err := exec.LookPath(orDefault(os.Getenv(mediaMTXEnv), "mediamtx")); err == nil {
		found["MediaMTX"] = MediaMTX{Binary: binary}
	}
	if _, err := os.Stat(debianRTMPModule); err == nil {
		found["nginx-rtmp"] = NginxRTMP{}
	}
	if len(found) == 0 {
		t.Skipf("no peer is installed: put mediamtx on the path or in %s, or install nginx-light and libnginx-mod-rtmp", mediaMTXEnv)
	}
	return found
}

func clip(t testing.TB, c publisher.Clip) string {
	t.Helper()
	need.Program(t, "ffmpeg")
	c.Path = filepath.Join(t.TempDir(), "clip.flv")
	if err := c.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.Path
}

// replay pushes to a server until the returned function is called.
func replay(t testing.TB, s *Server, file string, n int) (r *publisher.Replay, stop func()) {
	t.Helper()
	r = &publisher.Replay{File: file}
	for i := range n {
		r.URLs = append(r.URLs, s.PublishURL(fmt.Sprintf("s%d", i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	await.Text(t, "the publishers get through", func() string {
		if r.Stats().Connected >= n {
			return ""
		}
		return fmt.Sprintf("%+v of %d; server: %s", r.Stats(), n, s.Output())
	})
	return r, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestPeersPackageWhatIsPublished(t *testing.T) {
	peers := available(t)
	file := clip(t, publisher.Clip{Width: 320, Height: 180, BitrateKbps: 300, KeyframeSeconds: 1})
	for name, peer := range peers {
		t.Run(name, func(t *testing.T) {
			s, err := peer.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			_, stop := replay(t, s, file, 2)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for _, stream := range []string{"s0", "s1"} {
				if err := s.WaitPlayable(ctx, stream); err != nil {
					t.Fatal(err, s.Output())
				}
			}
			// A real player's library reads it: frames with the right size come out.
			out, err := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-of", "csv=p=0",
				"-show_entries", "stream=codec_name,width,height", s.PlayURL("s1")).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "h264,320,180") || !strings.Contains(string(out), "aac") {
				t.Errorf("ffprobe: %v: %s", err, out)
			}
			if name == "MediaMTX" {
				checkLowLatency(t, s.PlayURL("s1"))
			}
			u, err := s.Usage()
			if err != nil || u.CPUSeconds <= 0 || u.RSSBytes < 1<<20 {
				t.Errorf("%+v, %v", u, err)
			}
			t.Logf("%s %s: %+v", s.Name, s.Version, u)
			stop()
			s.Stop()
			s.Stop()
			if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
				t.Errorf("its directory is left: %v", err)
			}
			if _, err := procstat.Read(s.PID()); err == nil {
				t.Error("its process is left")
			}
		})
	}
}

// checkLowLatency follows a multivariant playlist to a media playlist, which must have parts of 200 ms.
func checkLowLatency(t *testing.T, multivariant string) {
	t.Helper()
	get := func(address string) string {
		res, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", address, res.Status, err)
		}
		return string(body)
	}
	for line := range strings.Lines(get(multivariant)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		media := get(multivariant[:strings.LastIndexByte(multivariant, '/')+1] + line)
		if !strings.Contains(media, "#EXT-X-PART-INF:PART-TARGET=0.2") || !strings.Contains(media, "#EXT-X-PART:") {
			t.Errorf("%s is not low-latency with parts of 200 ms:\n%s", line, media)
		}
		return
	}
	t.Error("the multivariant playlist names no stream")
}

// TestPeersListenOnLoopbackOnly looks at every TCP and UDP socket the peer has open.
func TestPeersListenOnLoopbackOnly(t *testing.T) {
	for name, peer := range available(t) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, err := peer.Start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sockets := openSockets(t, s.PID())
			if len(sockets) != 2 {
				t.Errorf("it listens on %v, expected RTMP and HTTP", sockets)
			}
			for _, address := range sockets {
				if !strings.HasPrefix(address, "0100007F:") { // 127.0.0.1 in /proc's notation
					t.Errorf("it listens on %s", address)
				}
			}
			cancel()
			select {
			case <-s.Done():
			case <-time.After(20 * time.Second):
				t.Error("it goes on after its context ended")
			}
		})
	}
}

// openSockets lists the local addresses of a process's listening TCP and bound UDP sockets, in hexadecimal.
func openSockets(t *testing.T, pid int) []string {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Skip("this system does not list open files")
	}
	mine := map[string]bool{}
	for _, link := range links {
		target, _ := os.Readlink(link)
		mine[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
	}
	var found []string
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		table, _ := os.ReadFile("/proc/net/" + kind)
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) > 9 && mine[f[9]] && (f[3] == listening || strings.HasPrefix(kind, "udp")) {
				found = append(found, f[1])
			}
		}
	}
	return found
}

func TestMissingOrBrokenPeers(t *testing.T) {
	for want, peer := range map[string]starter{
		"give the path":  MediaMTX{Binary: "no-such-mediamtx"},
		"ended at once":  MediaMTX{Binary: "true"},
		"apt-get":        NginxRTMP{Binary: "no-such-nginx"},
		"RTMP module":    NginxRTMP{Binary: "true", Module: "/no/such/module.so"},
		"exit status 1":  NginxRTMP{Binary: "false", Module: "/dev/null"},
		"start MediaMTX": MediaMTX{Binary: "false"},
	} {
		s, err := peer.Start(t.Context())
		if err == nil {
			s.Stop()
			t.Errorf("%+v started", peer)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestWaitPlayableGivesUp(t *testing.T) {
	for name, peer := range available(t) {
		s, err := peer.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := s.WaitPlayable(ctx, "nobody"); err == nil {
			t.Errorf("%s plays what nobody publishes", name)
		}
		cancel()
		s.Stop()
		if err := s.WaitPlayable(t.Context(), "nobody"); err == nil || !strings.Contains(err.Error(), "ended") {
			t.Errorf("%s after its end: %v", name, err)
		}
	}
}

func TestHoldBackIsRewritten(t *testing.T) {
	const playlist = "#EXTM3U\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.50000,CAN-SKIP-UNTIL=24\n"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("_HLS_msn") != "7" {
			http.Error(w, "query lost", http.StatusBadRequest)
			return
		}
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			_, _ = io.WriteString(z, playlist)
			return
		}
		_, _ = io.WriteString(w, playlist)
	}))
	defer upstream.Close()
	base, err := HoldBack{Upstream: upstream.URL, Seconds: 1}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if _, got := get("/live/s/video.m3u8?_HLS_msn=7"); got != strings.Replace(playlist, "0.50000", "1", 1) {
		t.Errorf("playlist %q", got)
	}
	if _, got := get("/live/s/part.mp4?_HLS_msn=7"); got != playlist {
		t.Errorf("something else than a playlist was changed: %q", got)
	}
	if code, _ := get("/live/s/video.m3u8"); code != http.StatusBadRequest {
		t.Errorf("an error became %d", code)
	}
	for _, bad := range []HoldBack{{}, {Upstream: "nothing", Seconds: 1}, {Upstream: upstream.URL, Seconds: -1}} {
		if _, err := bad.Start(t.Context()); err == nil {
			t.Errorf("%+v started", bad)
		}
	}
}

func TestFreeAddressesDiffer(t *testing.T) {
	a, b, err := freeAddresses()
	if err != nil || a == b {
		t.Fatalf("%s, %s, %v", a, b, err)
	}
	for _, address := range []string{a, b} {
		if ip, _, err := net.SplitHostPort(address); err != nil || ip != "127.0.0.1" {
			t.Error(address)
		}
	}
}

// BenchmarkPackaging pushes 20 streams of 2.6 Mbit/s (720p30 with AAC) for 30 s to each peer, without a
// reader, and reports the peer's CPU seconds, that of the generator (this process) and the peer's memory.
func BenchmarkPackaging(b *testing.B) {
	const streams, length = 20, 30 * time.Second
	file := clip(b, publisher.Clip{})
	for name, peer := range available(b) {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				s, err := peer.Start(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				r, stop := replay(b, s, file, streams)
				began, own := usage(b, s)
				sent := r.Stats().Bytes
				time.Sleep(length)
				ended, ownEnd := usage(b, s)
				st := r.Stats()
				stop()
				s.Stop()
				if st.Interruptions != 0 || st.Connected != streams {
					b.Fatalf("%+v", st)
				}
				b.ReportMetric(ended.CPUSeconds-began.CPUSeconds, "server-cpu-s")
				b.ReportMetric(ownEnd-own, "generator-cpu-s")
				b.ReportMetric(float64(ended.RSSBytes)/1e6, "server-MB")
				b.ReportMetric(float64(st.Bytes-sent)*8/1e6/length.Seconds()/streams, "Mbit/s/stream")
				b.ReportMetric(float64(st.MaxLag.Milliseconds()), "max-lag-ms")
				if out := strings.TrimSpace(s.Output()); out != "" {
					b.Log(string(bytes.TrimSpace([]byte(out))))
				}
			}
		})
	}
}

func usage(b *testing.B, s *Server) (server procstat.Usage, ownCPUSeconds float64) {
	b.Helper()
	server, err := s.Usage()
	if err != nil {
		b.Fatal(err)
	}
	ownCPUSeconds, err = procstat.CPUSeconds(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	return server, ownCPUSeconds
}
