package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser"
)

// playPage is what the play page says of itself.
type playPage struct {
	Session, Message string
	Waiting          *schemas.Wait
	Probes           []schemas.ProbeResult
	Dispatch         *schemas.Dispatch
	Ranked           []string // before probing
}

func readPlayPage(ctx context.Context) (playPage, error) {
	return browser.Evaluate[playPage](ctx, `(({session, waiting, probes, dispatch, ranked}) => ({session, waiting, probes, dispatch, ranked,
		message: document.getElementById('message').textContent}))(window.spillway || {})`)
}

// waitsForRoom opens the play page while every CDN is full: the page says which place it has, and comes in when there is room.
func waitsForRoom(t *testing.T, chromium context.Context, u *upProgram) {
	t.Helper()
	room := func(viewers string) {
		t.Helper()
		for cdn := range u.HLS {
			if code, out, errs := command(t, u.env, nil, "cdn", "set", cdn, "--capacity-viewers", viewers); code != 0 {
				t.Fatalf("cdn set: %d %s %s", code, out, errs)
			}
		}
	}
	room("1")
	within(t, time.Minute, "all is full", func() error {
		code, b, err := httpGet(u.Router + "/v1/dispatch?app=live&stream=demo")
		if err == nil && code != 503 {
			err = fmt.Errorf("%d %s", code, b)
		}
		return err
	})
	ctx, cancel := chromedp.NewContext(chromium)
	defer cancel()
	open := func() {
		t.Helper()
		if err := chromedp.Run(ctx, chromedp.Navigate(u.Console+"/play/live/demo")); err != nil {
			t.Fatal(err)
		}
	}
	open()
	var p playPage
	within(t, time.Minute, "the page says its place", func() (err error) {
		if p, err = readPlayPage(ctx); err != nil {
			return err
		}
		if p.Session != "" {
			open() // a session had ended before; now this one has its place
		}
		if p.Waiting == nil {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	var number int
	if _, err := fmt.Sscanf(p.Message, "Many want to watch live/demo right now. You are number %d in the queue", &number); err != nil || number < 1 || number != p.Waiting.Position || p.Waiting.Ticket == "" {
		t.Errorf("%q (%v) of %+v", p.Message, err, p.Waiting)
	}
	room("0")
	within(t, time.Minute, "the page comes in", func() (err error) {
		if p, err = readPlayPage(ctx); err == nil && (p.Session == "" || p.Waiting != nil) {
			err = fmt.Errorf("%+v", p)
		}
		return err
	})
}

// probesCandidates opens the play page with ?probe=1 in a browser that cannot
// reach the CDN that is ranked first: it says so, and is sent to another.
func probesCandidates(t *testing.T, chromium context.Context, u *upProgram) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium)
	defer cancel()
	var p playPage
	// On a busy machine other probes may fail too, or the order of CDNs changes: the page is opened again.
	within(t, time.Minute, "the page is sent to a CDN that it reaches", func() error {
		_, b, err := httpGet(u.Router + "/v1/dispatch?app=live&stream=demo")
		if err != nil {
			return err
		}
		var d schemas.Dispatch
		if err := json.Unmarshal([]byte(b), &d); err != nil || len(d.Candidates) != len(u.HLS) {
			return fmt.Errorf("%s: %v", b, err)
		}
		first := d.Candidates[0].CDN
		x, err := url.Parse(d.Candidates[0].ProbeURL)
		if err != nil {
			t.Fatal(err)
		}
		if err := chromedp.Run(ctx, network.Enable(), network.SetBlockedURLs([]string{x.Scheme + "://" + x.Host + "/*/probe"}),
			chromedp.Navigate(u.Console+"/play/live/demo?probe=1")); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "the page has probed and begins", func() (err error) {
			if p, err = readPlayPage(ctx); err == nil && p.Session == "" {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		if len(p.Probes) != len(p.Ranked) || len(p.Ranked) != len(u.HLS) || p.Ranked[0] != first || p.Dispatch.Candidates[0].CDN == first {
			return fmt.Errorf("%s cannot be reached: %+v", first, p)
		}
		for _, x := range p.Probes {
			if x.Failed != (x.CDN == first) || !x.Failed && (x.FirstByteMs <= 0 || x.TotalMs < x.FirstByteMs) {
				return fmt.Errorf("%s cannot be reached, probed: %+v", first, p.Probes)
			}
		}
		return nil
	})
	type decision struct{ Chosen, Previous string }
	within(t, time.Minute, "the move is recorded", func() error {
		got, err := tryRows[decision](u.ClickHouse, "SELECT chosen, previous FROM spillway.decisions WHERE session_id = '%s' AND kind = 'dispatch' ORDER BY time", p.Session)
		if err == nil && (len(got) != 2 || got[0].Chosen != p.Ranked[0] || got[1] != (decision{p.Dispatch.Candidates[0].CDN, p.Ranked[0]})) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
}
