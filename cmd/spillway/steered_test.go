package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/players"
)

// hop is a host that served media, from a moment on.
type hop struct {
	Host string
	At   int64 // Unix ms
}

// steeredPlayer is a player in a frame, and what its page says.
type steeredPlayer struct {
	Name, Session string
	FirstMs       float64
	Time          float64
	Errors        []string
	Hops          []hop
	Log           []players.Event
	Measured      struct{ Stalls int } // by the beacon
	Seen          players.Seen         // by the page
}

// on is the host that served last.
func (p *steeredPlayer) on() string {
	if len(p.Hops) == 0 {
		return ""
	}
	return p.Hops[len(p.Hops)-1].Host
}

// unsteered says that the player will never ask for steering again: shaka 5.2.12 asks for it while it loads, and fails
// for ever where the TTL is over before it has all that it asks with.
func (p *steeredPlayer) unsteered() bool {
	return slices.ContainsFunc(p.Errors, func(e string) bool { return strings.Contains(e, "getBandwidthEstimate") })
}

// last is when a host began to serve, for the last time.
func (p *steeredPlayer) last(host string) (at int64) {
	for _, h := range p.Hops {
		if h.Host == host {
			at = h.At
		}
	}
	return at
}

// steeredPlayers are the players in one page, each with a session that the router began.
type steeredPlayers struct {
	t        *testing.T
	u        *upProgram
	tab      context.Context
	page     string            // base URL
	hosts    map[string]string // by CDN
	sessions []string
}

// steeredViews are the players, and what each plays.
var steeredViews = []struct{ name, player, manifest string }{
	{"hls.js", "hls", "multivariant.m3u8"}, {"shaka", "shaka", "multivariant.m3u8"}, {"dash.js", "dash", "manifest.mpd"},
}

func openSteered(t *testing.T, u *upProgram) *steeredPlayers {
	t.Helper()
	hlsJS, err := player.HLSJS()
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(players.Handler(hlsJS))
	t.Cleanup(page.Close)
	b := browsertest.Start(t)
	b.Open(page.URL + "/empty")
	s := &steeredPlayers{t: t, u: u, tab: b.Tab, page: page.URL, hosts: map[string]string{}}
	for cdn, address := range u.HLS {
		x, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		s.hosts[cdn] = x.Host
	}
	s.sessions = make([]string, len(steeredViews))
	for i := range steeredViews {
		s.open(i)
	}
	return s
}

// open begins a session for a player and gives it a frame, or the one that it had.
func (s *steeredPlayers) open(i int) {
	s.t.Helper()
	var d schemas.Dispatch
	within(s.t, time.Minute, "the router begins a session", func() error {
		code, body, err := httpGet(s.u.Router + "/v1/dispatch?app=live&stream=demo")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(body), &d)
	})
	v := steeredViews[i]
	s.sessions[i] = d.SessionID
	q := url.Values{
		"player": {v.player}, "retry": {"1"}, "url": {strings.Replace(d.URL, "multivariant.m3u8", v.manifest, 1)},
		"beacon": {strings.TrimSuffix(s.u.Collector, collectorPath) + "/v1/beacon"}, "sid": {d.SessionID},
	}
	script := fmt.Sprintf(`{
		let f = document.querySelectorAll('iframe')[%d];
		if (!f) document.body.append(f = Object.assign(document.createElement('iframe'), {allow: 'autoplay', width: 340}));
		f.src = %q;
	} 0`, i, s.page+"/?"+q.Encode())
	if err := chromedp.Run(s.tab, chromedp.Evaluate(script, nil)); err != nil {
		s.t.Fatal(err)
	}
}

// frames asks each page, by an expression of its window w; a page that is not there yet says nothing, nor does
// the one before it, which goes on until the frame has gone to where it was sent.
func (s *steeredPlayers) frames(js string) []steeredPlayer {
	s.t.Helper()
	texts, err := browser.Evaluate[[]string](s.tab, `[...document.querySelectorAll('iframe')].map(f => {
		const w = f.contentWindow;
		return w.report && w.location.href === f.src ? `+js+` : '{}';
	})`)
	if err != nil {
		s.t.Fatal(err)
	}
	out := make([]steeredPlayer, len(texts))
	for i := range texts {
		if err := json.Unmarshal([]byte(texts[i]), &out[i]); err != nil {
			s.t.Fatal(err)
		}
		out[i].Name, out[i].Session, out[i].Seen = steeredViews[i].name, s.sessions[i], players.Account(out[i].Log)
	}
	return out
}

func (s *steeredPlayers) read() []steeredPlayer { return s.frames("w.report()") }

// leave has every page say what it saw, and end its session at that moment.
func (s *steeredPlayers) leave() []steeredPlayer {
	return s.frames("((r) => { w.beacon.end('quit'); return r; })(w.report())")
}

// all waits until every player is where it should be and has played on from there for a second.
func (s *steeredPlayers) all(what string, ok func(*steeredPlayer) bool) (got []steeredPlayer) {
	s.t.Helper()
	from := map[int]float64{}
	within(s.t, 2*time.Minute, what, func() error {
		got = s.read()
		for i := range got {
			if got[i].unsteered() {
				s.open(i)
			}
			if p := &got[i]; p.FirstMs == 0 || p.unsteered() || !ok(p) {
				delete(from, i)
			} else if _, there := from[i]; !there {
				from[i] = p.Time
			}
		}
		for i := range got {
			if since, there := from[i]; !there || got[i].Time < since+1 {
				return fmt.Errorf("%s: at %.1f s, from %v, errors %v", got[i].Name, got[i].Time, got[i].Hops, got[i].Errors)
			}
		}
		return nil
	})
	return got
}

// records are what routers decided, and sums of session slices.
type records struct {
	mu        sync.Mutex
	decisions []schemas.Decision
	requests  map[string]int64 // by session and CDN, "session cdn"
	stalled   map[string]int   // by session
}

// followRecords reads both from the bus until the test ends.
func followRecords(t *testing.T, natsURL string) *records {
	t.Helper()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	r := &records{requests: map[string]int64{}, stalled: map[string]int{}}
	for stream, take := range map[string]func([]byte) error{schemas.StreamDecisions: r.decided, schemas.StreamSlices: r.sliced} {
		c, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		reading, err := c.Consume(func(m jetstream.Msg) {
			if err := take(m.Data()); err != nil {
				t.Errorf("%s: %v", m.Subject(), err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			reading.Stop()
			<-reading.Closed()
		})
	}
	return r
}

func (r *records) decided(b []byte) error {
	all, err := schemas.DecodeRecords[schemas.Decision](b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decisions = append(r.decisions, all...)
	return err
}

func (r *records) sliced(b []byte) error {
	all, err := schemas.DecodeSlices(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		r.requests[s.SessionID+" "+s.CDN] += s.Requests
		r.stalled[s.SessionID] += int(s.Stalls)
	}
	return err
}
