//go:build quiet

package console

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// stalePage is what a page says, beside the banner that is on all, when what it shows is old: JavaScript that gives that text.
var stalePage = map[string]struct{ click, bus string }{
	"wall":    {click: `document.querySelector(".panel.stale .said:not([hidden])")?.textContent`},
	"stream":  {click: `document.querySelector("#part-sessions.stale .said:not([hidden])")?.textContent`},
	"session": {click: `document.querySelector("main > p[role=status]:not([hidden])")?.textContent`},
	"pushes":  {bus: `document.querySelector("main p[role=status]:not([hidden])")?.textContent`},
}

// TestOutagesOnEveryPage is every page without ClickHouse, and without the bus.
func TestOutagesOnEveryPage(t *testing.T) { newStage(t).outages() }

// outages takes ClickHouse and then the bus away from every page, each open in a window of its own, and gives them
// back: each page says what is stale and since when, and is as before without being loaded again.
func (s *stage) outages() {
	s.t.Helper()
	type view struct {
		drawnPage
		tab context.Context
	}
	var views []view
	for _, p := range s.drawnPages() {
		tab := s.window()
		views = append(views, view{p, tab})
		w := s.in(tab)
		if p.name == "settings" {
			w.open("/walls")
			w.admit()
		}
		w.run("a small window", chromedp.EmulateViewport(500, 400)) // which costs less to draw
		w.open(p.path)
	}
	every := func(what string, js func(p drawnPage) string) {
		s.t.Helper()
		for _, v := range views {
			waitIn(s.t, v.tab, v.name+": "+what, js(v.drawnPage), nil)
		}
	}
	whole := func(p drawnPage) string {
		return p.drawn + ` && document.getElementById("banner").hidden && !document.querySelector(".stale, .old, .stale-bus, .stale-numbers")`
	}
	again := func(p drawnPage) string { return whole(p) + " && window.openSince" }
	says := func(banner, class string, own func(p drawnPage) string) func(p drawnPage) string {
		return func(p drawnPage) string {
			js := fmt.Sprintf(`/%s \d\d:\d\d:\d\d/.test(document.getElementById("banner").textContent) && document.documentElement.classList.contains(%q) && document.getElementById("pulse").textContent === "partly stale"`, banner, class)
			if text := own(p); text != "" {
				js += ` && /^As of \d\d:\d\d:\d\d: /.test(` + text + ` ?? "")`
			}
			return js
		}
	}
	every("whole", whole)
	every("marked, so that loading it again shows", func(drawnPage) string { return "window.openSince = Date.now()" })
	s.click.Cut()
	every("without ClickHouse", says("ClickHouse does not answer since", "stale-numbers", func(p drawnPage) string { return stalePage[p.name].click }))
	s.click.Pass()
	every("ClickHouse is back", again)
	s.bus.Cut()
	every("without the bus", says("The bus does not answer since", "stale-bus", func(p drawnPage) string { return stalePage[p.name].bus }))
	s.bus.Pass()
	every("the bus is back", again)
}

// window opens a tab as of another person: they share no connections, of which a browser has six for a host, and every
// page keeps one; and each is seen, so that it draws.
func (s *stage) window() context.Context {
	s.t.Helper()
	var id target.ID
	s.run("another person's window", chromedp.ActionFunc(func(ctx context.Context) error {
		ctx = cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
		person, err := target.CreateBrowserContext().Do(ctx)
		if err != nil {
			return err
		}
		id, err = target.CreateTarget("about:blank").WithBrowserContextID(person).WithNewWindow(true).Do(ctx)
		return err
	}))
	tab, cancel := chromedp.NewContext(s.tab, chromedp.WithTargetID(id))
	s.t.Cleanup(cancel)
	if err := chromedp.Run(tab); err != nil { // before any Run with a deadline, which would end with that one
		s.t.Fatal(err)
	}
	return tab
}

// in is the stage with another tab in front of it.
func (s *stage) in(tab context.Context) *stage {
	c := *s
	c.tab = tab
	return &c
}
