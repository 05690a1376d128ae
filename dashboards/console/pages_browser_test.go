package console

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/axe"
	"github.com/spillway-live/spillway/testenv/browser"
)

// maxPageBytes is what a page may weigh without pictures.
const maxPageBytes = 300_000

// drawnPage is a page as a test opens it.
type drawnPage struct {
	name, path string
	// drawn is JavaScript that holds once there is on it what belongs there.
	drawn string
}

// drawnPages gives every page that the console has; one whose content is not known here fails the test.
func (s *stage) drawnPages() (out []drawnPage) {
	s.t.Helper()
	drawn := map[string]string{
		"overview": `document.querySelector(".wall li") && document.querySelectorAll("table.cdns tbody tr").length === 3`,
		"cdns":     `document.querySelectorAll(".chart canvas").length === 5`,
		"pictures": `document.querySelectorAll(".pictures img").length === 6`, "pushes": `document.querySelector("table.pushes tbody tr")`,
		"alerts": `document.querySelector(".alerts li")`, "walls": `document.querySelectorAll(".list a").length === 6`,
		"wall": `document.querySelectorAll(".panel .said[hidden]").length > 2`, "stream": `document.querySelectorAll("#part-sessions a").length > 0`,
		"session": `document.querySelector(".timeline")`, "settings": `document.querySelectorAll("form.fields").length === 3`,
		"experiments": `document.querySelector("#experiments tr[data-experiment]")`, "experiment": `document.querySelector("#report #decision")`,
	}
	keys := map[string]string{"wall": "spillway-cdn-health", "session": url.PathEscape(hostileSession), "experiment": "delay"}
	for _, p := range s.c.pages() {
		js, ok := drawn[p.name]
		if !ok {
			s.t.Fatalf("page %s is new: say here what belongs on it", p.name)
		}
		path := strings.NewReplacer("{$}", "", "{app}", "live", "{stream}", "demo", "{key}", keys[p.name]).Replace(p.path)
		out = append(out, drawnPage{p.name, path, `document.querySelector("#pulse.on") && ` + js})
	}
	return out
}

// admit lets the tab see the settings.
func (s *stage) admit() {
	s.t.Helper()
	s.run("show the admin token", chromedp.Evaluate(`sessionStorage.setItem("token", "admin")`, nil))
}

// drillDown goes from the CDN in red to its streams, to one of them, to a session, by clicks.
func (s *stage) drillDown() {
	s.t.Helper()
	s.open("/")
	s.until("the faulty CDN in red", `document.querySelector("table.cdns tr.c1 .value.bad")`)
	s.run("click on the CDN", chromedp.Click(`table.cdns tr.c1 a.name`))
	s.until("its streams", `location.pathname === "/walls/spillway-streams" && location.search.includes("cdn=b") && document.querySelector("#streams-top a[href='/streams/live/demo']")`)
	s.run("click on the stream", chromedp.Click(`#streams-top a[href='/streams/live/demo']`))
	s.until("the stream's charts, hops or their absence, and sessions", `document.querySelectorAll("#part-sessions a").length > 10 && !document.querySelector("#part-hops .said").textContent.includes("Reading")`)
	s.until("the session that stalled most", toHostileSession)
	s.run("click on the session", chromedp.Evaluate(toHostileSession+`.click()`, nil))
	s.until("its story on one time line", storyDrawn)
	s.until("its names in their columns", `document.querySelector("main").textContent.includes(`+quoteJS(hostileLabel)+`)`)
	s.until("nothing hostile became markup", `!document.querySelector("main img") && !document.querySelector("main b") && document.title.startsWith("Session <img") && document.querySelector("h1").textContent.includes("<img")`)
	// As a label that the walls group by, as the value of a variable, and as a reason.
	for _, path := range []string{"/walls/spillway-qoe?range=1h#qoe-isps", "/walls/spillway-streams?range=1h&stream=" + url.QueryEscape(hostileLabel) + "#streams-sessions", "/alerts"} {
		s.open(path)
		s.until("what is hostile as text on "+path, `[...document.querySelectorAll("#qoe-isps td, .controls, .alerts li")].some((e) => (e.textContent + (e.querySelector("#var-stream")?.value ?? "")).includes(`+quoteJS(hostileLabel)+`))`)
		s.until("and not as markup", `!document.querySelector("main b") && !document.title.includes("owned")`)
	}
}

// toHostileSession is the link to the session whose id is markup and SQL; storyDrawn holds on its page.
var toHostileSession = fmt.Sprintf(`[...document.querySelectorAll("#part-sessions a")].find((a) => decodeURIComponent(a.getAttribute("href")) === %s)`, quoteJS("/sessions/"+hostileSession))

const storyDrawn = `document.querySelectorAll(".timeline .st-stall").length > 0 && document.querySelectorAll(".timeline .own").length === 2 && document.querySelector(".timeline .mark.moved") && document.querySelector("table.rows")`

func quoteJS(s string) string {
	b, _ := json.Marshal(s) // a string encodes
	return string(b)
}

// weigh counts what the pages fetch, event streams and pictures left out. The
// function gives, and forgets, what has come since its last call.
func (s *stage) weigh() func() (requests int, bytes float64) {
	s.t.Helper()
	var mu sync.Mutex
	requests, bytes := 0, 0.0
	left := map[network.RequestID]bool{}
	chromedp.ListenTarget(s.tab, func(e any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case *network.EventResponseReceived:
			left[e.RequestID] = e.Response.MimeType == "text/event-stream" || strings.HasPrefix(e.Response.MimeType, "image/jpeg")
		case *network.EventLoadingFinished:
			if !left[e.RequestID] {
				requests++
				bytes += e.EncodedDataLength
			}
		}
	})
	s.run("listen to the network", network.Enable())
	return func() (int, float64) {
		mu.Lock()
		defer mu.Unlock()
		n, b := requests, bytes
		requests, bytes = 0, 0
		return n, b
	}
}

// everyPage opens each page as somebody who was never there: it weighs less than
// 300 kB, axe-core has nothing against it, light and dark, and nothing of it is
// beside the window, on a phone as on a wall screen.
func (s *stage) everyPage(weight func() (int, float64)) {
	s.t.Helper()
	s.run("no cache", network.SetCacheDisabled(true))
	s.admit()
	for _, p := range s.drawnPages() {
		weight()
		s.open(p.path)
		s.until("what belongs on page "+p.name, p.drawn)
		// Browsers keep pages that were left, and allow six connections to a host.
		if n := s.connected(); n > 3 {
			s.t.Errorf("page %s: %d pages are connected, those that were left among them", p.name, n)
		}
		n, bytes := weight()
		s.t.Logf("page %s: %d requests, %.1f kB without pictures, first paint after %.0f ms", p.name, n, bytes/1000, s.firstPaint())
		if bytes > maxPageBytes || n < 3 {
			s.t.Errorf("page %s weighs %.0f bytes in %d requests, allowed are %d", p.name, bytes, n, maxPageBytes)
		}
		s.accessible(p.name+", light", nil)
		s.run("dark", scheme("dark"))
		s.accessible(p.name+", dark", []string{"color-contrast"})
		s.run("light", scheme("light"))
		for _, width := range []int64{360, 2560} {
			s.run("another window", chromedp.EmulateViewport(width, 800))
			s.fits(p.name, width)
			if width == 360 {
				s.accessible(p.name+", on a phone", []string{"target-size", "scrollable-region-focusable"})
			}
		}
		s.run("a window", chromedp.EmulateViewport(1280, 800))
	}
	s.run("cache", network.SetCacheDisabled(false))
}

// accessible wants axe-core to find nothing.
func (s *stage) accessible(what string, rules []string) {
	s.t.Helper()
	found, err := axe.Violations(s.tab, rules...)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, v := range found {
		s.t.Errorf("page %s: %s", what, v)
	}
}

// fits wants nothing to reach over the window's right edge but what scrolls by itself.
func (s *stage) fits(name string, width int64) {
	s.t.Helper()
	over, err := browser.Evaluate[[]string](s.tab, `(() => {
		const wide = document.documentElement.scrollWidth, all = [];
		if (wide > innerWidth) for (const e of document.querySelectorAll("body *")) {
			if (e.getBoundingClientRect().right > innerWidth + 1) all.push(e.outerHTML.slice(0, 100));
		}
		return wide > innerWidth ? ["it is " + wide + " wide", ...all.slice(0, 5)] : [];
	})()`)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(over) > 0 {
		s.t.Errorf("page %s scrolls sideways at a width of %d: %s", name, width, strings.Join(over, "\n"))
	}
}

// connected is how many pages the console keeps up to date.
func (s *stage) connected() int {
	s.c.hub.mu.Lock()
	defer s.c.hub.mu.Unlock()
	return len(s.c.hub.clients)
}
