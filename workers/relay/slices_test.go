package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/regions"
	"github.com/spillway-live/spillway/workers/router"
)

// sliced publishes a slice in a region as its sessioniser would: a session that plays from a CDN.
func sliced(t *testing.T, r *regions.Region, session, cdn string) {
	t.Helper()
	data, err := schemas.EncodeSlices([]schemas.Slice{{Kind: schemas.SliceDelta, SessionID: session, CDN: cdn, Region: "eu", PlayedMs: 5000, StalledMs: 5000}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.JS.Publish(patient(t), schemas.SlicesSubject(0), data); err != nil {
		t.Fatal(err)
	}
}

// messagesOf gives what a region's stream holds, in order.
func messagesOf(t *testing.T, r *regions.Region, stream string) (all []*jetstream.RawStreamMsg) {
	t.Helper()
	s, err := r.JS.Stream(patient(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	for seq := max(1, info.State.FirstSeq); seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(patient(t), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func slicesOf(t *testing.T, r *regions.Region) []*jetstream.RawStreamMsg {
	t.Helper()
	return messagesOf(t, r, schemas.StreamSlices)
}

// healthIn asks the routers of a region how a CDN serves; nil: there was no answer.
func healthIn(t *testing.T, r *regions.Region, cdn string) *schemas.CDNHealth {
	t.Helper()
	q, err := json.Marshal(schemas.HealthQuery{CDN: cdn, Region: "eu"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Conn.Request(schemas.SubjectRouterHealth, q, 5*time.Second)
	var h schemas.CDNHealth
	if err != nil || json.Unmarshal(m.Data, &h) != nil {
		return nil
	}
	return &h
}

// liveIn says that the stream live/demo is live in a region.
func liveIn(t *testing.T, r *regions.Region) {
	t.Helper()
	k := schemas.StreamKey{App: "live", Stream: "demo"}
	putIn(t, r, schemas.BucketStreams, k.KVKey(), schemas.StreamState{App: k.App, Stream: k.Stream, Live: true, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(), Epoch: schemas.EpochOpen{
		Version: 1, App: k.App, Stream: k.Stream, Rendition: schemas.SourceRendition, Epoch: 1, Protocol: "rtmp",
		Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001f", InitID: fmt.Sprintf("%032d", 0), PartTargetUs: 200_000, Timescale: 90000, Width: 1280, Height: 720, FPS: 30}},
	}})
}

// runRouter runs a router of the region.
func runRouter(t *testing.T, r *regions.Region, signer *token.Signer, salt string) *router.Router {
	t.Helper()
	x, err := router.New(router.Settings{JS: r.JS, Signer: signer, ViewerSalt: []byte(salt), Collector: "http://collector.example", AliveWindow: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	await.True(t, "the router is ready", func() bool {
		select {
		case <-x.Ready():
			return true
		default:
			return false
		}
	})
	return x
}

// Sessions are made of telemetry in region a, and routers two regions away see
// how they are served: once each and in order, also after the relay was killed and
// the link was cut. So they see where routers of other regions send sessions.
func TestSlicesComeFromTheParent(t *testing.T) {
	c, links := chain(t)
	a, b, far := c.Regions[0], c.Regions[1], c.Regions[2]
	runRelay(t, a, "", nil)
	runRelay(t, b, "a", nil)
	kill := runRelay(t, far, "b", nil)
	signer, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"x", "y"} {
		putIn(t, far, schemas.BucketCDNs, name, schemas.CDN{Name: name, BaseURL: "http://" + name + ".example", State: schemas.CDNActive, Order: i})
	}
	liveIn(t, far)
	r := runRouter(t, far, signer, "salt of 16 bytes")
	var d schemas.Dispatch
	await.True(t, "region c dispatches", func() bool {
		body := get(t, r.URL()+"/v1/dispatch?app=live&stream=demo")
		return body != "" && json.Unmarshal([]byte(body), &d) == nil
	})
	if v := r.Viewers(); v["x"] == 0 || v["y"] != 0 {
		t.Fatalf("viewers %v after a dispatch", v)
	}
	sliced(t, a, signer.NewSessionID(), "y")
	await.True(t, "the router of region c knows where another region's viewer is", func() bool { return r.Viewers()["y"] == 1 })
	// Its player went to the other CDN by itself. What was seen about when it was sent says nothing: clocks of two regions are compared to some milliseconds.
	await.True(t, "the router of region c knows where its own viewer is", func() bool {
		sliced(t, a, d.SessionID, "y")
		return r.Viewers()["y"] == 2
	})
	await.True(t, "it says how old what it knows is", func() bool {
		h := healthIn(t, far, "y")
		return h != nil && h.InputAgeMs >= 0 && h.StallRatio.Value > 0.4
	})

	kill()
	for range 5 {
		sliced(t, a, signer.NewSessionID(), "y")
	}
	kill = runRelay(t, far, "b", nil)
	await.True(t, "what was said meanwhile is in region c", func() bool { return r.Viewers()["y"] == 7 })
	links[1].Cut()
	for range 5 {
		sliced(t, a, signer.NewSessionID(), "x")
	}
	want := slicesOf(t, a)
	await.True(t, "region b has them", func() bool { return len(slicesOf(t, b)) >= len(want) })
	links[1].Pass()
	await.True(t, "region c has them, too", func() bool {
		sliced(t, a, d.SessionID, "y") // what comes next shows that some were lost on the way
		return len(slicesOf(t, far)) >= len(want)
	})
	got := slicesOf(t, far)
	if want = slicesOf(t, a); len(got) > len(want) {
		t.Fatalf("region c has %d messages of %d", len(got), len(want))
	}
	for i, m := range got {
		if string(m.Data) != string(want[i].Data) || m.Subject != want[i].Subject {
			t.Errorf("message %d differs", i)
		}
		if ms, err := strconv.Atoi(m.Header.Get(schemas.HeaderWaitedMs)); err != nil || ms < 0 || m.Header.Get(schemas.HeaderVia) != "b/"+strconv.Itoa(i+1) {
			t.Errorf("message %d: headers %v", i, m.Header)
		}
	}
	decisionsAreShared(t, c.Regions, links[1].Cut, links[1].Pass, func() func() {
		kill()
		return func() { runRelay(t, far, "b", nil) }
	}, signer, r)
}

func putIn(t *testing.T, r *regions.Region, bucket, key string, v any) {
	t.Helper()
	kv, err := r.JS.KeyValue(patient(t), bucket)
	if err != nil {
		t.Fatal(err)
	}
	put(t, kv, key, v)
}
