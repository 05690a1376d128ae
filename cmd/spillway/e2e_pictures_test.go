//go:build quiet

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// maxPicture is how many bytes a picture of the documentation may have.
const maxPicture = 80_000

// shot is one picture of the documentation.
type shot struct {
	file, path string
	// ready is JavaScript that holds once the page is drawn.
	ready string
	// width and height are of the window, in pixels; of is the element that is left of it, all of it if empty.
	width, height int64
	of            string
	// whole is a page that is taken down to its end, at a scale at which it stays small.
	whole bool
}

// panelsDrawn holds once every panel of a wall has its answer, none is an error, and a third have rows at least.
const panelsDrawn = `(() => {
  const all = [...document.querySelectorAll(".panel")], full = all.filter((p) => p.querySelector(".body").childElementCount);
  return all.length > 0 && 3 * full.length >= all.length && all.every((p) => !p.matches(".stale") && (p.querySelector(".said").hidden || p.querySelector(".said").textContent !== "Reading…"));
})()`

// emptyPanels names the panels of a wall that have no rows.
const emptyPanels = `[...document.querySelectorAll(".panel")].filter((p) => !p.querySelector(".body").childElementCount).map((p) => p.querySelector("h3").textContent)`

// wholeScale is that of pages that are taken down to their end.
const wholeScale = 0.6

// imagesDrawn holds once the images that the window shows are there; the others are fetched when one scrolls.
const imagesDrawn = `[...document.images].every((i) => {
  const r = i.getBoundingClientRect();
  return i.hidden || i.complete || r.top > innerHeight || r.left > innerWidth;
})`

// shots are all pictures that ./dev screenshots makes, of a system in which session is one of the demo stream's.
func shots(session string) []shot {
	one := "/experiments/" + demoExperiment(time.Now()).Name
	const decided = `document.querySelector("#report #decision")`
	all := []shot{
		{file: "console", path: "/", ready: `document.querySelectorAll("table.cdns tbody tr").length === 3 && document.querySelectorAll(".wall img").length > 3`, height: 860},
		{file: "console-cdns", path: "/cdns", ready: `document.querySelectorAll(".chart canvas").length === 5`, height: 980},
		{file: "console-stream", path: "/streams/" + demoApp + "/" + demoStream, ready: `document.querySelectorAll(".strip img").length > 3 && document.querySelectorAll("#part-sessions a").length > 0`, height: 1100},
		{file: "console-session", path: "/sessions/" + url.PathEscape(session), ready: `document.querySelector(".timeline")`, height: 900},
		{file: "console-alerts", path: "/alerts", ready: `document.querySelector(".alerts li")`, height: 500},
		{file: "console-walls", path: "/walls", ready: `document.querySelectorAll("main a[href^='/walls/']").length >= 5`, height: 640},
		{file: "console-pushes", path: "/pushes", ready: `document.querySelector("table.pushes tbody tr")`, height: 420},
		{file: "console-settings", path: "/settings", ready: `document.querySelectorAll("form.fields").length === 3`, height: 820},
		{file: "picture-wall", path: "/pictures", ready: `[...document.querySelectorAll(".pictures img")].filter((i) => i.naturalWidth > 0).length >= 6`, height: 760},
		{file: "experiment-list", path: "/experiments", ready: `document.querySelector("#experiments tr[data-experiment]")`, of: "#experiments", width: 1100, height: 500},
		{file: "experiment-report", path: one, ready: decided, of: "#decision, #primary", width: 1000, height: 2400},
		{file: "experiment-cdf", path: one, ready: `document.querySelector("#distributions [data-distribution=first_screen] svg[role=img]")`, of: "#distributions", width: 1000, height: 2400},
	}
	for _, wall := range []string{"cdn-health", "streams", "qoe", "experiments", "pipeline", "session"} {
		s := shot{file: "wall-" + wall, path: "/walls/spillway-" + wall + "?range=15m", ready: panelsDrawn, height: 1050, whole: true}
		if wall == "session" {
			s.path += "&session=" + url.QueryEscape(session)
		}
		all = append(all, s)
	}
	return all
}

// TestPicturesOfPages leaves a picture of each page of the console, the walls among them, in the folder
// SPILLWAY_PICTURES: of a running "spillway up" in which CDN b has a fault. ./dev screenshots runs it.
func TestPicturesOfPages(t *testing.T) {
	dir := os.Getenv("SPILLWAY_PICTURES")
	if dir == "" {
		t.Fatal("SPILLWAY_PICTURES does not name a folder for the pictures: ./dev screenshots does")
	}
	u := up(t, environment(t), t.TempDir(), "--viewers", "8")
	publishVariety(t, u)
	// Those of the demonstration stay; these come and go, so that the experiment has its sessions soon.
	crowd := &viewer.Pool{
		Config:  viewer.Config{Dispatch: u.Router, App: demoApp, Stream: demoStream},
		Steered: 24, StayMin: 6 * time.Second, StayMax: 12 * time.Second, Regions: []string{"eu", "us", "asia"}, ISPs: []string{"north-net", "south-net"},
	}
	background(t, "viewers who come and go", crowd.Run)
	awaitViewers(t, u, 45*time.Second)
	if code, _, stderr := command(t, u.env, nil, "cdn", "fault", "b", "--rate", "150kbps"); code != 0 {
		t.Fatal(stderr)
	}
	awaitVerdicts(t, u)
	var sessions struct{ Rows [][]any }
	if err := askConsole(u, "/v1/streams/"+demoApp+"/"+demoStream+"/sessions", &sessions); err != nil || len(sessions.Rows) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	tab := browsertest.Start(t).Tab
	secrets, err := loadSecrets(u.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Run(tab, chromedp.Navigate(u.Console+"/settings"), chromedp.Evaluate(fmt.Sprintf(`sessionStorage.setItem("token", %q)`, secrets.AdminToken), nil)); err != nil {
		t.Fatal(err)
	}
	for _, s := range shots(sessions.Rows[0][0].(string)) {
		if !t.Run(s.file, func(t *testing.T) { take(t, tab, u, s, dir) }) {
			u.alive()
		}
	}
}

// publishVariety gives the picture wall something to show: streams that move, and one each that is black, frozen,
// and in the background; and a push to a target that is not there.
func publishVariety(t *testing.T, u *upProgram) {
	t.Helper()
	for _, args := range [][]string{
		{"app", "set", demoApp, "--picture-interval", "3s", "--data", u.dir},
		{"push", "add", "cdn-down", "--stream", demoApp + "/" + demoStream, "--url", "rtmp://127.0.0.1:1/live/{stream}", "--data", u.dir},
	} {
		if code, _, stderr := command(t, u.env, nil, args...); code != 0 {
			t.Fatalf("%v: %s", args, stderr)
		}
	}
	for name, source := range map[string]string{
		"arena": "testsrc2=duration=3600", "fractal": "mandelbrot=maxiter=200:end_pts=3000", "colours": "gradients=duration=3600:speed=0.02", "garden": "life=mold=10:ratio=0.1:death_color=#203040:life_color=#40c080",
		"backstage": "rgbtestsrc=duration=3600", "intermission": "color=c=black", "stuck-camera": "smptehdbars=duration=3600",
	} {
		pushLavfi(t, source+":size=320x180:rate=10", u.Push+"/"+name)
	}
	within(t, time.Minute, "the streams are live", func() error {
		var a struct {
			Streams []struct{ Stream, State string }
		}
		err := askConsole(u, "/v1/streams", &a)
		if err == nil && len(a.Streams) < 8 {
			err = fmt.Errorf("%+v", a)
		}
		return err
	})
	sayBackground(t, u, "backstage", 1, true)
}

// awaitViewers waits until every CDN has served viewers for so long, so that charts show what was before the fault.
func awaitViewers(t *testing.T, u *upProgram, served time.Duration) {
	t.Helper()
	within(t, served+2*time.Minute, "viewers play on every CDN", func() error {
		got, err := tryRows[struct {
			CDN string
			S   float64
		}](u.ClickHouse, "SELECT cdn, dateDiff('second', min(time), max(time)) AS s FROM spillway.session_slices WHERE played_ms > 0 AND cdn != '' GROUP BY cdn HAVING s >= %d", int(served.Seconds()))
		if err == nil && len(got) < 3 {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
}

// awaitVerdicts waits until the fault is an open alert and the experiment was looked at.
func awaitVerdicts(t *testing.T, u *upProgram) {
	t.Helper()
	within(t, 3*time.Minute, "the alert about CDN b", func() error {
		var a struct{ Alerts []schemas.Alert }
		if err := askConsole(u, "/v1/alerts", &a); err != nil {
			return err
		}
		if !slices.ContainsFunc(a.Alerts, func(a schemas.Alert) bool { return a.CDN == "b" && a.State == schemas.AlertOpen }) {
			return fmt.Errorf("%d alerts, none about b", len(a.Alerts))
		}
		return nil
	})
	// A curve is drawn from a hundred starts of each arm on.
	within(t, 5*time.Minute, "a report of the experiment with both arms' curves", func() error {
		var r struct {
			Distributions []report.Distribution
		}
		if err := askConsole(u, "/v1/experiments/"+demoExperiment(time.Now()).Name+"/report.json", &r); err != nil {
			return err
		}
		i := slices.IndexFunc(r.Distributions, func(d report.Distribution) bool { return d.Key == "first_screen" })
		if i < 0 || len(r.Distributions[i].Arms) != 2 {
			return fmt.Errorf("%d distributions", len(r.Distributions))
		}
		for _, a := range r.Distributions[i].Arms {
			if a.Undefined != "" {
				return errors.New(a.Undefined)
			}
		}
		return nil
	})
}

func askConsole(u *upProgram, path string, v any) error {
	code, body, err := httpGet(u.Console + path)
	if err == nil && code != 200 {
		err = fmt.Errorf("%s: %d %s", path, code, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), v)
	}
	return err
}

// maxHeight bounds a page that is taken down to its end, pixels.
const maxHeight = 6000

// grow makes the window as high as the page, so that all of it is drawn; an error says that it was not.
func (s *shot) grow(tab context.Context) error {
	end, err := browser.Evaluate[int64](tab, `Math.ceil(document.querySelector("main").getBoundingClientRect().bottom + scrollY)`)
	if err != nil || end <= s.height || s.height == maxHeight {
		return err
	}
	s.height = min(end, maxHeight)
	if err := chromedp.Run(tab, chromedp.EmulateViewport(s.width, s.height)); err != nil {
		return err
	}
	return fmt.Errorf("the page is %d pixels high", end)
}

// capture gives an area of the page as a PNG of few colours.
func capture(tab context.Context, area page.Viewport) ([]byte, error) {
	var data []byte
	err := chromedp.Run(tab, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		data, err = page.CaptureScreenshot().WithClip(&area).Do(ctx)
		return err
	}))
	if err != nil {
		return nil, err
	}
	return fewColours(data)
}

// take makes one picture.
func take(t *testing.T, tab context.Context, u *upProgram, s shot, dir string) {
	if s.width == 0 {
		s.width = 1280
	}
	if err := chromedp.Run(tab, chromedp.EmulateViewport(s.width, s.height), chromedp.Navigate(u.Console+s.path)); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, s.path+" is drawn", func() error {
		if s.whole {
			if err := s.grow(tab); err != nil {
				return err
			}
		}
		ready, err := browser.Evaluate[bool](tab, `Boolean(document.querySelector("#pulse.on") && `+imagesDrawn+` && `+s.ready+`)`)
		if err == nil && !ready {
			text, _ := browser.Evaluate[string](tab, "document.body.innerText")
			err = errors.New(text)
		}
		return err
	})
	if s.whole {
		empty, err := browser.Evaluate[[]string](tab, emptyPanels)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("panels without rows: %q", empty)
	}
	area := page.Viewport{Width: float64(s.width), Height: float64(s.height), Scale: 1}
	if s.whole {
		area.Scale = wholeScale
	}
	if s.of != "" {
		// What several elements cover, with a margin.
		box, err := browser.Evaluate[[4]float64](tab, fmt.Sprintf(`(() => {
		  const all = [...document.querySelectorAll(%q)].map((e) => e.getBoundingClientRect());
		  const x = Math.min(...all.map((r) => r.left)), y = Math.min(...all.map((r) => r.top));
		  return [x, y, Math.max(...all.map((r) => r.right)) - x, Math.max(...all.map((r) => r.bottom)) - y];
		})()`, s.of))
		if err != nil {
			t.Fatal(err)
		}
		const margin = 12
		area = page.Viewport{X: box[0] - margin, Y: box[1] - margin, Width: box[2] + 2*margin, Height: box[3] + 2*margin, Scale: 1}
	}
	small, err := capture(tab, area)
	for s.whole && err == nil && len(small) > maxPicture && area.Scale > 0.35 {
		area.Scale -= 0.1
		small, err = capture(tab, area)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, at a scale of %.1f", len(small), area.Scale)
	if len(small) > maxPicture {
		t.Errorf("it has %d bytes, more than %d", len(small), maxPicture)
	}
	if err := os.WriteFile(filepath.Join(dir, s.file+".png"), small, 0o644); err != nil {
		t.Fatal(err)
	}
}
