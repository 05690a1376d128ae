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
	"github.com/spillway-live/spillway/testenv/players"
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
	Log    []players.Event
	At     float64 // playhead, s
	Errors []string
	Unsent int // posts of the player's reports that no collector took
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
				not = append(not, fmt.Sprintf("%s: %+v at %.2f s, errors %v", v.sid, players.Account(v.page.Log), v.page.At, v.page.Errors))
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
