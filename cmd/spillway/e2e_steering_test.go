package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/viewer"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// starved is the rate of each answer of the CDN that fails, for picture and sound of about 100 kbit/s each: no machine
// can play from it. No request fails of it, so that players would stay. Each ends within seconds, which
// dash.js waits for before it heeds steering: no player drops a request that still brings bytes.
const starved = "40kbps"

// TestPlayersAreSteered: hls.js, shaka and dash.js watch in one browser when their CDN's edge becomes too slow to play
// from. Steering takes them to another, because the router has judged theirs to fail by what viewers on it report. Then
// a CDN that is in no manifest is the only one left that serves: hls.js goes there by its clone. How often they stalled
// is the same by the pages, by our beacon and in session slices.
//
// All that is waited for stays as it is once it is so, however busy the machine: viewers that no steering moves are on
// both CDNs all the time, so one fails and the other does not for as long as the fault lasts.
func TestPlayersAreSteered(t *testing.T) {
	t.Parallel()
	env, dir := environment(t), t.TempDir()
	u := up(t, env, dir, "--no-demo", "--only", "collector,ingest,packager,origin,router,edge", "--steering-ttl", "2s", "--cdns", "a,b")
	launch(t, env, "sessioniser", "--data", dir, "--nats", u.NATS, "--log-level", "warn")
	card := &publisher.Replay{File: smallClip(t), URLs: []string{u.Push + "/demo?cdn=a"}, Logger: quiet()}
	background(t, "publisher", card.Run)
	within(t, time.Minute, "the MPD is one of low latency", func() error {
		_, body, err := httpGet(strings.TrimSuffix(u.HLS["a"], "multivariant.m3u8") + "manifest.mpd")
		if err == nil && !strings.Contains(body, "availabilityTimeOffset") {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
	rec := followRecords(t, u.NATS)
	pinnedViewers(t, u, "a", "b")
	s := openSteered(t, u)

	// A machine that stood still for seconds may have made the router judge the publisher's CDN to fail, which ends by what
	// those report who are pinned to it. Whichever CDN all players are on is the one that fails now.
	bad, good := "a", "b"
	before := s.all("every player plays from one CDN", func(p *steeredPlayer) bool {
		if p.Name == steeredViews[0].name && p.on() == s.hosts[good] {
			bad, good = good, bad
		}
		return p.on() == s.hosts[bad]
	})
	if d := steadyFor(); d > 0 {
		time.Sleep(d) // the documented run: their buffers are as deep as they get
		before = s.read()
	}
	fault := time.Now()
	run := func(args ...string) {
		t.Helper()
		if code, _, stderr := command(t, env, nil, append([]string{"cdn"}, args...)...); code != 0 {
			t.Fatalf("cdn %v: %s", args, stderr)
		}
	}
	run("fault", bad, "--connection-rate", starved)
	moved := s.all("every player plays from the other CDN", func(p *steeredPlayer) bool { return p.on() == s.hosts[good] })
	rep := steeringReport{Steady: steadyFor()}
	for i := range moved {
		rep.add(&before[i], &moved[i], fault, s.hosts[good])
		decided := rec.moved(t, moved[i].Session, bad, good, fault)
		if decided.ReasonCode != policy.ReasonFailing || moved[i].last(s.hosts[good]) < decided.TimeUs/1000 {
			t.Errorf("%s was moved at %d by %+v", moved[i].Name, moved[i].last(s.hosts[good]), decided)
		}
		rec.served(t, moved[i].Session, good)
	}

	// A third CDN comes, and the good one goes: it is in the manifests of none.
	third := launch(t, env, "edge", "--name", "d", "--data", dir, "--nats", u.NATS, "--origins", u.Origins, "--routers", u.Router,
		"--collector-url", strings.TrimSuffix(u.Collector, collectorPath))
	host := strings.TrimPrefix(third.waitLog(`msg=edge name=d url=(\S+)`), "http://")
	within(t, time.Minute, "the new CDN is in answers", func() error {
		_, body, err := httpGet(u.Router + "/v1/play/live/demo/multivariant.m3u8")
		if err == nil && !strings.Contains(body, `PATHWAY-ID="d"`) {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
	gone := time.Now()
	run("state", good, "off")
	cloned := s.all("hls.js plays from the clone", func(p *steeredPlayer) bool { return p.Name != "hls.js" || p.on() == host })
	rep.Clone = float64(cloned[0].last(host)-gone.UnixMilli()) / 1000
	rec.served(t, cloned[0].Session, "d")

	for _, p := range s.leave() {
		if p.Seen.Stalls != p.Measured.Stalls {
			t.Errorf("%s stalled %d times by its page and %d times by the beacon", p.Name, p.Seen.Stalls, p.Measured.Stalls)
		}
		rec.stalls(t, &p)
		t.Logf("%s at the end: %v, %d stalls of %d ms, errors %v", p.Name, p.Hops, p.Seen.Stalls, p.Seen.StalledMs, p.Errors)
	}
	t.Logf("%+v", rep)
	if file := os.Getenv("SPILLWAY_STEERING_PLOT"); file != "" {
		if err := os.WriteFile(file, rep.plot(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// pinnedViewers has ten simulated viewers watch on each CDN until the test ends. They ask for no steering. Ten, so that
// three players which have stalled elsewhere make no CDN fail to which they come.
func pinnedViewers(t *testing.T, u *upProgram, cdns ...string) {
	t.Helper()
	transport := viewer.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	for _, cdn := range cdns {
		for range 10 {
			c := viewer.Config{
				Dispatch: u.Router, App: demoApp, Stream: demoStream, CDN: cdn, WholeSegments: true, LiveSync: 3 * time.Second, MaxBehind: time.Hour,
				ReportEvery: time.Second, HTTPClient: &http.Client{Transport: transport}, Logger: quiet(),
			}
			background(t, "viewer on "+cdn, func(ctx context.Context) error { _, err := viewer.Run(ctx, c); return err })
		}
	}
}

// steadyFor is how long the players play before the fault: SPILLWAY_STEERING_S seconds.
func steadyFor() time.Duration {
	var s float64
	if _, err := fmt.Sscan(os.Getenv("SPILLWAY_STEERING_S"), &s); err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

// moved waits for the first decision after the fault that took a session from one CDN to another: of steering, or of an
// MPD, which is fetched again every two seconds.
func (r *records) moved(t *testing.T, session, from, to string, fault time.Time) (found schemas.Decision) {
	t.Helper()
	within(t, time.Minute, "the decision is on the bus", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.decisions, func(d schemas.Decision) bool {
			return d.SessionID == session && d.Previous == from && d.Chosen == to && d.TimeUs >= fault.UnixMicro()
		})
		if i < 0 {
			return fmt.Errorf("%d decisions", len(r.decisions))
		}
		found = r.decisions[i]
		return nil
	})
	return found
}

// served waits until edges have logged media requests of a session on a CDN.
func (r *records) served(t *testing.T, session, cdn string) {
	t.Helper()
	within(t, time.Minute, "the log of edge "+cdn+" has the session's requests", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := r.requests[session+" "+cdn]; n == 0 {
			return fmt.Errorf("%v", r.requests)
		}
		return nil
	})
}

// stalls waits until slices say that a player stalled as often as it did.
func (r *records) stalls(t *testing.T, p *steeredPlayer) {
	t.Helper()
	within(t, time.Minute, "slices have the stalls of "+p.Name, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if got := r.stalled[p.Session]; got != p.Seen.Stalls {
			return fmt.Errorf("%d, its page saw %d", got, p.Seen.Stalls)
		}
		return nil
	})
}
