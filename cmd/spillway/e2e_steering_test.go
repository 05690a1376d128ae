//go:build quiet

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/players"
)

// hop is a host that served media, from a moment on.
type hop struct {
	Host string
	At   int64 // Unix ms
}

// steered is what the page of one player says.
type steered struct {
	playerReport
	Hops      []hop
	StalledMs float64
}

// on is the host that served last.
func (s *steered) on() string {
	if len(s.Hops) == 0 {
		return ""
	}
	return s.Hops[len(s.Hops)-1].Host
}

// steeredViews are the players at once, and what each plays.
var steeredViews = []struct{ name, player, manifest string }{
	{"hls.js", "hls", "multivariant.m3u8"}, {"shaka", "shaka", "multivariant.m3u8"}, {"dash.js", "dash", "manifest.mpd"},
}

// TestPlayersAreSteered: three real players watch in one browser when their CDN's
// edge becomes too slow to play from. None of their requests fails, so that
// they would stay; steering takes them to another. Then a CDN that is in no
// manifest is the only one left that serves: hls.js goes there by its clone.
// Three players at a time want a machine that is not busy: ./dev test:steering runs it.
func TestPlayersAreSteered(t *testing.T) {
	env, dir := environment(t), t.TempDir()
	// Simulated viewers are on both CDNs: what they report tells the router which one fails.
	u := up(t, env, dir, "--only", "collector,ingest,packager,origin,router,edge,demo", "--viewers", "3", "--steering-ttl", "2s", "--cdns", "a,b")
	launch(t, env, "sessioniser", "--data", dir, "--nats", u.NATS, "--log-level", "warn")
	hlsJS, err := player.HLSJS()
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(players.Handler(hlsJS))
	t.Cleanup(page.Close)
	b := browsertest.Start(t)
	b.Open(page.URL + "/empty")
	host := map[string]string{}
	for cdn, address := range u.HLS {
		x, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		host[cdn] = x.Host
	}
	within(t, 60*time.Second, "the MPD is one of low latency", func() error {
		_, body, err := httpGet(strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8") + "manifest.mpd")
		if err == nil && !strings.Contains(body, "availabilityTimeOffset") {
			err = errors.New(body)
		}
		return err
	})
	for i, v := range steeredViews {
		q := url.Values{"player": {v.player}, "retry": {"1"}, "url": {u.Router + "/v1/play/live/demo/" + v.manifest}}
		script := fmt.Sprintf(`{const f = document.createElement('iframe'); f.name = 'v%d'; f.allow = 'autoplay'; f.width = 340; f.src = %q; document.body.append(f);} 0`, i, "/?"+q.Encode())
		if err := chromedp.Run(b.Tab, chromedp.Evaluate(script, nil)); err != nil {
			t.Fatal(err)
		}
	}
	read := func() []steered {
		t.Helper()
		texts, err := browser.Evaluate[[]string](b.Tab, "[...document.querySelectorAll('iframe')].map(f => f.contentWindow.report ? f.contentWindow.report() : '{}')")
		if err != nil {
			t.Fatal(err)
		}
		out := make([]steered, len(texts))
		for i := range texts {
			if err := json.Unmarshal([]byte(texts[i]), &out[i]); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	// all waits until every player is where it should be and plays on from there.
	all := func(what string, limit time.Duration, ok func(i int, s *steered) bool) []steered {
		t.Helper()
		var got []steered
		from := map[int]float64{}
		within(t, limit, what, func() error {
			got = read()
			for i := range got {
				s := &got[i]
				if !ok(i, s) {
					delete(from, i)
				} else if _, there := from[i]; !there {
					from[i] = s.Time
				}
			}
			for i := range got {
				if since, there := from[i]; !there || got[i].Time < since+1 {
					return fmt.Errorf("%s: at %.1f s, from %v, errors %v", steeredViews[i].name, got[i].Time, got[i].Hops, got[i].Errors)
				}
			}
			return nil
		})
		return got
	}
	began := time.Now()
	// On a busy machine the router may have found one CDN wanting before: whichever all are on is the one to fail.
	bad, good := "a", "b"
	before := all("every player plays from one CDN", time.Minute, func(i int, s *steered) bool {
		if i == 0 && s.on() == host[good] {
			bad, good = good, bad
		}
		return s.FirstMs > 0 && s.on() == host[bad]
	})
	if d := steadyFor(); d > 0 {
		time.Sleep(d) // the documented run: their buffers are as deep as they get
		before = read()
	}
	fault := time.Now()
	// A quarter of the stream's rate. At 150 kbit/s dash.js waits for the request under way for more than a minute
	// before it heeds steering: no player drops a request that still brings bytes.
	if code, _, stderr := command(t, env, nil, "cdn", "fault", bad, "--rate", "600kbps"); code != 0 {
		t.Fatalf("cdn fault: %s", stderr)
	}
	moved := all("every player plays from the other CDN", time.Minute, func(_ int, s *steered) bool { return s.on() == host[good] })
	rep := steeringReport{Began: began, Fault: fault}
	for i := range moved {
		rep.add(steeredViews[i].name, &before[i], &moved[i], fault, host[good])
	}

	// A third CDN comes, and the good one goes: it is in the manifests of none.
	launch(t, env, "edge", "--name", "d", "--data", dir, "--nats", u.NATS, "--origins", u.Origins, "--routers", u.Router, "--log-level", "warn")
	within(t, time.Minute, "the new CDN is in answers", func() error {
		_, body, err := httpGet(u.Router + "/v1/play/live/demo/multivariant.m3u8")
		if err == nil && !strings.Contains(body, `PATHWAY-ID="d"`) {
			err = errors.New(body)
		}
		return err
	})
	gone := time.Now()
	if code, _, stderr := command(t, env, nil, "cdn", "state", good, "off"); code != 0 {
		t.Fatalf("cdn state: %s", stderr)
	}
	onClone := func(s *steered) bool { return s.on() != "" && s.on() != host["a"] && s.on() != host["b"] }
	var cloned steered
	within(t, time.Minute, "hls.js plays from the clone", func() error {
		cloned = read()[0]
		if !onClone(&cloned) {
			return fmt.Errorf("%v", cloned.Hops)
		}
		return nil
	})
	rep.Clone = float64(cloned.Hops[len(cloned.Hops)-1].At-gone.UnixMilli()) / 1000
	within(t, time.Minute, "and plays on", func() error {
		if s := read()[0]; s.Time < cloned.Time+1 {
			return fmt.Errorf("at %.1f s, errors %v", s.Time, s.Errors)
		}
		return nil
	})
	for i, s := range read() {
		t.Logf("%s at the end: %v, errors %v", steeredViews[i].name, s.Hops, s.Errors)
	}
	t.Logf("%+v", rep)
	if file := os.Getenv("SPILLWAY_STEERING_PLOT"); file != "" {
		if err := os.WriteFile(file, rep.plot(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// steadyFor is how long the players play before the fault: SPILLWAY_STEERING_S seconds.
func steadyFor() time.Duration {
	var s float64
	if _, err := fmt.Sscan(os.Getenv("SPILLWAY_STEERING_S"), &s); err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

// steeringReport is what players did when their CDN became slow.
type steeringReport struct {
	Began, Fault time.Time
	Views        []steeredView
	// Clone is when hls.js was served by a CDN of which it learnt by a clone, seconds from b's end.
	Clone float64
}

type steeredView struct {
	Name string
	// LeftS is when another CDN served it for good, seconds from the fault; StalledMs and Stalls are from the fault until then.
	LeftS     float64
	Stalls    int
	StalledMs float64
}

func (r *steeringReport) add(name string, before, after *steered, fault time.Time, to string) {
	v := steeredView{Name: name, Stalls: after.Stalls - before.Stalls, StalledMs: after.StalledMs - before.StalledMs}
	for _, h := range after.Hops {
		if h.Host == to && h.At > fault.UnixMilli() {
			v.LeftS = float64(h.At-fault.UnixMilli()) / 1000
		}
	}
	r.Views = append(r.Views, v)
}

// plot draws, for each player, the time on the slow CDN and what it stood still of it.
func (r *steeringReport) plot() []byte {
	const left, width, row = 110, 460, 34
	most := 1.0
	for _, v := range r.Views {
		most = max(most, v.LeftS, v.StalledMs/1000)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`, left+width+120, 40+row*len(r.Views))
	fmt.Fprintf(&b, `<text x="10" y="18" font-size="14">An edge limited to 600 kbit/s: time until the player is served by another CDN, and time stalled</text>`)
	for i, v := range r.Views {
		y := 32 + i*row
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+16, v.Name)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="11" fill="#2e7d8c"/><text x="%.1f" y="%d">left after %.1f s</text>`, left, y, v.LeftS/most*width, left+v.LeftS/most*width+6, y+10, v.LeftS)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="11" fill="#d1495b"/><text x="%.1f" y="%d">stalled %.1f s</text>`, left, y+13, v.StalledMs/1000/most*width, left+v.StalledMs/1000/most*width+6, y+23, v.StalledMs/1000)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
