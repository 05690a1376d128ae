package viewer_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/viewer"
)

type result struct {
	viewer.Report
	err error
}

// watch begins a view and gives a function that ends it and waits.
func (s *stack) watch(c viewer.Config) (end func() result) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan result, 1)
	if c.App, c.Stream = "live", "demo"; c.Multivariant == "" {
		c.Dispatch = s.r.URL()
	}
	c.Logger = slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		r, err := viewer.Run(ctx, c)
		done <- result{r, err}
	}()
	return func() result {
		cancel()
		return <-done
	}
}

// answered waits until an edge has answered n more requests; a viewer makes about 22 a second.
func (s *stack) answered(cdn string, n uint64) {
	s.t.Helper()
	e := s.edges[cdn]
	from := e.Stats().Requests
	await.True(s.t, "viewers of edge "+cdn+" have watched on", func() bool { return e.Stats().Requests >= from+n })
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// TestWatches is viewers of every kind on two edges that are well.
func TestWatches(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	t.Run("any player through an edge", func(t *testing.T) { s.on(t).anyPlayer() })
	t.Run("real stream", func(t *testing.T) { s.on(t).realStream() })
	t.Run("pool", func(t *testing.T) { s.on(t).pool() })
}

func (s *stack) realStream() {
	t := s.t
	steered := s.watch(viewer.Config{Viewer: "alice", Device: "tv", RequestCMCD: true, SampleResponses: 0.2})
	pinned := s.watch(viewer.Config{CDN: "b"})
	whole := s.watch(viewer.Config{WholeSegments: true, LiveSync: 3 * time.Second})
	s.answered("a", 250)
	s.answered("b", 50)
	for _, c := range []struct {
		name, cdn, device string
		r                 result
	}{{"steered", "a", "tv", steered()}, {"pinned", "b", "", pinned()}, {"whole segments", "a", "", whole()}} {
		r := c.r
		t.Logf("%s: %+v", c.name, r)
		if r.err != nil || !r.Started || r.End != "quit" || r.Errors != 0 || r.EventsFailed != 0 {
			t.Errorf("%s: %v, %+v", c.name, r.err, r.Report)
			continue
		}
		if len(r.Served) != 1 || r.Served[c.cdn] == 0 {
			t.Errorf("%s: served by %v, want %s", c.name, r.Served, c.cdn)
		}
		if r.Played < 4*time.Second || len(r.Latency) < 3 {
			t.Errorf("%s: played %v, %d latency samples", c.name, r.Played, len(r.Latency))
		} else if l := median(r.Latency); l < 300*time.Millisecond || l > 10*time.Second {
			t.Errorf("%s: median latency %v", c.name, l)
		}
		s.agree(c.name, c.device, r)
	}
}

// agree holds what was reported against what was measured.
func (s *stack) agree(name, device string, r result) {
	t := s.t
	t.Helper()
	var rows []schemas.Telemetry
	await.True(t, name+": the beacon is on the bus", func() bool {
		rows = s.telemetry(r.SessionID)
		return slices.ContainsFunc(rows, func(x schemas.Telemetry) bool { return x.Source == schemas.SourceBeacon })
	})
	var events []schemas.Telemetry
	seen := map[int64]bool{}
	for _, x := range rows {
		switch x.Source {
		case schemas.SourceCMCDEvent:
			// A start in less than 20 ms is not believed (GateStartDelay), and with a warm edge it happens.
			if x.Gates != "" && !(x.Gates == "msd" && r.Startup < 20*time.Millisecond) || x.App != "live" || x.Stream != "demo" || x.Client != viewer.Client || x.Device != device || x.CDN == "" && x.State != "s" {
				t.Errorf("%s: event row %+v", name, x)
			}
			events = append(events, x)
			seen[x.Seq.V] = true
		case schemas.SourceBeacon:
			if int64(x.PageStartupMs.V) != r.Startup.Milliseconds() || x.PageStallMs.V != r.Stalled.Milliseconds() ||
				int(x.PageStallCount.V) != r.Stalls || x.PagePlayedMs.V != r.Played.Milliseconds() {
				t.Errorf("%s: beacon row %+v", name, x)
			}
		}
	}
	if len(events) != r.Events || len(seen) != r.Events || !seen[0] || !seen[int64(r.Events-1)] {
		t.Errorf("%s: %d events on the bus with %d numbers, %d were posted", name, len(events), len(seen), r.Events)
	}
	slices.SortFunc(events, func(a, b schemas.Telemetry) int { return int(a.Seq.V - b.Seq.V) })
	var start, first int64
	var state string
	var since, stalled, played int64
	for _, e := range events {
		if e.Event != "ps" {
			continue
		}
		switch state {
		case "r":
			stalled += e.TsUnixMs - since
		case "p":
			played += e.TsUnixMs - since
		}
		state, since = e.State, e.TsUnixMs
		if start == 0 {
			start = e.TsUnixMs
		}
		if e.State == "p" && first == 0 {
			first = e.TsUnixMs
		}
	}
	within := func(what string, got int64, want time.Duration, by int64) {
		if d := got - want.Milliseconds(); d < -by || d > by {
			t.Errorf("%s: %s by the events %d ms, measured %v", name, what, got, want)
		}
	}
	n := int64(2 * (r.Stalls + 2)) // each moment is rounded to a millisecond
	within("start-up", first-start, r.Startup, n)
	within("stalled", stalled, r.Stalled, n)
	within("played", played, r.Played, n)
}

// slowEdge stalls its viewers only.
func (s *stack) slowEdge() {
	t := s.t
	a, b := s.watch(viewer.Config{CDN: "a"}), s.watch(viewer.Config{CDN: "b"})
	s.answered("a", 80)
	s.answered("b", 20)
	if err := s.edges["b"].SetFault(schemas.Fault{RateBps: 150_000}); err != nil { // the stream has about 500 kbit/s
		t.Fatal(err)
	}
	s.answered("a", 180)
	ra, rb := a(), b()
	t.Logf("a: %+v", ra)
	t.Logf("b: %+v", rb)
	if rb.err != nil || rb.Stalls == 0 || rb.Stalled < 2*time.Second {
		t.Errorf("viewer of the slow edge: %+v", rb)
	}
	if ra.err != nil || ra.Stalled > rb.Stalled/2 {
		t.Errorf("viewer of the good edge stalled for %v, that of the slow one for %v", ra.Stalled, rb.Stalled)
	}
	if len(rb.Served) != 1 || rb.Switches != 0 {
		t.Errorf("a pinned viewer left: %v", rb.Served)
	}
	s.agree("slow", "", rb)
}

// TestViewersGoOn: publishers that reconnect, CDNs that are taken out, and edges that die.
func TestViewersGoOn(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	t.Run("publisher comes back", func(t *testing.T) { s.on(t).publisherComesBack() })
	t.Run("steering moves viewers", func(t *testing.T) { s.on(t).steering() })
	t.Run("dead edge is left", func(t *testing.T) { s.on(t).deadEdge() })
}

func (s *stack) deadEdge() {
	t := s.t
	v := s.watch(viewer.Config{})
	s.answered("a", 80)
	if err := s.edges["a"].SetFault(schemas.Fault{Down: true}); err != nil {
		t.Fatal(err)
	}
	s.answered("b", 60)
	r := v()
	t.Logf("%+v", r)
	if r.err != nil || r.Served["a"] == 0 || r.Served["b"] == 0 || r.Switches == 0 || r.Errors == 0 {
		t.Errorf("%+v", r)
	}
	if r.Played < 4*time.Second {
		t.Errorf("played %v only", r.Played)
	}
	s.agree("dead", "", r)
}

// steering moves a viewer off a CDN that is taken out, and new ones go there once it is back.
func (s *stack) steering() {
	t := s.t
	v := s.watch(viewer.Config{})
	s.answered("a", 20)
	off := s.edges["a"].Record()
	off.State = schemas.CDNOff
	s.put(schemas.BucketCDNs, "a", off)
	s.answered("b", 40)
	r := v()
	t.Logf("%+v", r)
	if r.err != nil || r.Served["b"] == 0 || r.Switches == 0 || r.Errors != 0 {
		t.Errorf("%+v", r)
	}
	s.put(schemas.BucketCDNs, "a", s.edges["a"].Record())
	await.True(t, "new viewers go to a", func() bool {
		res, err := http.Get(s.r.URL() + "/v1/dispatch?app=live&stream=demo")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var d schemas.Dispatch
		return json.NewDecoder(res.Body).Decode(&d) == nil && len(d.Candidates) == 2 && d.Candidates[0].CDN == "a"
	})
}

// anyPlayer plays the address a stranger's player would be given: no dispatch, no
// token, one edge. Nobody else watches there.
func (s *stack) anyPlayer() {
	t := s.t
	v := s.watch(viewer.Config{Multivariant: s.edges["b"].URL() + "/live/demo/multivariant.m3u8"})
	s.answered("b", 80)
	r := v()
	t.Logf("%+v", r)
	if r.err != nil || !r.Started || r.Errors != 0 || r.Served["b"] == 0 || len(r.Served) != 1 {
		t.Errorf("%v %+v", r.err, r.Report)
	}
	await.True(t, "the router counts it on b", func() bool { return s.r.Viewers()["b"] == 1 })
}

// publisherComesBack: one that reconnects is a stall at most.
func (s *stack) publisherComesBack() {
	t := s.t
	v := s.watch(viewer.Config{})
	s.answered("a", 60)
	s.stopPublisher()
	s.parent.publish()
	s.answered("a", 120)
	r := v()
	t.Logf("%+v", r)
	if r.err != nil || r.End != "quit" || r.Served["b"] != 0 || r.Switches != 0 || r.Errors != 0 {
		t.Errorf("%v %+v", r.err, r.Report)
	}
	if len(r.Latency) < 4 || r.Latency[len(r.Latency)-1] > 12*time.Second {
		t.Errorf("latency %v", r.Latency)
	}
	s.agree("reconnect", "", r)
}

// pool keeps viewers everywhere.
func (s *stack) pool() {
	t := s.t
	p := &viewer.Pool{
		Config: viewer.Config{Dispatch: s.r.URL(), App: "live", Stream: "demo"},
		CDNs:   []string{"a", "b"}, PerCDN: 3, Steered: 1, StayMin: 2 * time.Second, StayMax: 4 * time.Second, Seed: 1,
		Regions: []string{"eu", "us"}, ISPs: []string{"one", "two", "three"},
	}
	s.run("pool", p.Run)
	await.True(t, "views have ended, others have come", func() bool {
		st := p.Stats()
		return st.Views >= 7 && st.Active["a"]+st.Active["b"]+st.Active[""] >= 4
	})
	if st := p.Stats(); st.Failed > 0 || st.NotStarted > 1 || st.Played == 0 {
		t.Errorf("%+v", st)
	}
}

func TestNothingToWatch(t *testing.T) {
	for name, c := range map[string]viewer.Config{
		"nothing given": {},
		"nobody there":  {Dispatch: "http://127.0.0.1:1", App: "live", Stream: "demo"},
	} {
		if r, err := viewer.Run(t.Context(), c); err == nil || r.End != "failed" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
