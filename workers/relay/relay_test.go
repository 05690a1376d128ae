package relay_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/regions"
	line "github.com/spillway-live/spillway/testenv/relay"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/origin"
	"github.com/spillway-live/spillway/workers/relay"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func logger() *slog.Logger {
	if os.Getenv("RELAY_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return nil
}

// patient bounds a test's requests of the bus by a minute: without a deadline each has five
// seconds, which three regions on a busy machine may need.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// chain runs regions a, b, c in a row; the links between them can be cut.
func chain(t *testing.T) (*regions.Chain, []*line.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var links []*line.Relay
	c, err := regions.Start(ctx, regions.Settings{Dir: t.TempDir(), Names: []string{"a", "b", "c"}, Logger: logger(), Bus: schemas.BusSettings{MediaRetention: 10 * time.Minute}, Link: func(_ int, target string) string {
		links = append(links, line.Start(t, func() string { return target }))
		return links[len(links)-1].Addr()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c, links
}

// runRelay runs a relay; the function ends it as a kill would: its connection is closed first.
func runRelay(t *testing.T, r *regions.Region, parent string, with func(*relay.Relay)) (kill func()) {
	t.Helper()
	nc, err := r.Relay()
	if err != nil {
		t.Fatal(err)
	}
	x := &relay.Relay{Conn: nc, Region: r.Name, Neighbours: r.Neighbours, Parent: parent, Linger: time.Second, Reach: 10 * time.Minute, Logger: logger()}
	if with != nil {
		with(x)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	ended := false
	kill = func() {
		if !ended {
			ended = true
			nc.Close()
			cancel()
			<-done
		}
	}
	t.Cleanup(kill)
	return kill
}

func runOrigin(t *testing.T, js jetstream.JetStream) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin.Origin{JetStream: js, Listener: l, HoldLimit: 20 * time.Second, Logger: logger()}
	running.Start(t, o.Run)
	return "http://" + l.Addr().String()
}

// messages gives what a region's MEDIA has of a stream: message id and payload, in order.
func messages(t *testing.T, r *regions.Region, k schemas.StreamKey) (ids []string, of map[string]string) {
	t.Helper()
	of = map[string]string{}
	s, err := r.JS.Stream(patient(t), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	for seq := max(1, info.State.FirstSeq); seq <= info.State.LastSeq; {
		m, err := s.GetMsg(patient(t), seq, jetstream.WithGetMsgSubject(schemas.MediaFilter(k)))
		if err != nil {
			break
		}
		id := m.Header.Get(jetstream.MsgIDHeader)
		ids, of[id] = append(ids, id), string(m.Data)
		seq = m.Sequence + 1
	}
	return ids, of
}

// consumersOf counts the consumers that a region's relay has in another's MEDIA for a stream.
func consumersOf(t *testing.T, in *regions.Region, from string, k schemas.StreamKey) int {
	t.Helper()
	s, err := in.JS.Stream(patient(t), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	l := s.ListConsumers(patient(t))
	for c := range l.Info() {
		if strings.HasPrefix(c.Name, schemas.RegionConsumer(from)) && c.Config.FilterSubject == schemas.MediaFilter(k) {
			n++
		}
	}
	if l.Err() != nil {
		t.Fatal(l.Err())
	}
	return n
}

func publisher(t *testing.T, js jetstream.JetStream, clip *media.Clip, stream string) *media.Publisher {
	t.Helper()
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: stream}, Epoch: 1, FirstMSN: 1, Start: time.Now()}
	if err := p.Announce(patient(t), js); err != nil {
		t.Fatal(err)
	}
	return p
}

func push(t *testing.T, p *media.Publisher, js jetstream.JetStream, n int) {
	t.Helper()
	for range n {
		if err := p.Push(patient(t), js); err != nil {
			t.Fatal(err)
		}
	}
}

// live keeps the state of streams as ingest does, until the test ends.
func live(t *testing.T, js jetstream.JetStream, of ...*media.Publisher) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, p := range of {
				_ = p.PutState(ctx, js, true)
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// watch says once a second that a stream is watched in a region, as origins do.
func watch(t *testing.T, r *regions.Region, k schemas.StreamKey) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(demand.Every)
		defer tick.Stop()
		for ctx.Err() == nil {
			_ = demand.Say(r.Conn, k)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// A stream that is published in region a is played in region c, over b: the same
// parts, none missing and none twice, although the link between b and c is cut and
// heals, and the relay of c is killed and another starts. What nobody watches
// stays where it is, and what nobody watches any more is let go.
func TestChainOfThreeRegions(t *testing.T) {
	c, links := chain(t)
	a, b, far := c.Regions[0], c.Regions[1], c.Regions[2]
	runRelay(t, a, "", nil)
	runRelay(t, b, "a", nil)
	kill := runRelay(t, far, "b", nil)
	clip := media.Load(t)
	one, unwatched, brief := publisher(t, a.JS, clip, "one"), publisher(t, a.JS, clip, "unwatched"), publisher(t, a.JS, clip, "brief")
	push(t, one, a.JS, 12)
	push(t, unwatched, a.JS, 12)
	push(t, brief, a.JS, 12)
	live(t, a.JS, one, unwatched, brief)
	stopBrief := watch(t, far, brief.Key)

	near, there := runOrigin(t, a.JS), runOrigin(t, far.JS)
	path := "/" + one.Key.String() + "/src/video/"
	await.True(t, "region c knows the stream", func() bool { return get(t, there+path+"playlist.m3u8") != "" })
	f := follow(t, there+path)
	await.True(t, "a viewer in region c has parts", func() bool { return f.count() > 5 })
	await.True(t, "region c has the other stream", func() bool { ids, _ := messages(t, far, brief.Key); return len(ids) == 13 })
	stopBrief()

	stop := pace(t, one, a.JS)
	grows(t, f, 5)
	// One that was opened again, on a busy machine, leaves the old one behind for a moment.
	await.True(t, "each link has one consumer of the stream", func() bool {
		return consumersOf(t, b, "c", one.Key) == 1 && consumersOf(t, a, "b", one.Key) == 1
	})
	stopB := watch(t, b, one.Key) // what c wants of b ends some seconds after the cut
	links[1].Cut()
	idsThen, _ := messages(t, far, one.Key)
	await.True(t, "region b goes on without c", func() bool { ids, _ := messages(t, b, one.Key); return len(ids) > len(idsThen)+10 })
	links[1].Pass()
	stopB()
	grows(t, f, 15)

	kill()
	runRelay(t, far, "b", nil)
	grows(t, f, 15)
	stop()

	ids, of := messages(t, a, one.Key)
	await.True(t, "region c has what region a has", func() bool { got, _ := messages(t, far, one.Key); return len(got) == len(ids) })
	got, gotOf := messages(t, far, one.Key)
	if !slices.Equal(got, ids) {
		t.Errorf("region c has\n%v, want\n%v", got, ids)
	}
	for _, id := range ids {
		if of[id] != gotOf[id] {
			t.Errorf("%s differs", id)
		}
	}
	f.check(t, near+path)
	for _, r := range []*regions.Region{b, far} {
		if ids, _ := messages(t, r, unwatched.Key); len(ids) != 0 {
			t.Errorf("region %s has %d messages of a stream nobody watches", r.Name, len(ids))
		}
	}
	await.True(t, "what nobody watches any more is let go", func() bool {
		return consumersOf(t, b, "c", brief.Key) == 0 && consumersOf(t, a, "b", brief.Key) == 0
	})
}
