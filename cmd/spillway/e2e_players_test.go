package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/players"
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
}

// playFor is how long each player plays: SPILLWAY_E2E_PLAY_S seconds, 60 for the full proof.
func playFor() float64 {
	var s float64
	if _, err := fmt.Sscan(os.Getenv("SPILLWAY_E2E_PLAY_S"), &s); err != nil || s <= 0 {
		return 10
	}
	return s
}

// TestPlayers: real players play every format that they support through an
// edge, without an error.
func TestPlayers(t *testing.T) {
	libs, err := filepath.Glob("../../dashboards/player/static/vendor/hls-*.min.js")
	if err != nil || len(libs) == 0 {
		t.Fatalf("no hls.js: %v", err)
	}
	hlsJS, err := os.ReadFile(libs[len(libs)-1])
	if err != nil {
		t.Fatal(err)
	}
	u := up(t, environment(t), t.TempDir(), "--viewers", "0")
	page := httptest.NewServer(players.Handler(hlsJS))
	t.Cleanup(page.Close)
	ctx := browser(t)
	if dir := os.Getenv("SPILLWAY_E2E_KEEP"); dir != "" {
		t.Cleanup(func() {
			_, b, _ := httpGet(strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8") + "manifest.mpd")
			t.Log(b)
		})
	}
	base := strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8")
	within(t, 60*time.Second, "the MPD is one of low latency", func() error {
		_, b, err := httpGet(base + "manifest.mpd")
		if err == nil && !strings.Contains(b, "availabilityTimeOffset") {
			err = errors.New(b)
		}
		return err
	})
	for _, c := range []struct{ player, manifest string }{
		{"dash", "manifest.mpd"}, {"shaka", "manifest.mpd"}, {"hls", "multivariant.m3u8"}, {"shaka", "multivariant.m3u8"},
		{"hls", "ts.m3u8"}, {"shaka", "ts.m3u8"},
	} {
		t.Run(c.player+" "+c.manifest, func(t *testing.T) {
			r := play(t, ctx, page.URL, c.player, base+c.manifest, playFor())
			t.Logf("%s %s: first frame after %.0f ms, %d stalls, %d seeks, %d frames, %v, %v", c.player, c.manifest, r.FirstMs, r.Stalls, r.Seeks, r.Frames, r.More, r.Hosts)
			if len(r.Errors) > 0 {
				t.Errorf("errors: %s", strings.Join(r.Errors, "\n"))
			}
			if r.Audio == 0 {
				t.Error("no sound was decoded")
			}
		})
	}
}

// play lets a player play for some seconds of media and gives its report.
func play(t *testing.T, browser context.Context, page, player, manifest string, seconds float64) playerReport {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	defer cancel()
	q := url.Values{"player": {player}, "url": {manifest}}
	if err := chromedp.Run(ctx, chromedp.Navigate(page+"/?"+q.Encode())); err != nil {
		t.Fatal(err)
	}
	var r playerReport
	first := -1.0
	within(t, 45*time.Second+time.Duration(2*seconds)*time.Second, fmt.Sprintf("%s plays %.0f s of %s", player, seconds, manifest), func() error {
		var err error
		if r, err = evaluate[playerReport](ctx, "JSON.parse(report())"); err != nil {
			return err
		}
		if len(r.Errors) > 20 {
			t.Fatalf("errors: %s", strings.Join(r.Errors, "\n"))
		}
		if r.FirstMs > 0 && first < 0 {
			first = r.Time
		}
		if first < 0 || r.Time-first < seconds || r.Width == 0 {
			return fmt.Errorf("%w: %+v", errors.New("not yet"), r)
		}
		return nil
	})
	return r
}
