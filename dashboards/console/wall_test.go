package console

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	cdpio "github.com/chromedp/cdproto/io"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// crowd puts n live streams with a picture each on the bus, and says each second
// how they do, with a new picture of a tenth of them. Off are not on the hot list.
func crowd(t testing.TB, b *bustest.Bus, n int, off map[int]string) {
	t.Helper()
	kv := func(name string) func(key string, v any) {
		k, err := b.JS.KeyValue(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return func(key string, v any) {
			data, err := json.Marshal(v)
			if err == nil {
				_, err = k.Put(context.Background(), key, data)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	streams, hot := kv(schemas.BucketStreams), kv(schemas.BucketHot)
	var jpegs [8][]byte
	for i := range jpegs {
		jpegs[i] = testJPEG(t, i)
	}
	key := func(i int) schemas.StreamKey { return schemas.StreamKey{App: "live", Stream: fmt.Sprintf("s%03d", i)} }
	for i, why := range off {
		hot(key(i).KVKey(), schemas.HotState{App: "live", Stream: key(i).Stream, Off: true, Reasons: []string{why}, SinceUs: 1, Told: true})
	}
	for i := range n {
		publishPicture(t, b.JS, key(i), time.Now(), jpegs[i%8])
	}
	tell := func(round int) {
		for i := range n {
			s := stateOf(key(i), time.Now())
			s.Stats.VideoBps += int64((round*7919 + i*104729) % 900_000)
			streams(key(i).KVKey(), s)
			if (i+round)%10 == 0 && round > 0 {
				publishPicture(t, b.JS, key(i), time.Now(), jpegs[(i+round)%8])
			}
		}
	}
	tell(0)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := 1; ; round++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
				tell(round)
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// startAny is start for benchmarks, too.
func startAny(t testing.TB, s Settings) *Console {
	t.Helper()
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, c.Run)
	return c
}

// TestPictureWall: two hundred streams on one page, of which only those near the
// window are drawn and have pictures fetched; marks, filter, order and keys.
func TestPictureWall(t *testing.T) {
	t.Parallel()
	chromium := browsertest.Start(t)
	b := bustest.Start(t)
	crowd(t, b, 200, map[int]string{3: schemas.HotFrozen, 7: schemas.HotBlack, 11: schemas.HotBackground})
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	tab := chromium.Tab
	until := func(what, js string) {
		t.Helper()
		await.Text(t, what, func() string {
			ok, err := browser.Evaluate[bool](tab, "Boolean("+js+")")
			if err != nil {
				return err.Error()
			}
			if !ok {
				return strings.Join(chromium.Errors(), "\n")
			}
			return ""
		})
	}
	if err := chromedp.Run(tab, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(c.URL()+"/pictures")); err != nil {
		t.Fatal(err)
	}
	until("200 cards", `document.querySelectorAll(".pictures > li").length === 200`)
	until("pictures where one looks", `[...document.querySelectorAll(".pictures img")].filter(i => i.complete && i.naturalWidth === 320).length >= 15`)
	until("nothing far away", `document.querySelectorAll(".pictures img").length < 80 && document.querySelector(".pictures > li:last-child").childElementCount === 0`)
	until("marks", `[...document.querySelectorAll(".pictures .marks")].map(e => e.textContent).filter(Boolean).join() === "frozen,black,in background"`)
	until("figures", `/30 fps · [23].\d Mbit\/s · 1280×720/.test(document.querySelector(".pictures .facts").textContent)`)
	choose := func(id, value string) string {
		return `(() => { const e = document.getElementById("` + id + `"); e.value = "` + value + `"; e.dispatchEvent(new Event("input")); return true })()`
	}
	until("a filter", choose("shown", "Off the hot list"))
	until("three of them", `document.querySelectorAll(".pictures > li").length === 3 && /^3 of 200/.test(document.querySelector(".tools .note").textContent)`)
	until("a word", choose("filter", "S007")+` && document.querySelectorAll(".pictures > li").length === 1`)
	until("no filter", choose("filter", "")+" && "+choose("shown", "All streams"))
	until("another order", choose("sort", "Off the hot list first")+` && [...document.querySelectorAll(".pictures > li .title")].slice(0, 3).map(e => e.textContent).join() === "live/s003,live/s007,live/s011"`)
	until("the first is focused", `(document.querySelector(".pictures a").focus(), document.activeElement.className === "title")`)
	press := func(key string) {
		t.Helper()
		if err := chromedp.Run(tab, chromedp.KeyEvent(key)); err != nil {
			t.Fatal(err)
		}
	}
	press("\u0303") // arrow right
	until("the second is focused", `document.activeElement.textContent === "live/s007"`)
	press("\u0305") // end
	until("the last is focused, and drawn", `document.activeElement.textContent === "live/s199" && document.activeElement.closest("li").querySelector("img").naturalWidth === 320`)
	press("/")
	until("the filter is focused", `document.activeElement.id === "filter"`)
	if e := chromium.Errors(); len(e) > 0 {
		t.Errorf("the browser's console: %v", e)
	}
	// A private stream's picture is shown to who has given the admin token in Settings.
	put(t, bucket(t, b.JS, schemas.BucketApps), "live.s001", schemas.AppSettings{Private: true})
	await.True(t, "the stream is private", func() bool {
		return c.access.Of(schemas.StreamKey{App: "live", Stream: "s001"}, time.Now()).Private
	})
	open := func(page string) {
		t.Helper()
		if err := chromedp.Run(tab, chromedp.Navigate(c.URL()+page)); err != nil {
			t.Fatal(err)
		}
	}
	const card = `[...document.querySelectorAll(".stream")].find(e => e.querySelector(".title")?.textContent === "live/s001")`
	const says = `"private: open Settings with the admin token"`
	for _, page := range []string{"/pictures", "/"} {
		open(page)
		until("who has no token is told so on "+page, card+`?.querySelector(".nopicture:not([hidden])")?.textContent === `+says)
	}
	open("/streams/live/s001")
	until("and on the stream's page", `document.querySelector(".frame .nopicture:not([hidden])")?.textContent === `+says+` && document.querySelector(".empty:not([hidden])").textContent.includes(`+says+`)`)
	open("/settings")
	until("the token is given", `(document.getElementById("token").value = "sesame", document.querySelector("form button").click(), true)`)
	until("it is taken", `document.getElementById("forget")`)
	open("/pictures")
	until("the picture", card+`?.querySelector("img:not([hidden])")?.naturalWidth === 320`)
	open("/streams/live/s001")
	until("the stream's picture", `document.querySelector(".frame.large img").naturalWidth === 320`)
	open("/settings")
	until("forgetting is there", `document.getElementById("forget")`)
	until("the token is forgotten", `(document.getElementById("forget").click(), true)`)
	until("and asked for again", `!document.querySelector("form.controls").hidden && !document.getElementById("forget")`)
	open("/streams/live/s001")
	until("no picture any more", `document.querySelector(".frame .nopicture:not([hidden])")?.textContent === `+says)
}

// traceEvent is one of Chromium's trace, times in microseconds.
type traceEvent struct {
	Name string  `json:"name"`
	Ph   string  `json:"ph"`
	Ts   float64 `json:"ts"`
	Dur  float64 `json:"dur"`
	CPU  float64 `json:"tdur"` // of the thread
	Pid  int     `json:"pid"`
	Tid  int     `json:"tid"`
	Args struct {
		Name string `json:"name"`
	} `json:"args"`
}

// traced runs f while Chromium traces, and gives what happened.
func traced(t testing.TB, tab context.Context, f func()) []traceEvent {
	t.Helper()
	ended := make(chan *tracing.EventTracingComplete, 1)
	chromedp.ListenTarget(tab, func(e any) {
		if e, ok := e.(*tracing.EventTracingComplete); ok {
			ended <- e
		}
	})
	begin := tracing.Start().WithTransferMode(tracing.TransferModeReturnAsStream).
		WithTraceConfig(&tracing.TraceConfig{IncludedCategories: []string{"devtools.timeline", "devtools.timeline.frame", "toplevel", "disabled-by-default-devtools.timeline", "v8"}})
	if err := chromedp.Run(tab, begin); err != nil {
		t.Fatal(err)
	}
	f()
	if err := chromedp.Run(tab, tracing.End()); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	err := chromedp.Run(tab, chromedp.ActionFunc(func(ctx context.Context) error {
		at := (<-ended).Stream
		for {
			data, eof, err := cdpio.Read(at).Do(ctx)
			if err != nil {
				return err
			}
			text.WriteString(data)
			if eof {
				return cdpio.Close(at).Do(ctx)
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		TraceEvents []traceEvent `json:"traceEvents"`
	}
	if err := json.Unmarshal([]byte(text.String()), &all); err != nil {
		t.Fatal(err)
	}
	return all.TraceEvents
}

// script are the events that are script running; nested ones are counted once.
var script = map[string]bool{"FunctionCall": true, "EvaluateScript": true, "EventDispatch": true, "FireAnimationFrame": true, "TimerFire": true, "v8.callFunction": true}

// scrolled is what the page's main thread did, milliseconds by the clock, and of its own processor time,
// which other programs on the machine do not lengthen.
type scrolled struct {
	longestMs, longestCPUMs float64
	scriptMs, scriptCPUMs   []float64          // between two frames, sorted
	worst                   map[string]float64 // all that went on in the frame with the most script, processor time by event, ms
}

// mainThread reads a trace.
func mainThread(events []traceEvent) (r scrolled) {
	main := map[[2]int]bool{}
	for _, e := range events {
		if e.Name == "thread_name" && e.Args.Name == "CrRendererMain" {
			main[[2]int{e.Pid, e.Tid}] = true
		}
	}
	var list []traceEvent
	for _, e := range events {
		if main[[2]int{e.Pid, e.Tid}] {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b traceEvent) int { return cmp.Or(cmp.Compare(a.Ts, b.Ts), cmp.Compare(b.Dur, a.Dur)) })
	sum, cpu, covered, most := 0.0, 0.0, 0.0, -1.0
	in := map[string]float64{}
	frame := func() {
		if cpu > most {
			most, r.worst = cpu, in
		}
		in = map[string]float64{}
		r.scriptMs, r.scriptCPUMs = append(r.scriptMs, sum), append(r.scriptCPUMs, cpu)
		sum, cpu = 0, 0
	}
	for _, e := range list {
		if e.Ph == "X" {
			in[e.Name] += e.CPU / 1000
		}
		switch {
		case e.Ph == "X" && strings.HasSuffix(e.Name, "RunTask"):
			r.longestMs, r.longestCPUMs = max(r.longestMs, e.Dur/1000), max(r.longestCPUMs, e.CPU/1000)
		case e.Ph == "b" && e.Name == "AnimationFrame":
			frame()
		case e.Ph == "X" && script[e.Name] && e.Ts >= covered:
			sum, cpu = sum+e.Dur/1000, cpu+e.CPU/1000
			covered = e.Ts + e.Dur
		}
	}
	frame()
	slices.Sort(r.scriptMs)
	slices.Sort(r.scriptCPUMs)
	return r
}

// BenchmarkWallScroll scrolls through 200 streams, up and down, while their
// pictures and figures change: no task is to last over 50 ms, nor a frame to have
// over 4 ms of script. It needs a quiet machine; the figures with cpu hold on any.
func BenchmarkWallScroll(b *testing.B) {
	chromium := browsertest.Start(b)
	bus := bustest.Start(b)
	crowd(b, bus, 200, map[int]string{3: schemas.HotFrozen, 7: schemas.HotBlack})
	c := startAny(b, Settings{JetStream: bus.JS, ClickHouse: nowhere})
	if err := chromedp.Run(chromium.Tab, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(c.URL()+"/pictures")); err != nil {
		b.Fatal(err)
	}
	await.Text(b, "pictures", func() string {
		n, err := browser.Evaluate[int](chromium.Tab, `[...document.querySelectorAll(".pictures img")].filter(i => i.naturalWidth === 320).length`)
		if err != nil || n < 15 {
			return fmt.Sprint(n, err)
		}
		return ""
	})
	for b.Loop() {
		events := traced(b, chromium.Tab, func() {
			for _, distance := range []float64{-8000, 8000} {
				scroll := input.SynthesizeScrollGesture(640, 400).WithYDistance(distance).WithSpeed(2000).WithGestureSourceType(input.GestureMouse)
				if err := chromedp.Run(chromium.Tab, scroll); err != nil {
					b.Fatal(err)
				}
			}
		})
		r := mainThread(events)
		n := len(r.scriptMs)
		if n < 60 {
			b.Fatalf("only %d frames were traced", n)
		}
		for name, ms := range r.worst {
			if ms > 0.3 {
				b.Logf("in the frame with the most script: %s %.2f ms", name, ms)
			}
		}
		b.ReportMetric(r.longestMs, "longest-task-ms")
		b.ReportMetric(r.longestCPUMs, "longest-task-cpu-ms")
		b.ReportMetric(r.scriptMs[n-1], "most-script-ms/frame")
		b.ReportMetric(r.scriptCPUMs[n-1], "most-script-cpu-ms/frame")
		b.ReportMetric(r.scriptMs[n*99/100], "p99-script-ms/frame")
		b.ReportMetric(r.scriptMs[n/2], "median-script-ms/frame")
		b.ReportMetric(float64(n), "frames")
	}
}
