package console

import (
	"fmt"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/spillway-live/spillway/testenv/browser"
)

// maxStops is how often Tab is pressed before something counts as out of reach.
const maxStops = 150

// stop is where the focus is.
type stop struct {
	At string // the element, for people
	// There says that it is the one looked for.
	There bool
	// Hidden says why whoever looks at the page cannot tell where the focus is; empty: they can.
	Hidden string
}

// stopJS looks at the focus: it needs an outline of 2 px, and must lie within the window and below nothing.
const stopJS = `((wanted) => {
	const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e);
	const at = e.outerHTML.slice(0, 120);
	if (e === document.body) return { At: at, There: false, Hidden: "" };
	let hidden = "";
	const x = Math.min(Math.max(r.left + r.width / 2, 1), innerWidth - 2), y = Math.min(Math.max(r.top + Math.min(r.height / 2, 10), 1), innerHeight - 2);
	const top = document.elementFromPoint(x, y);
	if (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) hidden = "it has no outline";
	else if (r.width === 0 || r.right < 1 || r.bottom < 1 || r.left > innerWidth || r.top > innerHeight) hidden = "it is beside the window";
	else if (top && !e.contains(top) && !top.contains(e) && !top.closest("label")?.contains(e)) hidden = "it is below " + top.outerHTML.slice(0, 120);
	return { At: at, There: e.matches(wanted), Hidden: hidden };
})`

// tabTo presses Tab until the focus is on what a selector tells, and sees at each stop where it is.
func (s *stage) tabTo(what, selector string) {
	s.t.Helper()
	var last stop
	for range maxStops {
		s.run("press Tab", chromedp.KeyEvent(kb.Tab))
		var err error
		if last, err = browser.Evaluate[stop](s.tab, fmt.Sprintf("%s(%s)", stopJS, quoteJS(selector))); err != nil {
			s.t.Fatal(err)
		}
		if last.Hidden != "" {
			s.t.Errorf("on the way to %s nobody sees where the focus is, %s: %s", what, last.Hidden, last.At)
		}
		if last.There {
			return
		}
	}
	s.t.Fatalf("Tab does not lead to %s; it is at %s", what, last.At)
}

// enter presses Enter.
func (s *stage) enter() {
	s.t.Helper()
	s.run("press Enter", chromedp.KeyEvent(kb.Enter))
}

// byKeys goes the way of the clicks by Tab and Enter alone, and changes a setting.
func (s *stage) byKeys() {
	s.t.Helper()
	s.open("/")
	s.until("the faulty CDN in red", `document.querySelector("table.cdns tr.c1 .value.bad") && document.querySelector("#pulse.on")`)
	s.tabTo("the way past the navigation", "a.skip")
	s.enter()
	s.until("the focus in the content", `document.activeElement.id === "main"`)
	s.tabTo("the CDN in red", "tr.c1 a.name")
	s.enter()
	s.until("its streams", `location.pathname === "/walls/spillway-streams" && document.querySelector("#streams-top a[href='/streams/live/demo']")`)
	s.tabTo("a stream", "#streams-top a[href='/streams/live/demo']")
	s.enter()
	s.until("the stream", `document.querySelectorAll(".strip li").length === 12 && `+toHostileSession)
	s.tabTo("the player", "button.primary")
	s.enter()
	s.until("the player's frame", `document.querySelector("iframe[src='/play/live/demo']")`)
	s.enter()
	s.until("no player", `!document.querySelector("iframe")`)
	s.tabTo("a picture", ".strip button")
	s.enter()
	s.until("a permalink to a picture", `/^#picture-\d+$/.test(location.hash)`)
	s.tabTo("a session", "#part-sessions a")
	s.enter()
	s.until("a session's page", `location.pathname.startsWith("/sessions/") && document.querySelector(".timeline")`)
	s.tabTo("the alerts", `nav a[href="/alerts"]`)
	s.enter()
	s.until("the alerts", `document.querySelector(".alerts li a")`)
	s.tabTo("what explains an alert", ".alerts a")
	s.enter()
	s.until("the page that explains it", `location.pathname === "/cdns" && location.hash === "#b" && document.querySelector("tr.aimed")`)
	s.tabTo("the colours", "#theme")
	s.enter()
	s.until("light colours", `document.documentElement.dataset.theme === "light"`)
	s.enter()
	s.enter()
	s.until("the system's colours", `!document.documentElement.dataset.theme`)
	s.settingsByKeys()
}

func (s *stage) settingsByKeys() {
	s.t.Helper()
	s.open("/settings")
	s.until("the question for the token", `document.getElementById("token")`)
	s.tabTo("the token", "#token")
	s.run("type the token", chromedp.KeyEvent("admin"))
	s.enter()
	s.until("the settings", `document.querySelectorAll("form.fields").length === 3`)
	s.tabTo("a CDN's capacity", "#b-capacity_viewers")
	s.run("type a number", chromedp.KeyEvent(kb.End), chromedp.KeyEvent("0"))
	s.enter()
	s.until("it is saved", `document.querySelector(".said").textContent === "b is saved: capacity_viewers."`)
}
