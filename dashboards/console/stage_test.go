package console

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/web"
	"github.com/spillway-live/spillway/analytics/story"
	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/relay"
)

// stage is a console in front of a browser, with something to show on every page:
// six live streams with pictures and viewers on three CDNs, of which b stalls, one
// that ended, push targets, an experiment, an alert, a session. Much of it is hostile.
type stage struct {
	*browsertest.Browser
	t testing.TB
	// tab is the one in front: the browser's first, or another.
	tab context.Context
	c   *Console
	// bus and click are the lines on which the console reads; the test writes past them.
	bus, click *relay.Relay
}

// stageStreams are live on the stage.
var stageStreams = []schemas.StreamKey{
	{App: "live", Stream: "demo"}, {App: "live", Stream: "arena-1"}, {App: "live", Stream: "arena-2"},
	{App: "shop", Stream: "kitchen"}, {App: "shop", Stream: "a-stream-with-a-rather-long-name"}, {App: "radio", Stream: "night"},
}

func newStage(t testing.TB) *stage {
	t.Helper()
	chromium := browsertest.Start(t, browser.Flag{Name: "force-prefers-reduced-motion", Value: true}) // else it draws sixty times a second
	s := &stage{Browser: chromium, t: t, tab: chromium.Tab}
	b := bustest.Start(t)
	srv, conn := database(t)
	plantBus(t, b.JS)
	plantViewers(t, conn)
	plantHostile(t, b.JS, conn)
	plantExperiment(t, b.JS, conn)

	s.click = relay.Start(t, srv.NativeAddr)
	s.bus = relay.Start(t, func() string { return hostOf(t, b.Server.URL()) })
	nc, err := bus.Connect(via(t, b.Server.URL(), s.bus), "console", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	analyst := via(t, srv.NativeURL(chserver.Analyst), s.click)
	o, err := chgo.ParseDSN(analyst)
	if err != nil {
		t.Fatal(err)
	}
	reads, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reads.Close() })
	play, err := player.Handler("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s.c = start(t, Settings{
		Experiments: &web.Server{JS: js, ClickHouse: reads},
		JetStream:   js, ClickHouse: analyst, RouterURL: "http://127.0.0.1:1", Player: play, AdminToken: "admin",
		Story: func(ctx context.Context, id string) (any, error) {
			return story.BuildTimeline(ctx, reads, "spillway", id)
		},
	})
	return s
}

func hostOf(t testing.TB, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// via is an address with the relay's host and port in the place of its own.
func via(t testing.TB, address string, r *relay.Relay) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = r.Addr()
	return u.String()
}

// plantBus puts streams, which go on being told, CDNs, pictures and push targets on the bus.
func plantBus(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	registerCDNs(t, js)
	streams := bucket(t, js, schemas.BucketStreams)
	var jpegs [7][]byte
	for i := range jpegs {
		jpegs[i] = testJPEG(t, i)
	}
	for i, k := range stageStreams {
		for j := range 12 {
			publishPicture(t, js, k, time.Now().Add(time.Duration(j-12)*10*time.Second), jpegs[(i*3+j)%len(jpegs)])
		}
	}
	over := schemas.StreamKey{App: "shop", Stream: "gone"}
	publishPicture(t, js, over, time.Now(), jpegs[2])
	gone := stateOf(over, time.Now().Add(-2*time.Minute))
	gone.Live, gone.EndReason = false, `<img src=x onerror="document.title='owned'">`
	put(t, streams, over.KVKey(), gone)
	pushes, states := bucket(t, js, schemas.BucketPushes), bucket(t, js, schemas.BucketPushStates)
	put(t, pushes, "cdn-b", schemas.PushTarget{App: "live", Stream: "demo", URL: "rtmp://cdn-b.example/live/sesame"})
	put(t, pushes, "later", schemas.PushTarget{App: "shop", URL: "rtmp://later.example/live/{stream}-sesame"})
	failing := schemas.PushState{Target: "cdn-b", App: "live", Stream: "demo", Phase: schemas.PushBackingOff, Reason: "the target ended the connection: EOF", Reconnects: 7, SinceUnixUs: time.Now().UnixMicro()}
	alive, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; alive.Err() == nil; n++ {
			put(t, states, schemas.PushStateKey("cdn-b", stageStreams[0]), failing)
			for i, k := range stageStreams {
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
	t.Cleanup(func() { stop(); wg.Wait() })
}

// plantViewers writes slices of a quarter of an hour, CDN b stalling of late, and of
// the next minutes, so that the test may take its time.
func plantViewers(t testing.TB, conn driver.Conn) {
	t.Helper()
	var groups []watching
	for i, k := range stageStreams[:5] {
		groups = append(groups, watching{k, "a", 9 - i, 0.002, 1800, 300}, watching{k, "b", 6 - i, 0.003, 2100, 420}, watching{k, "c", 5 - i/2, 0.001, 1500, 260})
	}
	now := time.Now()
	plantEvery(t, conn, 10, now.Add(-14*time.Minute), now.Add(-50*time.Second), groups...)
	for i := range groups {
		if groups[i].cdn == "b" {
			groups[i].stall, groups[i].latencyMs = 0.31, 4800
		}
	}
	plantEvery(t, conn, 5, now.Add(-50*time.Second), now.Add(9*time.Minute), groups...)
}

// run does something in the tab, within a minute.
func (s *stage) run(what string, a ...chromedp.Action) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.tab, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, a...); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// open goes to a page of the console.
func (s *stage) open(path string) {
	s.t.Helper()
	s.run("open "+path, chromedp.Navigate(s.c.URL()+path))
}

// until waits until the page's JavaScript says so.
func (s *stage) until(what, js string) {
	s.t.Helper()
	waitIn(s.t, s.tab, what, js, s.Errors)
}

// lookFor is how long a page looks by itself before it is asked again.
const lookFor = 3 * time.Second

// waitIn waits until JavaScript holds in a tab. The page itself looks, so that waiting costs little.
func waitIn(t testing.TB, tab context.Context, what, js string, complaints func() []string) {
	t.Helper()
	look := fmt.Sprintf(`new Promise((done) => {
		const till = Date.now() + %d, look = () => {
			let holds = false, why = "";
			try { holds = Boolean(%s); } catch (e) { why = String(e) + "\n"; }
			if (holds) done("");
			else if (Date.now() > till) done(why + location.href + " says:\n" + document.body?.innerText);
			else setTimeout(look, 40);
		};
		look();
	})`, lookFor.Milliseconds(), js)
	await.Text(t, what, func() string {
		said, err := browser.Evaluate[string](tab, look)
		switch {
		case err != nil && tab.Err() != nil:
			t.Fatalf("%s: %v", what, err)
		case err != nil: // the page changed meanwhile
			return err.Error()
		case said != "" && complaints != nil:
			return said + "\n" + strings.Join(complaints(), "\n")
		}
		return said
	})
}
