package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestInBrowser opens the pages as a person does, with a mouse, with keys alone, and on
// a phone, weighs them, and takes ClickHouse away. With SPILLWAY_SCREENSHOTS set to a
// folder, it leaves pictures of some there.
func TestInBrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	weight := s.weigh()
	s.run("a window", chromedp.EmulateViewport(1280, 800))
	s.open("/")
	s.until("six live streams with pictures", `[...document.querySelectorAll(".wall:not(.gone) .stream img")].filter(i => i.complete && i.naturalWidth === 320).length === 6`)
	s.until("the ended stream, its reason as text", `document.querySelector(".gone .chip.ended") && document.querySelector(".gone .facts").textContent.includes("<img src=x") &&
		!document.querySelector(".facts img") && document.title === "Overview · Spillway"`)
	s.until("viewers of every CDN", `document.querySelectorAll("table.cdns tbody tr").length === 3 &&
		[...document.querySelectorAll("table.cdns tbody tr td:nth-child(2) .value")].map(e => e.textContent).join() === "35,20,21"`)
	s.until("the faulty CDN in red", `document.querySelector("table.cdns tr.c1 .value.bad")`)
	s.until("the good ones not", `document.querySelectorAll("table.cdns .value.bad").length === 1`)
	s.until("sparklines", `[...document.querySelectorAll("table.cdns .spark .line")].filter(p => p.getAttribute("d").length > 200).length === 12`)
	s.shot("overview")
	s.open("/pushes")
	s.until("push targets, the failing one with its reason and reconnects, no key", `[...document.querySelectorAll("table.pushes tbody tr")].map(r => r.cells[0].textContent + " " + r.cells[3].textContent + " " + r.cells[7].textContent).join() === "cdn-b backing off 7,later idle "
		&& document.querySelector(".badge.bad") && document.body.textContent.includes("target ended") && !document.body.textContent.includes("sesame")`)
	s.shot("pushes")
	s.open("/")
	s.run("click on a stream", chromedp.WaitVisible(`a[href="/streams/live/demo"]`), chromedp.Click(`a[href="/streams/live/demo"]`))
	s.until("the stream's pictures", `document.querySelectorAll(".strip li").length === 12 && document.querySelector(".frame.large img").naturalWidth === 320`)
	s.until("the stream's viewers", `document.querySelectorAll(".bars li").length === 3 && document.querySelector(".pairs dd").textContent === "20"`)
	s.run("click on a picture", chromedp.Click(".strip li:nth-child(3) button"))
	s.until("a permalink to a picture", `/^#picture-\d+$/.test(location.hash)`)
	s.shot("stream")
	s.run("click on the player", chromedp.Click(".primary"))
	s.until("the player's frame", `document.querySelector("iframe[src='/play/live/demo']")?.contentDocument?.getElementById("video")`)

	t.Run("drill-down", func(t *testing.T) { s.on(t).drillDown() })
	t.Run("keys", func(t *testing.T) { s.on(t).byKeys() })
	t.Run("pages", func(t *testing.T) { s.on(t).everyPage(weight) })
	s.on(t).noErrors()
	t.Run("outage", func(t *testing.T) { s.on(t).outage() })
}

// outage takes ClickHouse away from one page and the bus from another, and gives them back: each page says since when,
// and is as before without being loaded again.
func (s *stage) outage() {
	s.t.Helper()
	s.open("/")
	s.until("all is well", `document.querySelector("#pulse.on") && document.getElementById("banner").hidden`)
	s.click.Cut()
	s.until("the outage of ClickHouse said, with its time", `/ClickHouse does not answer since \d\d:\d\d:\d\d/.test(document.getElementById("banner").textContent) &&
		document.getElementById("pulse").textContent === "partly stale"`)
	s.click.Pass()
	s.until("all is well again", `document.querySelector("#pulse.on") && document.getElementById("banner").hidden && document.querySelector("table.cdns tr.c1 .value.bad")`)

	s.open("/experiments")
	s.until("experiments, and all is well", `document.querySelector("#experiments [data-experiment]") && document.querySelector("#pulse.on") && document.getElementById("banner").hidden && (window.openSince = Date.now())`)
	s.bus.Cut()
	s.until("the bus away, with its time, and that experiments are old", `/The bus does not answer since \d\d:\d\d:\d\d: .*experiments/.test(document.getElementById("banner").textContent) && document.querySelector("#experiments [data-experiment]")`)
	s.bus.Pass()
	s.until("experiments, and all is well again", `document.querySelector("#experiments [data-experiment]") && document.querySelector("#pulse.on") && document.getElementById("banner").hidden && window.openSince`)
}

// on is the stage for a part of the test.
func (s *stage) on(t testing.TB) *stage {
	c := *s
	c.t = t
	return &c
}

// noErrors wants the browser's console empty, but for the framed player, which asks a router that is not there.
func (s *stage) noErrors() {
	s.t.Helper()
	for _, e := range s.Errors() {
		if !strings.Contains(e, "127.0.0.1:1/") && !strings.Contains(e, "ERR_UNSAFE_PORT") && !strings.Contains(e, "ERR_CONNECTION_REFUSED") {
			s.t.Errorf("the browser's console: %s", e)
		}
	}
}

// scheme sets the colours that the system asks for: light or dark.
func scheme(name string) chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}})
}

// shot leaves pictures of the page, light and dark, wide and narrow, where they are asked for.
func (s *stage) shot(name string) {
	s.t.Helper()
	dir := os.Getenv("SPILLWAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, colours := range []string{"light", "dark"} {
		for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
			var png []byte
			s.run("picture of "+name, chromedp.EmulateViewport(size[0], size[1]), scheme(colours), chromedp.Evaluate("scrollTo(0, 0)", nil),
				chromedp.Sleep(1300*time.Millisecond), chromedp.CaptureScreenshot(&png))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, size[0], colours)), png, 0o644); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.run("a window", chromedp.EmulateViewport(1280, 800))
}
