package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// sampler reads the clock in the picture, some times a second, and notes what
// the playlist's times say of the same frame. The frame is taken as a VideoFrame,
// which knows its own media time: on a busy machine a canvas drawn from the
// element may show a later frame than the one that was announced.
const sampler = `
(() => {
  const v = document.getElementById('video');
  const g = Object.assign(document.createElement('canvas'), {width: 640, height: 360}).getContext('2d', {willReadFrequently: true});
  const s = window.e2e = {samples: [], unread: 0, notes: []};
  let next = 0;
  const frame = (now) => {
    v.requestVideoFrameCallback(frame);
    const pdt = spillway.hls.playingDate;
    if (now < next || !pdt || spillway.hls.media !== v) return;
    next = now + 180;
    const picture = new VideoFrame(v);
    const at = Date.now(), mediaTime = picture.timestamp / 1e6;
    g.drawImage(picture, 0, 0, 640, 360);
    picture.close();
    const capture = decodeTestCard(g.getImageData(0, 0, 640, 360));
    if (capture === null) { s.unread++; return; }
    s.samples.push({at, capture, pdt: pdt.getTime() + (mediaTime - v.currentTime) * 1000});
  };
  v.requestVideoFrameCallback(frame);
  const ranges = (b) => Array.from({length: b.length}, (_, i) => b.start(i).toFixed(3) + '-' + b.end(i).toFixed(3)).join(' ');
  spillway.hls.on('hlsError', (_, e) => {
    const note = [e.details, 'at', v.currentTime.toFixed(3), 'buffered', ranges(v.buffered)];
    for (const [type, b] of Object.entries(window.e2eBuffers || {})) note.push(type, ranges(b.buffer.buffered));
    const f = e.frag;
    if (f) note.push('fragment', f.type, f.sn, f.start);
    s.notes.push(note.join(' '));
  });
  spillway.hls.on('hlsBufferCreated', (_, e) => { window.e2eBuffers = e.tracks; });
  window.e2eBuffers = spillway.hls.bufferController && spillway.hls.bufferController.tracks;
})()`

// pageState is what the page measured itself.
type pageState struct {
	Session string
	Arms    string
	Fatal   *string
	Errors  []struct {
		Type, Details string
		Fatal         bool
	}
	Measured struct {
		StartupMs *float64 `json:"startup_ms"`
		StallMs   float64  `json:"stall_ms"`
		Stalls    int      `json:"stalls"`
		PlayedMs  float64  `json:"played_ms"`
	}
	Latencies []float64
	CDNs      []string
	Samples   []struct{ At, Capture, PDT float64 }
	Notes     []string // on errors: where the player was and what it had
	Unread    int
	Steered   bool
	Hosts     []string
}

const readPage = `{
  session: spillway.session, arms: spillway.dispatch && spillway.dispatch.arms, fatal: spillway.fatal, errors: spillway.errors,
  measured: spillway.measured ? spillway.measured() : {}, latencies: spillway.latencies.map(l => l.ms), cdns: spillway.cdns,
  samples: window.e2e ? e2e.samples : [], unread: window.e2e ? e2e.unread : 0, notes: window.e2e ? e2e.notes : [],
  steered: performance.getEntriesByType('resource').some(r => r.name.includes('/v1/steering?')),
  hosts: [...new Set(performance.getEntriesByType('resource').map(r => new URL(r.name).hostname))],
}`

// TestBrowserPlaysAndTelemetryAgrees: ffmpeg publishes, a real browser plays
// through the steered CDN, and what ClickHouse says of the session is what the
// page saw, down to the time burnt into the picture.
func TestBrowserPlaysAndTelemetryAgrees(t *testing.T) {
	u := up(t, environment(t), t.TempDir(), "--viewers", "1")
	ctx := browsertest.Start(t).Tab
	const playMs = 20_000
	if err := chromedp.Run(ctx, chromedp.Navigate(u.Watch+"?viewer=e2e-browser&responses=1")); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the page has a player", func() error {
		ready, err := browser.Evaluate[bool](ctx, `!!(window.spillway && spillway.hls && document.getElementById('video').videoWidth)`)
		if err == nil && !ready {
			err = errors.New("not yet")
		}
		return err
	})
	if err := chromedp.Run(ctx, chromedp.Evaluate(testcard.DecoderJS()+sampler, nil)); err != nil {
		t.Fatal(err)
	}
	var page pageState
	read := func() error {
		var err error
		page, err = browser.Evaluate[pageState](ctx, readPage)
		return err
	}
	within(t, 2*time.Minute, "20 s are played", func() error {
		if err := read(); err != nil {
			return err
		}
		if page.Fatal != nil {
			t.Fatalf("fatal error of hls.js: %s; all: %+v", *page.Fatal, page.Errors)
		}
		if page.Measured.PlayedMs < playMs {
			return fmt.Errorf("%+v", page.Measured)
		}
		return nil
	})
	// The end of the view, and what the page had measured by then.
	page, err := browser.Evaluate[pageState](ctx, `(() => { const s = `+readPage+`; spillway.beacon.end(); spillway.hls.destroy(); return s; })()`)
	if err != nil {
		t.Fatal(err)
	}
	if page.Measured.StartupMs == nil || len(page.Latencies) < 20 {
		t.Fatalf("the page measured nothing: %+v", page)
	}
	for _, h := range page.Hosts {
		if h != "127.0.0.1" {
			t.Errorf("the page loaded something from %s", h)
		}
	}
	if !page.Steered {
		t.Error("the player asked for no steering")
	}
	t.Logf("page: session %s on %v, start-up %.0f ms, %d stalls of %.0f ms, played %.0f ms, latency %.0f ms, errors %+v", page.Session, page.CDNs,
		*page.Measured.StartupMs, page.Measured.Stalls, page.Measured.StallMs, page.Measured.PlayedMs, mean(page.Latencies), page.Errors)

	for _, n := range page.Notes {
		t.Log(n)
	}

	t.Run("picture clock agrees with EXT-X-PROGRAM-DATE-TIME", func(t *testing.T) {
		// On a busy machine the publisher leaves out frames, and ingest lets the next picture begin where the last
		// one ended: that one is early by what is missing. Such pictures are single, and those that were long on their
		// way to ingest are few. An error of the mapping is neither: it moves by 5 ms a second at most (ingest/cut), so
		// it shows in the median of all, and a large one in that of any few seconds.
		const few = 15
		var off, latency, errs []float64
		for _, s := range page.Samples {
			off = append(off, math.Abs(s.Capture-s.PDT))
			if d := math.Abs(s.Capture - s.PDT); d > 100 {
				t.Logf("the frame of %.0f was at %.0f by the playlist: %.0f ms off, %.0f ms after the first", s.Capture, s.PDT, d, s.At-page.Samples[0].At)
			}
			latency = append(latency, s.At-s.Capture)
			errs = append(errs, s.Capture-s.PDT)
		}
		if len(off) < 30 || page.Unread > len(off)/10 {
			t.Fatalf("%d frames were read and %d could not be", len(off), page.Unread)
		}
		slices.Sort(off)
		t.Logf("true latency %.0f ms (mean of %d frames); capture time off the playlist's by %.0f ms (median), %.0f ms (95 %%), %.0f ms (most)",
			mean(latency), len(off), off[len(off)/2], off[len(off)*95/100], off[len(off)-1])
		if m := off[len(off)/2]; m > 100 {
			t.Errorf("capture time and EXT-X-PROGRAM-DATE-TIME differ by %.0f ms (median)", m)
		}
		for i := 0; i+few <= len(errs); i++ {
			window := slices.Sorted(slices.Values(errs[i : i+few]))
			if m := window[few/2]; math.Abs(m) > 250 {
				t.Errorf("capture time and EXT-X-PROGRAM-DATE-TIME differ by %.0f ms (median of %d frames in a row, %.1f s after the first)",
					m, few, (page.Samples[i].At-page.Samples[0].At)/1000)
				break
			}
		}
	})

	t.Run("ClickHouse agrees with the page", func(t *testing.T) {
		type session struct {
			Final                                  bool
			CDN, Arms, Client, Device, App, Stream string
			Starts                                 int
			StartupMs                              float64  `json:"startup_ms"`
			StalledMs                              float64  `json:"stalled_ms"`
			PlayedMs                               float64  `json:"played_ms"`
			LatencyMs                              *float64 `json:"latency_mean_ms"`
			StartFailures                          int      `json:"start_failures"`
			PlaybackFailures                       int      `json:"playback_failures"`
			Requests                               int
		}
		var s session
		within(t, time.Minute, "the session is closed in ClickHouse", func() error {
			got, err := tryRows[session](u.ClickHouse, `SELECT final, cdn, arms, client, device, app, stream, starts, startup_ms, stalled_ms, played_ms, latency_mean_ms,
				start_failures, playback_failures, requests FROM spillway.v_sessions WHERE session_id = '%s'`, page.Session)
			if err != nil {
				return err
			}
			if len(got) != 1 || !got[0].Final {
				return fmt.Errorf("%+v", got)
			}
			s = got[0]
			return nil
		})
		t.Logf("ClickHouse: %+v", s)
		near := func(what string, got, want, tolerance float64) {
			if math.Abs(got-want) > tolerance {
				t.Errorf("%s is %.0f ms in ClickHouse and %.0f ms in the page: more than %.0f ms apart", what, got, want, tolerance)
			}
		}
		near("start-up time", s.StartupMs, *page.Measured.StartupMs, 100)
		near("stall time", s.StalledMs, page.Measured.StallMs, 200)
		if s.LatencyMs == nil {
			t.Error("the session has no latency")
		} else {
			near("latency", *s.LatencyMs, mean(page.Latencies), 300)
			// From the publisher's clock to the screen: what the picture itself says.
			var seen []float64
			for _, x := range page.Samples {
				seen = append(seen, x.At-x.Capture)
			}
			near("latency of the picture", *s.LatencyMs, mean(seen), 300)
			if t.Failed() {
				type report struct {
					At, Source, Event, State string
					Player                   *int `json:"live_latency_ms"`
					True                     *int `json:"e2e_latency_ms"`
				}
				t.Logf("page: %.0f", page.Latencies)
				for _, r := range rows[report](t, u.ClickHouse, `SELECT toString(ts) AS at, source, event, state, live_latency_ms, e2e_latency_ms FROM spillway.telemetry
					WHERE session_id = '%s' AND source IN ('cmcd_event', 'beacon') ORDER BY ts_ms`, page.Session) {
					b, _ := json.Marshal(r)
					t.Logf("%s", b)
				}
			}
		}
		if s.App != "live" || s.Stream != "demo" || s.Client != "hls.js" || s.Device != "desktop" || s.Starts != 1 || s.StartFailures+s.PlaybackFailures != 0 || s.Requests == 0 {
			t.Errorf("session: %+v", s)
		}
		if len(page.CDNs) == 0 || s.CDN != page.CDNs[len(page.CDNs)-1] {
			t.Errorf("served by %q, the page saw %q", s.CDN, page.CDNs)
		}
		if page.Arms == "" || s.Arms != page.Arms {
			t.Errorf("arms %q, the page was told %q", s.Arms, page.Arms)
		}
	})

	t.Run("parts are seen at the player's hop", func(t *testing.T) {
		type hop struct {
			Parts int
			Shown int
		}
		got := rows[hop](t, u.ClickHouse, `SELECT countIf(hop_delay_ms > 0) AS parts, (SELECT sum(parts) FROM spillway.v_hop_minute WHERE hop = 'player' AND delay_p50_ms > 0) AS shown
			FROM spillway.telemetry WHERE session_id = '%s' AND hop = 'player'`, page.Session)
		if len(got) != 1 || got[0].Parts == 0 || got[0].Shown == 0 {
			t.Errorf("%+v", got)
		}
	})

	t.Run("decision and exposure are recorded", func(t *testing.T) {
		type decision struct {
			Kind, Chosen, Arms string
			Reason             string   `json:"reason_code"`
			Candidates         []string `json:"candidate_cdns"`
		}
		within(t, time.Minute, "decisions of the session", func() error {
			got := rows[decision](t, u.ClickHouse, "SELECT kind, chosen, arms, reason_code, candidate_cdns FROM spillway.decisions WHERE session_id = '%s' AND kind = 'dispatch'", page.Session)
			if len(got) == 1 && got[0].Chosen == page.CDNs[0] && got[0].Reason != "" && len(got[0].Candidates) == 3 && got[0].Arms == page.Arms {
				return nil
			}
			return fmt.Errorf("%+v", got)
		})
		type exposure struct {
			Experiment, Arm string
			Propensity      float64
		}
		within(t, time.Minute, "exposure of the session", func() error {
			got := rows[exposure](t, u.ClickHouse, "SELECT experiment, arm, propensity FROM spillway.exposures WHERE session_id = '%s'", page.Session)
			if len(got) == 1 && got[0].Experiment+"="+got[0].Arm == page.Arms && got[0].Propensity > 0 {
				return nil
			}
			return fmt.Errorf("%+v", got)
		})
	})
	t.Run("what is not worth showing leaves the hot list", func(t *testing.T) { hotListFollows(t, u, ctx) })
	u.interrupt()
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
