package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/analytics/experiments/web"
	"github.com/spillway-live/spillway/analytics/story"
	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
)

// weigh counts what the pages fetch, event streams and pictures left out. The
// function gives, and forgets, what has come since its last call.
func weigh(t *testing.T, tab context.Context) func() (count int, bytes float64) {
	t.Helper()
	var mu sync.Mutex
	requests, bytes := 0, 0.0
	live := map[network.RequestID]bool{}
	chromedp.ListenTarget(tab, func(e any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case *network.EventResponseReceived:
			live[e.RequestID] = e.Response.MimeType == "text/event-stream" || strings.HasPrefix(e.Response.MimeType, "image/jpeg")
		case *network.EventLoadingFinished:
			if !live[e.RequestID] {
				requests++
				bytes += e.EncodedDataLength
			}
		}
	})
	if err := chromedp.Run(tab, network.Enable()); err != nil {
		t.Fatal(err)
	}
	return func() (int, float64) {
		mu.Lock()
		defer mu.Unlock()
		n, b := requests, bytes
		requests, bytes = 0, 0
		return n, b
	}
}

// TestInBrowser opens the pages as a person does. With SPILLWAY_SCREENSHOTS set
// to a folder, it leaves pictures of them there.
func TestInBrowser(t *testing.T) {
	chromium := browsertest.Start(t)
	ctx, errors := chromium.Tab, chromium.Errors
	weight := weigh(t, ctx)
	b := bustest.Start(t)
	srv, conn := database(t)
	registerCDNs(t, b.JS)
	streams := bucket(t, b.JS, schemas.BucketStreams)
	keys := []schemas.StreamKey{{App: "live", Stream: "demo"}, {App: "live", Stream: "arena-1"}, {App: "live", Stream: "arena-2"},
		{App: "shop", Stream: "kitchen"}, {App: "shop", Stream: "a-stream-with-a-rather-long-name"}, {App: "radio", Stream: "night"}}
	for i, k := range keys {
		for j := range 12 {
			publishPicture(t, b.JS, k, time.Now().Add(time.Duration(j-12)*10*time.Second), testJPEG(t, i*3+j))
		}
	}
	publishPicture(t, b.JS, schemas.StreamKey{App: "shop", Stream: "gone"}, time.Now(), testJPEG(t, 2))
	gone := stateOf(schemas.StreamKey{App: "shop", Stream: "gone"}, time.Now().Add(-2*time.Minute))
	gone.Live, gone.EndReason = false, `<img src=x onerror="document.title='owned'">`
	put(t, streams, "shop.gone", gone)
	pushes, states := bucket(t, b.JS, schemas.BucketPushes), bucket(t, b.JS, schemas.BucketPushStates)
	put(t, pushes, "cdn-b", schemas.PushTarget{App: "live", Stream: "demo", URL: "rtmp://cdn-b.example/live/sesame"})
	put(t, pushes, "later", schemas.PushTarget{App: "shop", URL: "rtmp://later.example/live/{stream}-sesame"})
	failing := schemas.PushState{Target: "cdn-b", App: "live", Stream: "demo", Phase: schemas.PushBackingOff, Reason: "the target ended the connection: EOF", Reconnects: 7, SinceUnixUs: time.Now().UnixMicro()}
	alive, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; alive.Err() == nil; n++ {
			put(t, states, schemas.PushStateKey("cdn-b", keys[0]), failing)
			for i, k := range keys {
				s := stateOf(k, time.Now())
				s.Stats.VideoBps += int64((n*7919 + i*104729) % 300_000)
				s.Stats.FPS += float64((n*31+i)%7)/50 - 0.06
				put(t, streams, k.KVKey(), s)
			}
			select {
			case <-alive.Done():
			case <-time.After(time.Second):
			}
		}
	})
	defer wg.Wait()
	defer stop()
	var groups []watching
	for i, k := range keys[:5] {
		groups = append(groups, watching{k, "a", 9 - i, 0.002, 1800, 300}, watching{k, "b", 6 - i, 0.003, 2100, 420}, watching{k, "c", 5 - i/2, 0.001, 1500, 260})
	}
	now := time.Now()
	plant(t, conn, now.Add(-14*time.Minute), now.Add(-50*time.Second), groups...)
	for i := range groups {
		if groups[i].cdn == "b" {
			groups[i].stall, groups[i].latencyMs = 0.31, 4800
		}
	}
	// Into the future, so that the test may take its time.
	plant(t, conn, now.Add(-50*time.Second), now.Add(90*time.Second), groups...)
	play, err := player.Handler("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	plantExperiment(t, b.JS, conn)
	c := start(t, Settings{
		Experiments: &web.Server{JS: b.JS, ClickHouse: conn},
		JetStream:   b.JS, ClickHouse: srv.NativeURL(chserver.Analyst), RouterURL: "http://127.0.0.1:1", Player: play, AdminToken: "admin",
		Story: func(ctx context.Context, id string) (any, error) {
			return story.BuildTimeline(ctx, conn, "spillway", id)
		},
	})

	shots := os.Getenv("SPILLWAY_SCREENSHOTS")
	shot := func(name string) {
		if shots == "" {
			return
		}
		for _, dark := range []bool{false, true} {
			for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
				scheme := map[bool]string{false: "light", true: "dark"}[dark]
				var png []byte
				if err := chromedp.Run(ctx, chromedp.EmulateViewport(size[0], size[1]),
					emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
					chromedp.Evaluate("scrollTo(0, 0)", nil), chromedp.Sleep(1300*time.Millisecond), chromedp.CaptureScreenshot(&png)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(shots, fmt.Sprintf("%s-%d-%s.png", name, size[0], scheme)), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := chromedp.Run(ctx, chromedp.EmulateViewport(1280, 800)); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what, js string) {
		t.Helper()
		await.Text(t, what, func() string {
			var ok bool
			if err := chromedp.Run(ctx, chromedp.Evaluate("Boolean("+js+")", &ok)); err != nil {
				return err.Error()
			}
			if !ok {
				var body string
				_ = chromedp.Run(ctx, chromedp.Evaluate("document.body.innerText", &body))
				return "page says:\n" + body + "\n" + strings.Join(errors(), "\n")
			}
			return ""
		})
	}
	if err := chromedp.Run(ctx, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(c.URL()+"/")); err != nil {
		t.Fatal(err)
	}
	until("six live streams with pictures", `[...document.querySelectorAll(".wall:not(.gone) .stream img")].filter(i => i.complete && i.naturalWidth === 320).length === 6`)
	until("the ended stream, its reason as text", `document.querySelector(".gone .chip.ended") && document.querySelector(".gone .facts").textContent.includes("<img src=x") &&
		!document.querySelector(".facts img") && document.title === "Overview · Spillway"`)
	until("viewers of every CDN", `document.querySelectorAll("table.cdns tbody tr").length === 3 &&
		[...document.querySelectorAll("table.cdns tbody tr td:nth-child(2) .value")].map(e => e.textContent).join() === "35,20,21"`)
	until("the faulty CDN in red", `document.querySelector("table.cdns tr.c1 .value.bad")`)
	until("the good ones not", `document.querySelectorAll("table.cdns .value.bad").length === 1`)
	until("sparklines", `[...document.querySelectorAll("table.cdns .spark .line")].filter(p => p.getAttribute("d").length > 200).length === 12`)
	n, bytes := weight()
	t.Logf("overview: %d requests, %.1f kB without pictures", n, bytes/1000)
	if bytes > 300_000 {
		t.Errorf("the overview weighs %.0f bytes without pictures, more than 300 kB", bytes)
	}
	shot("overview")

	if err := chromedp.Run(ctx, chromedp.Navigate(c.URL()+"/cdns")); err != nil {
		t.Fatal(err)
	}
	until("five charts", `document.querySelectorAll(".chart canvas").length === 5`)
	n, bytes = weight()
	t.Logf("CDNs: %d requests, %.1f kB", n, bytes/1000)
	shot("cdns")

	if err := chromedp.Run(ctx, chromedp.Navigate(c.URL()+"/pushes")); err != nil {
		t.Fatal(err)
	}
	until("push targets, the failing one with its reason and reconnects, no key", `[...document.querySelectorAll("table.pushes tbody tr")].map(r => r.cells[0].textContent + " " + r.cells[3].textContent + " " + r.cells[7].textContent).join() === "cdn-b backing off 7,later idle "
		&& document.querySelector(".badge.bad") && document.body.textContent.includes("target ended") && !document.body.textContent.includes("sesame")`)
	shot("pushes")

	if err := chromedp.Run(ctx, chromedp.Navigate(c.URL()+"/"), chromedp.WaitVisible(`a[href="/streams/live/demo"]`), chromedp.Click(`a[href="/streams/live/demo"]`)); err != nil {
		t.Fatal(err)
	}
	until("the stream's pictures", `document.querySelectorAll(".strip li").length === 12 && document.querySelector(".frame.large img").naturalWidth === 320`)
	until("the stream's viewers", `document.querySelectorAll(".bars li").length === 3 && document.querySelector(".pairs dd").textContent === "20"`)
	if err := chromedp.Run(ctx, chromedp.Click(".strip li:nth-child(3) button")); err != nil {
		t.Fatal(err)
	}
	until("a permalink to a picture", `/^#picture-\d+$/.test(location.hash)`)
	shot("stream")
	if err := chromedp.Run(ctx, chromedp.Click(".primary")); err != nil {
		t.Fatal(err)
	}
	until("the player's frame", `document.querySelector("iframe[src='/play/live/demo']")?.contentDocument?.getElementById("video")`)
	if os.Getenv("SPILLWAY_PAGES") != "" { // ./dev test:pages
		drillDown(t, ctx, c, conn, until)
		weighAndCheckPages(t, ctx, c, weight, until)
	}
	stopped, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := srv.Stop(stopped); err != nil {
		t.Fatal(err)
	}
	until("the outage of ClickHouse said, with its time", `/ClickHouse does not answer since \d\d:\d\d:\d\d/.test(document.getElementById("banner").textContent) &&
		document.getElementById("pulse").textContent === "partly stale"`)
	if e := errors(); len(e) > 0 {
		// The framed player asks a router that is not there, and the page ClickHouse, which was stopped; everything
		// before that must be silent.
		for _, s := range e {
			if strings.Contains(s, "503") && strings.Contains(s, "/v1/streams/live/demo/") {
				continue
			}
			if !strings.Contains(s, "127.0.0.1:1/") && !strings.Contains(s, "ERR_UNSAFE_PORT") && !strings.Contains(s, "ERR_CONNECTION_REFUSED") {
				t.Errorf("the browser's console: %s", s)
			}
		}
	}
}
