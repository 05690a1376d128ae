package viewer_test

import (
	"context"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/collect"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/edge"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/router"
)

// stack is the real system without ClickHouse: publisher, RTMP ingest,
// packager, origin, two edges, router, collector.
type stack struct {
	t     testing.TB
	bus   *bustest.Bus
	edges map[string]*edge.Edge
	rtmp  string
	// origin counts what the origin was asked for.
	origin *prometheus.Registry

	stopPublisher func()
	r             *router.Router
	parent        *stack // what runs for the whole test; nil: this is it
}

// on is the stack for a part of the test.
func (s *stack) on(t *testing.T) *stack {
	c := *s
	c.t, c.parent = t, s
	return &c
}

// run starts a part and stops it, in reverse order, when the test ends.
func (s *stack) run(name string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			s.t.Errorf("%s does not stop", name)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

// publish pushes the demo stream until stopped.
func (s *stack) publish() (stop func()) {
	p := &publisher.Publisher{URL: s.rtmp + "/live/demo?cdn=a", Width: 320, Height: 180, BitrateKbps: 400}
	return s.run("publisher", p.Run)
}

func (s *stack) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) put(bucket, key string, v any) {
	s.t.Helper()
	kv, err := s.bus.JS.KeyValue(s.t.Context(), bucket)
	s.must(err)
	b, err := json.Marshal(v)
	s.must(err)
	_, err = kv.Put(s.t.Context(), key, b)
	s.must(err)
}

func (s *stack) listen() net.Listener {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	return l
}

func newStack(t testing.TB) *stack {
	t.Helper()
	s := &stack{t: t, bus: bustest.Start(t), edges: map[string]*edge.Edge{}}
	signer, err := token.NewSigner([]byte("0123456789abcdef"))
	s.must(err)

	cl := s.listen()
	c, err := collect.New(collect.Settings{JS: s.bus.JS, Listener: cl, SpoolDir: t.TempDir(), Tokens: signer, EdgeKey: "sesame"})
	s.must(err)
	s.run("collector", c.Run)
	collector := "http://" + cl.Addr().String()

	pub, err := publish.New(t.Context(), publish.Settings{JetStream: s.bus.JS, Auth: publish.Auth{OpenLoopback: true}})
	s.must(err)
	s.run("publications", pub.Run)
	in, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", Publish: pub})
	s.must(err)
	s.run("ingest", in.Run)
	s.run("packager", (&packager.Packager{JetStream: s.bus.JS}).Run)
	ol := s.listen()
	s.origin = prometheus.NewRegistry()
	s.run("origin", (&origin.Origin{JetStream: s.bus.JS, Listener: ol, Registerer: s.origin}).Run)
	s.r, err = router.New(router.Settings{JS: s.bus.JS, Signer: signer, EdgeKey: "sesame", ViewerSalt: make([]byte, 16), Collector: collector, SteeringTTL: time.Second})
	s.must(err)
	s.run("router", s.r.Run)
	for i, name := range []string{"a", "b"} {
		e, err := edge.New(edge.Settings{
			Name: name, Order: i, Origins: []string{"http://" + ol.Addr().String()}, Routers: []string{s.r.URL()},
			Collector: collector, EdgeKey: "sesame", Signer: signer,
		})
		s.must(err)
		s.edges[name] = e
		s.run("edge "+name, e.Run)
		s.put(schemas.BucketCDNs, name, e.Record())
	}
	s.rtmp = "rtmp://" + in.Addr().String()
	s.stopPublisher = s.publish()

	// Media is there once the router says so and segments for a start behind live exist.
	kv, err := s.bus.JS.KeyValue(t.Context(), schemas.BucketStreams)
	s.must(err)
	await.True(t, "the stream is live for 4 s", func() bool {
		e, err := kv.Get(t.Context(), "live.demo")
		var st schemas.StreamState
		return err == nil && json.Unmarshal(e.Value(), &st) == nil && st.Live && time.Since(time.UnixMicro(st.Epoch.OpenedUnixUs)) > 4*time.Second
	})
	<-s.r.Ready()
	return s
}

// telemetry reads the rows of one session that the bus holds.
func (s *stack) telemetry(session string) []schemas.Telemetry {
	s.t.Helper()
	c, err := s.bus.JS.OrderedConsumer(s.t.Context(), schemas.StreamTelemetry, jetstream.OrderedConsumerConfig{})
	s.must(err)
	info, err := c.Info(s.t.Context())
	s.must(err)
	var out []schemas.Telemetry
	for range info.NumPending {
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		s.must(err)
		rows, err := schemas.DecodeTelemetry(m.Data())
		s.must(err)
		for _, r := range rows {
			if r.SessionID == session {
				out = append(out, r)
			}
		}
	}
	return out
}
