package probe_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/analytics/hoptrace"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/probe"
)

func background(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	running.Start(t, f)
}

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

// world is a private stream behind edges, and what is told of its hops.
type world struct {
	bus   *bustest.Bus
	sign  *token.Signer
	edges map[string]*edge.Edge

	mu    sync.Mutex
	trace *hoptrace.Trace
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{bus: bustest.Start(t), edges: map[string]*edge.Edge{}, trace: hoptrace.New(demo)}
	js := w.bus.JS
	if _, err := w.bus.Conn.Subscribe(schemas.HopsSubject(demo), func(m *nats.Msg) {
		notes, err := hops.DecodeNotes(m.Data)
		if err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range notes {
			w.trace.Add(n)
		}
	}); err != nil {
		t.Fatal(err)
	}
	apps, err := registry.Open(t.Context(), js, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apps.Edit(t.Context(), demo.KVKey(), func(a *schemas.AppSettings, _ bool) error { a.Private = true; return nil }); err != nil {
		t.Fatal(err)
	}
	svc, err := publish.New(t.Context(), publish.Settings{JetStream: js, Auth: publish.Auth{OpenLoopback: true}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", Publish: svc})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const edgeKey = "edges"
	o := &origin.Origin{JetStream: js, Listener: l, EdgeKey: edgeKey}
	background(t, func(ctx context.Context) error {
		var g errgroup.Group
		g.Go(func() error { return svc.Run(ctx) })
		g.Go(func() error { return in.Run(ctx) })
		g.Go(func() error { return o.Run(ctx) })
		return g.Wait()
	})
	<-in.Ready()
	signer, err := token.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	w.sign = signer
	cdns, err := registry.Open(t.Context(), js, schemas.BucketCDNs, schemas.ParseCDN)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		e, err := edge.New(edge.Settings{Name: name, Addr: "127.0.0.1:0", Origins: []string{"http://" + l.Addr().String()}, EdgeKey: edgeKey, Signer: signer})
		if err != nil {
			t.Fatal(err)
		}
		w.edges[name] = e
		background(t, e.Run)
		if _, err := cdns.Edit(t.Context(), name, func(c *schemas.CDN, _ bool) error {
			*c = schemas.CDN{Name: name, BaseURL: e.URL(), State: schemas.CDNActive}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	clip := filepath.Join(t.TempDir(), "clip.flv")
	if err := (publisher.Clip{Path: clip, Seconds: 2, KeyframeSeconds: 1, Width: 320, Height: 180, BitrateKbps: 300}).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, (&publisher.Replay{File: clip, URLs: []string{"rtmp://" + in.Addr().String() + "/live/demo"}, Spread: -1, Logger: slog.New(slog.DiscardHandler)}).Run)
	for range 2 { // two processes share the pairs
		background(t, (&probe.Prober{JetStream: js, Signer: signer, RequestsPerSec: 40, Every: 200 * time.Millisecond, LeaseTTL: time.Second}).Run)
	}
	return w
}

// again forgets what was heard.
func (w *world) again() {
	w.mu.Lock()
	w.trace = hoptrace.New(demo)
	w.mu.Unlock()
}

func (w *world) report() hoptrace.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trace.Report(time.Second)
}

// Edges that nobody watches through are known by probes alone: one that is healthy,
// and four that are not, each by what is wrong with it. The stream is private.
func TestBadEdgesWithoutViewersAreNamed(t *testing.T) {
	w := newWorld(t, "fine", "stale", "errors", "slow", "starved")
	await.Text(t, "all edges are probed", func() string {
		r := w.report()
		if len(r.Probes) < 5 {
			return "not all yet"
		}
		for _, p := range r.Probes {
			if p.Requests-p.Failed < 3 || p.StalenessP50Ms == nil || p.PaceP50 == nil {
				return p.CDN
			}
		}
		return ""
	})
	t.Run("first viewers find warm caches", w.warms)
	for name, f := range map[string]schemas.Fault{
		"stale": {FreezePlaylists: true}, "errors": {ErrorRate: 0.9}, "slow": {LatencyMs: 1200}, "starved": {RateBps: 80_000},
	} {
		if err := w.edges[name].SetFault(f); err != nil {
			t.Fatal(err)
		}
	}
	w.again()
	await.Text(t, "each is named for its fault", func() string {
		named := map[string]string{}
		r := w.report()
		for _, f := range r.Bad {
			if f.Hop == schemas.HopEdge {
				named[f.Name] += f.Text + "; "
			}
		}
		for cdn, want := range map[string]string{"stale": "stale playlists", "errors": "probes failed", "slow": "first byte", "starved": "of a stream of"} {
			if !strings.Contains(named[cdn], want) {
				return cdn + " is not named for it: " + named[cdn]
			}
		}
		return ""
	})
	for name, e := range w.edges {
		if n := e.Stats().Viewers; n != 0 {
			t.Errorf("edge %s counts %d probes as viewers", name, n)
		}
	}
}
