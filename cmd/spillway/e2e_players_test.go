package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/players"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// playerReport is what the players' page says.
type playerReport struct {
	Errors   []string
	Stalls   int
	Seeks    int
	Frames   int
	FirstMs  float64
	Time     float64
	Width    int
	Audio    int
	More     map[string]any
	Buffered [][2]float64
	Hosts    []string
	Paths    []string
	Clock    []struct{ Picture, Beacon float64 } // latencies, ms: by the picture's clock, and by the beacon
}

// playFor is how long each player plays: SPILLWAY_E2E_PLAY_S seconds, 60 for the full proof.
func playFor() float64 {
	var s float64
	if _, err := fmt.Sscan(os.Getenv("SPILLWAY_E2E_PLAY_S"), &s); err != nil || s <= 0 {
		return 6
	}
	return s
}

// fullProof says that the machine has nothing else to do, so that figures can be judged, too.
func fullProof() bool { return os.Getenv("SPILLWAY_E2E_PLAY_S") != "" }

// TestPlayers: real players play every format that they support through an
// edge, without an error.
func TestPlayers(t *testing.T) {
	t.Parallel()
	libs, err := filepath.Glob("../../dashboards/player/static/vendor/hls-*.min.js")
	if err != nil || len(libs) == 0 {
		t.Fatalf("no hls.js: %v", err)
	}
	hlsJS, err := os.ReadFile(libs[len(libs)-1])
	if err != nil {
		t.Fatal(err)
	}
	env := environment(t)
	u := up(t, env, t.TempDir(), "--viewers", "0")
	page := httptest.NewServer(players.Handler(hlsJS))
	t.Cleanup(page.Close)
	ctx := browsertest.Start(t).Tab
	if dir := os.Getenv("SPILLWAY_E2E_KEEP"); dir != "" {
		t.Cleanup(func() {
			_, b, _ := httpGet(strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8") + "manifest.mpd")
			t.Log(b)
		})
	}
	base := strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8")
	within(t, time.Minute, "the MPD is one of low latency", func() error {
		_, b, err := httpGet(base + "manifest.mpd")
		if err == nil && !strings.Contains(b, "availabilityTimeOffset") {
			err = errors.New(b)
		}
		return err
	})
	t.Cleanup(publishUneven(t, u.Push+"/uneven"))
	t.Run("swipe", func(t *testing.T) {
		within(t, time.Minute, "the neighbour is live", func() error {
			code, b, err := httpGet(u.Router + "/v1/dispatch?app=live&neighbours=uneven")
			if err == nil && !strings.Contains(b, `"stream":"uneven"`) {
				err = fmt.Errorf("%d %s", code, b)
			}
			return err
		})
		// The demo's experiment gives half of the sessions a parameter of its own.
		if code, out, errs := command(t, env, nil, "experiment", "stop", "player-delay"); code != 0 {
			t.Fatalf("%d %s %s", code, out, errs)
		}
		within(t, time.Minute, "routers assign nobody any more", func() error {
			_, b, err := httpGet(u.Router + "/v1/dispatch?app=live&stream=demo")
			if err == nil && strings.Contains(b, `"arms"`) {
				err = errors.New(b)
			}
			return err
		})
		swipe(t, ctx, u.Console+"/play/live/demo?next=uneven", true)
		if code, out, errs := command(t, env, strings.NewReader(`{"params": {"preload_neighbours": "0", "live_sync_duration_s": "3", "max_catchup_rate": "1.25", "start_buffer_s": "1.5"}}`), "app", "set", "live", "--file", "-"); code != 0 {
			t.Fatalf("%d %s %s", code, out, errs)
		}
		within(t, time.Minute, "routers know the setting", func() error {
			_, b, err := httpGet(u.Router + "/v1/dispatch?app=live&stream=demo")
			if err == nil && !strings.Contains(b, `"preload_neighbours":"0"`) {
				err = errors.New(b)
			}
			return err
		})
		swipe(t, ctx, u.Console+"/play/live/demo?next=uneven", false)
	})
	for _, c := range []struct{ player, manifest string }{
		{"dash", "manifest.mpd"}, {"shaka", "manifest.mpd"}, {"hls", "multivariant.m3u8"}, {"shaka", "multivariant.m3u8"},
		{"hls", "ts.m3u8"}, {"shaka", "ts.m3u8"}, {"dash", "../uneven/manifest.mpd"}, {"shaka", "../uneven/manifest.mpd"},
	} {
		t.Run(strings.ReplaceAll(c.player+" "+c.manifest, "/", "_"), func(t *testing.T) {
			if strings.HasPrefix(c.manifest, "../") {
				within(t, time.Minute, "the MPD lists segments of a window", func() error {
					_, b, err := httpGet(strings.TrimSuffix(base, "demo/") + c.manifest[3:])
					if err == nil && (!strings.Contains(b, "<SegmentTimeline>") || strings.Count(b, "<S ") < 10) {
						err = errors.New(b)
					}
					return err
				})
			}
			var told url.Values // the test card is in the demo stream alone
			if sid := "clock-" + c.player + strings.TrimLeft(filepath.Ext(c.manifest), "."); c.manifest == "manifest.mpd" || c.manifest == "multivariant.m3u8" {
				told = url.Values{"beacon": {strings.TrimSuffix(u.Collector, collectorPath) + "/v1/beacon"}, "sid": {sid}}
			}
			r := play(t, ctx, page.URL, c.player, base+c.manifest, playFor(), told)
			if told != nil {
				latencyIsThePictures(t, u, r, told.Get("sid"))
			}
			t.Logf("%s %s: first frame after %.0f ms, %d stalls, %d seeks, %d frames, %v, %v", c.player, c.manifest, r.FirstMs, r.Stalls, r.Seeks, r.Frames, r.More, r.Hosts)
			if !fullProof() {
				// A machine that runs the whole suite has moments in which nothing can be shown; the full proof has none.
				r.Errors = slices.DeleteFunc(r.Errors, func(e string) bool {
					return (strings.Contains(e, "bufferStalledError") || strings.Contains(e, "bufferSeekOverHole")) && !strings.Contains(e, "fatal")
				})
			}
			if len(r.Errors) > 0 {
				t.Errorf("errors: %s", strings.Join(r.Errors, "\n"))
			}
			if r.Audio == 0 {
				t.Error("no sound was decoded")
			}
			// By now two players have watched the stream before, so its playlist is as long as it gets.
			if deltas, _ := r.More["deltas"].(float64); c.player == "hls" && c.manifest == "multivariant.m3u8" && deltas == 0 {
				t.Error("hls.js has not used delta updates")
			}
		})
	}
	t.Run("probe", func(t *testing.T) { probesCandidates(t, ctx, u) })
	t.Run("queue", func(t *testing.T) { waitsForRoom(t, ctx, u) })
}

// swipe opens the play page with a stream beside the one that plays and goes
// there: the answer is there before it is asked for, or not where sessions have parameters: preload no neighbours, and
// play as these say.
func swipe(t *testing.T, chromium context.Context, page string, ahead bool) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	type view struct {
		Stream  string
		Session string
		Time    float64
		Swipes  []struct {
			Stream                string
			Ahead                 bool
			DispatchMs, PictureMs float64
		}
	}
	read := func() view {
		v, err := browser.Evaluate[view](ctx, "({...spillway, hls: null, beacon: null, dispatch: null, time: document.querySelector('video').currentTime})")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	var first, v view
	within(t, time.Minute, "the first stream plays", func() error {
		if first = read(); first.Stream != "demo" || first.Time < 0.5 {
			return fmt.Errorf("%+v", first)
		}
		return nil
	})
	if _, err := browser.Evaluate[any](ctx, "spillway.swipe(1)"); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the next one plays", func() error {
		if v = read(); v.Stream != "uneven" || len(v.Swipes) != 1 || v.Swipes[0].PictureMs == 0 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	if v.Swipes[0].Ahead != ahead || v.Session == first.Session {
		t.Errorf("an answer ahead of the swipe: want %v; or the session went on: %+v", ahead, v)
	}
	// What the player was told: JSON leaves out what it was not.
	told, err := browser.Evaluate[struct{ Sync, Rate, Filled *float64 }](ctx, "({sync: spillway.hls.config.liveSyncDuration, rate: spillway.hls.userConfig.maxLiveSyncPlaybackRate, filled: spillway.startBuffer})")
	switch {
	case err != nil:
		t.Error(err)
	case ahead && (told.Sync != nil || told.Filled != nil):
		t.Errorf("without parameters: %+v", told)
	case !ahead && (told.Sync == nil || *told.Sync != 3 || told.Rate == nil || *told.Rate != 1.25 || told.Filled == nil):
		t.Errorf("3 s behind live, at most 1.25 times as fast, from a filled buffer on: %+v", told)
	}
	t.Logf("a swipe to the next picture took %.0f ms, %.1f of them for the router's answer", v.Swipes[0].PictureMs, v.Swipes[0].DispatchMs)
}

// publishUneven publishes a stream whose key frames come at varying distances,
// so that its MPD lists segments. It gives the way to stop it.
func publishUneven(t *testing.T, to string) (stop func()) {
	t.Helper()
	var at []string
	for s, i := 0.0, 0; s < 600; i++ {
		at = append(at, fmt.Sprintf("%.1f", s))
		s += []float64{2.2, 2.9, 3.4, 2.5}[i%4]
	}
	p, err := child.Start(exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-re",
		"-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "1000", "-sc_threshold", "0",
		"-force_key_frames", strings.Join(at, ","), "-c:a", "aac", "-threads", "1", "-f", "flv", to))
	if err != nil {
		t.Fatal(err)
	}
	return func() { p.Stop(5 * time.Second) }
}

// clockSampler reads the clock in the picture some times a second, and what the beacon says of the same frame at the
// same moment. Picture, page and server have one clock here.
const clockSampler = `
(() => {
  const g = Object.assign(document.createElement('canvas'), {width: 640, height: 360}).getContext('2d', {willReadFrequently: true});
  window.clock = [];
  let next = 0;
  const frame = (now) => {
    video.requestVideoFrameCallback(frame);
    if (now < next || !window.beacon) return;
    next = now + 200;
    let picture;
    try { picture = new VideoFrame(video); } catch (e) { return; } // no picture at this moment
    const at = Date.now(), said = beacon.latency(), time = video.currentTime, mediaTime = picture.timestamp / 1e6;
    g.drawImage(picture, 0, 0, 640, 360);
    picture.close();
    const capture = decodeTestCard(g.getImageData(0, 0, 640, 360));
    if (capture === null || said === null) return;
    clock.push({picture: at - capture, beacon: said + (time - mediaTime) * 1000});
  };
  video.requestVideoFrameCallback(frame);
})()`

// latencyIsThePictures compares the beacon's latency with the age of the clock in the picture, and with what is in
// ClickHouse of it. DASH places a run of segments on the wall-clock once, up to 100 ms late and 400 ms early
// (schemas.Line): what players compute from it is off by no more than that.
func latencyIsThePictures(t *testing.T, u *upProgram, r playerReport, sid string) {
	t.Helper()
	var off, seen []float64
	for _, c := range r.Clock {
		off, seen = append(off, c.Beacon-c.Picture), append(seen, c.Beacon)
	}
	// An encoder that waits for its turn draws a clock that is late by as much. What goes wrong in players is wrong
	// by more (shaka doubles the date), and shows in the suite, too.
	few, most := 3, 3000.0
	if fullProof() {
		few, most = 10, 100
	}
	if len(off) < few {
		t.Fatalf("%d frames with both a clock and the beacon's latency", len(off))
	}
	slices.Sort(off)
	t.Logf("latency %.0f ms, mean of %d frames; less the picture's: %.0f to %.0f ms, median %.0f", mean(seen), len(seen), off[0], off[len(off)-1], off[len(off)/2])
	if m := off[len(off)/2]; m < -400-most || m > 100+most {
		t.Errorf("the beacon's latency less the picture's is %.0f ms (median of %d frames)", m, len(off))
	}
	type report struct {
		N     int     `json:"n"`
		Ms    float64 `json:"ms"`
		Bound float64 `json:"bound"`
	}
	within(t, time.Minute, "the latency is in ClickHouse, with its clock's bound", func() error {
		got, err := tryRows[report](u.ClickHouse, `SELECT toInt32(count()) AS n, avg(e2e_latency_ms) AS ms, max(clock_bound_ms) AS bound
			FROM spillway.telemetry WHERE session_id = '%s' AND e2e_latency_ms IS NOT NULL AND clock_bound_ms IS NOT NULL`, sid)
		if err == nil && (len(got) != 1 || got[0].N == 0 || got[0].Bound <= 0) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
}

// play lets a player play for some seconds of media and gives its report. With a beacon it also compares latencies.
func play(t *testing.T, chromium context.Context, page, player, manifest string, seconds float64, q url.Values) playerReport {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium)
	defer cancel()
	if q == nil {
		q = url.Values{}
	}
	q.Set("player", player)
	q.Set("url", manifest)
	if err := chromedp.Run(ctx, chromedp.Navigate(page+"/?"+q.Encode())); err != nil {
		t.Fatal(err)
	}
	if q.Has("beacon") {
		if err := chromedp.Run(ctx, chromedp.Evaluate(testcard.DecoderJS()+clockSampler, nil)); err != nil {
			t.Fatal(err)
		}
	}
	var r playerReport
	first := -1.0
	within(t, 60*time.Second+time.Duration(2*seconds)*time.Second, fmt.Sprintf("%s plays %.0f s of %s", player, seconds, manifest), func() error {
		var err error
		if r, err = browser.Evaluate[playerReport](ctx, "JSON.parse(report())"); err != nil {
			return err
		}
		if len(r.Errors) > 20 {
			t.Fatalf("errors: %s", strings.Join(r.Errors, "\n"))
		}
		if r.FirstMs > 0 && first < 0 {
			first = r.Time
		}
		if first < 0 || r.Time-first < seconds || r.Width == 0 || q.Has("beacon") && len(r.Clock) < 10 {
			return fmt.Errorf("%w: %+v", errors.New("not yet"), r)
		}
		return nil
	})
	return r
}
