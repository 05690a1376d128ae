package console

import (
	"bytes"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// pageDef is one page. To add one: a line in [Console.pages], and
// static/js/<name>.js, which exports default function (main) and draws into it.
type pageDef struct {
	// name is that of its script, and of the page's attribute data-page.
	name, title string
	// path is a pattern of http.ServeMux; {app}, {stream} and {key} become
	// the attributes data-app, data-stream and data-key.
	path string
	// nav puts it into the navigation, by its title.
	nav bool
	// styles and scripts are further files of static, loaded before the page's own.
	styles, scripts []string
	// check refuses an address, and gives the title where it depends on it; nil: title.
	check func(r *http.Request) (title string, err error)
	// content is drawn by the server into main, below the heading; nil: none.
	// What it gives is markup: make it with html/template. Errors are shown
	// in its place, as text.
	content func(r *http.Request) (template.HTML, error)
}

const (
	uplotStyle  = "vendor/uplot-1.6.32.min.css"
	uplotScript = "vendor/uplot-1.6.32.min.js"
)

// pages gives every page, in the order of the navigation.
func (c *Console) pages() []pageDef {
	uplot := func(d pageDef) pageDef {
		d.styles, d.scripts = append(d.styles, uplotStyle), append(d.scripts, uplotScript)
		return d
	}
	return append([]pageDef{
		{name: "overview", title: "Overview", path: "/{$}", nav: true},
		{name: "pictures", title: "Pictures", path: "/pictures", nav: true},
		uplot(pageDef{name: "cdns", title: "CDNs", path: "/cdns", nav: true}),
		{name: "pushes", title: "Push targets", path: "/pushes", nav: true},
		{name: "alerts", title: "Alerts", path: "/alerts", nav: true},
		{name: "walls", title: "Walls", path: "/walls", nav: true},
		uplot(pageDef{name: "wall", path: "/walls/{key}", check: c.wallTitle}),
		uplot(pageDef{name: "stream", path: "/streams/{app}/{stream}", check: streamTitle}),
		{name: "session", path: "/sessions/{key}", check: sessionTitle},
		{name: "settings", title: "Settings", path: "/settings", nav: true},
	}, c.experimentPages()...)
}

func streamTitle(r *http.Request) (string, error) {
	k := schemas.StreamKey{App: r.PathValue("app"), Stream: r.PathValue("stream")}
	return k.String(), k.Check()
}

func (c *Console) wallTitle(r *http.Request) (string, error) {
	w := c.wall(r.PathValue("key"))
	if w == nil {
		return "", errors.New("there is no such wall: see /walls")
	}
	title := strings.TrimPrefix(w.Title, "Spillway: ")
	return strings.ToUpper(title[:1]) + title[1:], nil
}

// page is what the shell is made from.
type page struct {
	Name, Title, App, Stream, Key, Router string
	// Assets is a hash of all assets, part of their addresses.
	Assets string
	// StallWarn and StallBad are stall ratios from which on values are coloured.
	StallWarn, StallBad float64
	Styles, Scripts     []string
	Nav                 []navLink
	// Shown says that the heading is seen: on pages about one thing.
	Shown   bool
	Content template.HTML
	// Failed says why there is no content.
	Failed string
}

type navLink struct {
	Path, Title string
	Current     bool
}

// show serves one page.
func (c *Console) show(d pageDef, shell *template.Template, assets string) http.HandlerFunc {
	var nav []navLink
	for _, o := range c.pages() {
		if o.nav {
			path := o.path
			if path == "/{$}" {
				path = "/"
			}
			nav = append(nav, navLink{path, o.title, o.name == d.name})
		}
	}
	return func(w http.ResponseWriter, r *http.Request) {
		p := page{
			Name: d.name, Title: d.title, App: r.PathValue("app"), Stream: r.PathValue("stream"), Key: r.PathValue("key"),
			Router: c.s.RouterURL, Assets: assets, Styles: d.styles, Scripts: d.scripts, Nav: nav, Shown: !d.nav,
			StallWarn: c.s.Thresholds.StallWarn, StallBad: c.s.Thresholds.StallBad,
		}
		if d.check != nil {
			title, err := d.check(r)
			if err != nil {
				refuse(w, http.StatusBadRequest, err.Error())
				return
			}
			p.Title = title
		}
		if d.content != nil {
			var err error
			if p.Content, err = d.content(r); err != nil {
				p.Failed = plain(err)
			}
		}
		c.hub.touch(time.Now())
		var b bytes.Buffer
		if err := shell.Execute(&b, p); err != nil {
			c.s.Logger.Error("make page", "page", p.Name, "err", err)
			refuse(w, http.StatusInternalServerError, "the page could not be made")
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		w.Write(b.Bytes())
	}
}
