package players_test

import (
	"context"
	"encoding/json"
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

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/ingest/collect"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/players"
	"github.com/spillway-live/spillway/testenv/running"
)

// pipeline is a page's way to ClickHouse: a collector, a sessioniser and a
// loader on a bus, beside an edge that serves the media.
type pipeline struct {
	t         *testing.T
	edge      *edge.Edge
	collector string // base URL
	pages     string // base URL of the players' pages
	http      string // ClickHouse, as analyst
}

// edgeKey lets the edge hand its log lines to the collector.
const edgeKey = "sesame"

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{t: t}
	b := bustest.Start(t)
	ch, _ := tablestest.Start(t)
	p.http = ch.HTTPURL(chserver.Analyst)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.collector = "http://" + l.Addr().String()
	c, err := collect.New(collect.Settings{JS: b.JS, Listener: l, SpoolDir: t.TempDir(), EdgeKey: edgeKey})
	if err != nil {
		t.Fatal(err)
	}
	p.run("collector", c.Run)
	p.run("sessioniser", func(ctx context.Context) error {
		return sessioniser.Run(ctx, sessioniser.Settings{
			JetStream: b.JS, LeaseTTL: 20 * time.Second, TickEvery: 500 * time.Millisecond,
			// Pages here report each second: one that is silent for this long is gone, whatever gaps a busy machine has made.
			Session: session.Config{MinSilenceMs: 5000, MaxSilenceMs: 10_000, GraceMs: 1000},
		})
	})
	p.run("loader", func(ctx context.Context) error {
		return loader.Run(ctx, loader.Settings{
			JetStream: b.JS, LeaseTTL: 20 * time.Second, FlushEvery: 200 * time.Millisecond, FlushRawEvery: 200 * time.Millisecond,
			ClickHouse: loader.ClickHouse{Addr: ch.NativeAddr(), User: string(chserver.Writer), Password: ch.Password(chserver.Writer)},
		})
	})
	media := httptest.NewServer(mediaHandler(encodeMedia(t)))
	t.Cleanup(media.Close)
	p.edge, err = edge.New(edge.Settings{Name: "a", Origins: []string{media.URL}, Collector: p.collector, EdgeKey: edgeKey, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	p.run("edge", p.edge.Run)
	hlsJS, err := player.HLSJS()
	if err != nil {
		t.Fatal(err)
	}
	pages := httptest.NewServer(withStatefulShaka(t, players.Handler(hlsJS)))
	t.Cleanup(pages.Close)
	p.pages = pages.URL
	return p
}

// withStatefulShaka also serves shaka as its debug build reports: in the release
// build the compiler has renamed the key sta, so that no state is ever sent.
func withStatefulShaka(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	w := httptest.NewRecorder()
	next.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/shaka.js", nil))
	const renamed, meant = "{Gm:b}", "{sta:b}"
	if n := strings.Count(w.Body.String(), renamed); n != 1 {
		t.Fatalf("shaka has %q %d times: look again what its release build sends", renamed, n)
	}
	debug := strings.Replace(w.Body.String(), renamed, meant, 1)
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc("GET /shaka-debug.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = io.WriteString(w, debug) // the browser may be gone
	})
	return mux
}

// run starts a part of the pipeline; it is stopped before those started earlier.
func (p *pipeline) run(name string, f func(context.Context) error) {
	running.Start(p.t, func(ctx context.Context) error {
		if err := f(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// query asks ClickHouse as the analyst.
func query[T any](p *pipeline, sql string, args ...any) ([]T, error) {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.http, strings.NewReader(fmt.Sprintf(sql, args...)+" FORMAT JSONEachRow"))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body) // as much as there is
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	var out []T
	for d := json.NewDecoder(resp.Body); d.More(); {
		var row T
		if err := d.Decode(&row); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}

// A film of loops times loopSeconds, which no test comes to the end of, in segments of segmentSeconds.
const loopSeconds, loops, segmentSeconds = 20, 60, 2

// encodeMedia makes a short film as DASH and HLS, of the same segments, and as one file.
func encodeMedia(t *testing.T) (dir string) {
	t.Helper()
	ffmpeg := need.Program(t, "ffmpeg")
	dir = t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), ffmpeg, append([]string{"-hide_banner", "-loglevel", "error", "-nostdin", "-y"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ffmpeg %v: %v: %s", args, err, out)
		}
	}
	run("-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=192x108:rate=15:duration=%d", loopSeconds),
		"-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:sample_rate=48000:duration=%d", loopSeconds),
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-keyint_min", "30", "-sc_threshold", "0", "-b:v", "150k", "-maxrate", "150k", "-bufsize", "150k",
		"-c:a", "aac", "-b:a", "64k", "loop.mp4")
	run("-stream_loop", fmt.Sprint(loops-1), "-i", "loop.mp4", "-c", "copy", "-movflags", "+faststart", "film.mp4")
	run("-i", "film.mp4", "-c", "copy", "-f", "dash", "-seg_duration", fmt.Sprint(segmentSeconds), "-use_template", "1", "-use_timeline", "1",
		"-hls_playlist", "1", "-adaptation_sets", "id=0,streams=v id=1,streams=a", "film.mpd")
	return dir
}

// firstGone is the first segment that a stream named gone-... does not have.
const firstGone = 4

// mediaHandler serves the film as streams /live/<name>/: film.mpd, master.m3u8 and their media. Of streams
// gone-... everything from a segment on is missing.
func mediaHandler(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		name := filepath.Base(r.URL.Path)
		var track, number int
		if n, _ := fmt.Sscanf(name, "chunk-stream%d-%d.m4s", &track, &number); n == 2 && strings.HasPrefix(f[1], "gone-") && number >= firstGone {
			http.Error(w, "gone", http.StatusNotFound)
			return
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		types := map[string]string{".mpd": "application/dash+xml", ".m3u8": "application/vnd.apple.mpegurl", ".m4s": "video/mp4", ".mp4": "video/mp4"}
		w.Header().Set("Content-Type", types[filepath.Ext(name)])
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(b) // the edge may be gone
	})
}

// browser starts headless Chromium.
func browser(t *testing.T) context.Context {
	t.Helper()
	profile, err := os.MkdirTemp("", "spillway-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(need.Chromium(t)), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.Headless,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("mute-audio", true))
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		// An orderly end writes the profile; it must be gone before the folder is removed.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close Chromium: %v", err)
		}
		cancel()
		cancelAlloc()
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}
