package players_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/await"
)

// view is one player in a frame of the browser's page. All are in one page: their
// scripts take turns on one thread, which costs far less than a process each.
type view struct {
	player string // hls, dash, shaka or video
	debug  bool   // its debug build
	beacon bool
	gone   bool // its media ends in the middle
	sid    string
	page   pageState
}

// pageState is what session.html keeps.
type pageState struct {
	Log    []entry
	At     float64 // playhead, s
	Errors []string
	Unsent int // posts of the player's reports that no collector took
}

// entry is an event of the video element.
type entry struct {
	Name            string
	At              int64 // Unix ms
	Time, Rate      float64
	Ready           int
	Paused, Seeking bool
}

// truth is what the viewer saw, by the element's events alone.
type truth struct {
	startupMs, stalledMs, seekMs, pausedMs int64
	askingMs                               int64 // how long the call took that told the player what to play
	playedMs                               int64
	started                                bool
	stalls                                 int
	waiting                                bool  // after the last event: it began to play, and neither plays nor is paused
	sinceMs                                int64 // Unix ms of the last change
}

// account reads the events: a wait before the first picture is start-up, one in
// a seek is the seek's, and shaka waits by stopping the clock.
func (p *pageState) account() (m truth) {
	requested, state := int64(0), ""
	to := func(e entry, next string) {
		if next == state {
			return
		}
		d := e.At - m.sinceMs
		switch state {
		case "play":
			m.playedMs += d
		case "stall":
			m.stalledMs += d
		case "seek":
			m.seekMs += d
		case "pause":
			m.pausedMs += d
		}
		if next == "stall" {
			m.stalls++
		}
		state, m.sinceMs = next, e.At
	}
	for _, e := range p.Log {
		wait := e.Name == "waiting" || e.Name == "ratechange" && e.Rate == 0
		switch {
		case e.Name == "request":
			requested = e.At
		case e.Name == "requested":
			m.askingMs = e.At - requested
		case e.Name == "playing", e.Name == "ratechange" && e.Rate > 0 && e.Ready > 2 && !e.Paused && state == "stall":
			if !m.started {
				m.started, m.startupMs = true, e.At-requested
			}
			to(e, "play")
		case !m.started:
		case e.Name == "seeking":
			to(e, "seek")
		case e.Name == "pause":
			to(e, "pause")
		case wait && !e.Paused && !e.Seeking && state == "play":
			to(e, "stall")
		}
	}
	m.waiting = state == "stall" || state == "seek"
	return m
}

func evaluate[T any](ctx context.Context, js string) (v T, err error) {
	var text string
	if err := chromedp.Run(ctx, chromedp.Evaluate("JSON.stringify("+js+")", &text)); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(text), &v)
}

// theatre is a page with a frame for each view.
type theatre struct {
	t     *testing.T
	ctx   context.Context
	views []*view
}

func open(t *testing.T, p *pipeline, views []*view) *theatre {
	t.Helper()
	th := &theatre{t: t, ctx: browser(t), views: views}
	if err := chromedp.Run(th.ctx, chromedp.Navigate(p.pages+"/empty")); err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		kind, stream, file := "cmcd", "film", map[string]string{"hls": "master.m3u8", "video": "film.mp4"}[v.player]
		if file == "" {
			file = "film.mpd"
		}
		if v.gone {
			stream = "gone-" + v.player
		}
		q := url.Values{"player": {v.player}, "url": {p.edge.URL() + "/live/" + stream + "/" + file}, "cid": {"live/" + stream}, "collector": {p.collector}}
		if v.beacon {
			kind = "beacon"
			q.Set("beacon", "1")
		}
		v.sid = v.player + "-" + kind + "-" + stream
		if v.debug {
			q.Set("script", v.player+"-debug")
			v.sid += "-debug"
		}
		q.Set("sid", v.sid)
		th.do(fmt.Sprintf(`{const f = document.createElement('iframe'); f.name = f.id = %q; f.allow = 'autoplay'; f.width = 340; f.src = %q; document.body.append(f);}`, v.sid, "/session?"+q.Encode()))
	}
	return th
}

func (th *theatre) do(js string) {
	th.t.Helper()
	if err := chromedp.Run(th.ctx, chromedp.Evaluate(js+";0", nil)); err != nil {
		th.t.Fatalf("%s: %v", js, err)
	}
}

// each runs JavaScript in the window w of every view that is chosen.
func (th *theatre) each(js string, chosen func(*view) bool) {
	th.t.Helper()
	for _, v := range th.views {
		if chosen(v) {
			th.do(fmt.Sprintf("{const w = frames[%q]; %s}", v.sid, js))
		}
	}
}

// wait until ok says of every chosen view what it waits for. It looks at all of
// them in one call, and not too often: the page is busy enough.
func (th *theatre) wait(what string, chosen, ok func(*view) bool) {
	th.t.Helper()
	await.Slowly(th.t, what, func() string {
		th.read()
		var not []string
		for _, v := range th.views {
			if chosen(v) && !ok(v) {
				not = append(not, fmt.Sprintf("%s: %+v at %.2f s, errors %v", v.sid, v.page.account(), v.page.At, v.page.Errors))
			}
		}
		return strings.Join(not, "\n")
	})
}

// read takes every page's account.
func (th *theatre) read() {
	th.t.Helper()
	all, err := evaluate[map[string]pageState](th.ctx, "Object.fromEntries([...document.querySelectorAll('iframe')].map(f => f.contentWindow).map(w => [w.name, w.state ? {...w.state, at: w.video.currentTime} : {}]))")
	if err != nil {
		th.t.Fatal(err)
	}
	for _, v := range th.views {
		v.page = all[v.sid]
	}
}

// leave takes each page's account and leaves it in the same moment, once it is
// settled; what it saw is in its view then.
func (th *theatre) leave() {
	th.t.Helper()
	th.do(`window.left = {};
		for (const f of document.querySelectorAll('iframe')) {
			const timer = setInterval(() => {
				const w = f.contentWindow;
				if (!w.settled(f.id.includes('gone'))) return;
				clearInterval(timer);
				left[f.id] = JSON.parse(JSON.stringify({...w.state, at: w.video.currentTime}));
				f.src = 'about:blank';
			}, 50);
		}`)
	await.Slowly(th.t, "the pages have settled", func() string {
		left, err := evaluate[map[string]pageState](th.ctx, "left")
		if err != nil {
			th.t.Fatal(err)
		}
		if len(left) < len(th.views) {
			return fmt.Sprintf("%d of %d have", len(left), len(th.views))
		}
		for _, v := range th.views {
			v.page = left[v.sid]
		}
		return ""
	})
}
