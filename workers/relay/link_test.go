package relay_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/regions"
	line "github.com/spillway-live/spillway/testenv/relay"
	"github.com/spillway-live/spillway/workers/relay"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// What a region may not do in its neighbours does not get there, and what is theirs does not come from there.
func mayNot(t *testing.T, c *regions.Chain) {
	from := c.Regions[1]
	nc, err := from.Relay()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	for _, to := range []*regions.Region{c.Regions[0], c.Regions[2]} {
		hear(t, from, to)
		hear(t, to, from)
		api := "$JS." + to.Name + ".API."
		if m, err := nc.Request(api+"DIRECT.GET.KV_inits.$KV.inits.none", nil, 20*time.Second); err != nil || m.Header.Get("Status") != "404" {
			t.Errorf("what region %s is to answer: %v, %v", to.Name, m, err)
		}
		for _, subject := range []string{
			api + "STREAM.DELETE.MEDIA", api + "STREAM.PURGE.TELEMETRY", api + "STREAM.MSG.GET.MEDIA", api + "STREAM.NAMES",
			api + "CONSUMER.CREATE.TELEMETRY.relay-x.telemetry.>", api + "CONSUMER.CREATE.KV_sources.relay-x.$KV.sources.>", api + "DIRECT.GET.KV_sources.$KV.sources.x",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if m, err := nc.RequestWithContext(ctx, subject, nil); err == nil {
				t.Errorf("region %s answers %s: %s", to.Name, subject, m.Data)
			}
			cancel()
		}
	}
}

// hear checks that of what one region sends another hears its ping, and nothing else.
func hear(t *testing.T, from, to *regions.Region) {
	t.Helper()
	ping := schemas.RegionPing(to.Name, from.Name)
	subjects := []string{"media.0.live.x.src", "chunks.0.live.x.src", "telemetry.0", "$KV.apps.live", "demand.live.x", "decisions.dispatch.live.x", "$JS.API.STREAM.NAMES", ping}
	heard := make(chan *nats.Msg, 1000)
	for _, subject := range subjects {
		s, err := to.Conn.ChanSubscribe(subject, heard)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Unsubscribe() }()
	}
	if err := to.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	late := time.After(time.Minute)
	for passed := false; !passed; { // until the link is up and knows that somebody listens
		for _, subject := range subjects { // the one that may pass is the last
			if err := from.Conn.Publish(subject, []byte("from "+from.Name)); err != nil {
				t.Fatal(err)
			}
		}
		wait := time.After(100 * time.Millisecond)
		for waiting := true; waiting && !passed; {
			select {
			case m := <-heard:
				passed = m.Subject == ping
				if string(m.Data) == "from "+from.Name && !passed {
					t.Errorf("region %s hears %s of region %s", to.Name, m.Subject, from.Name)
				}
			case <-wait:
				waiting = false
			case <-late:
				t.Fatal("the ping does not pass")
			}
		}
	}
}

// Settings come down from the parent; telemetry, events and decisions go up to
// it, over two links, in order, also what was written while a link was cut.
func TestSettingsComeDownAndTelemetryGoesUp(t *testing.T) {
	c, links := chain(t)
	a, far := c.Regions[0], c.Regions[2]
	t.Run("least rights", func(t *testing.T) { mayNot(t, c) })
	apps := bucket(t, a.JS, schemas.BucketApps)
	there := bucket(t, far.JS, schemas.BucketApps)
	put(t, apps, "live", &schemas.AppSettings{Private: true})
	put(t, there, "other", &schemas.AppSettings{}) // not the parent's
	clip := media.Load(t)
	p, crowd, few := publisher(t, a.JS, clip, "one"), publisher(t, a.JS, clip, "crowd"), publisher(t, a.JS, clip, "few")
	live(t, a.JS, p, crowd, few)
	put(t, bucket(t, a.JS, schemas.BucketCDNs), "x", schemas.CDN{Name: "x", BaseURL: "http://x.example", State: schemas.CDNActive})
	cdns := bucket(t, far.JS, schemas.BucketCDNs)
	put(t, cdns, "local", schemas.CDN{Name: "local", BaseURL: "http://local.example", State: schemas.CDNActive})
	put(t, cdns, "stray", schemas.CDN{Name: "stray", BaseURL: "http://stray.example", State: schemas.CDNActive})
	runRelay(t, a, "", nil)
	runRelay(t, c.Regions[1], "a", func(r *relay.Relay) { r.ParentCDNs = true })
	runRelay(t, far, "b", func(r *relay.Relay) {
		r.HotRegions, r.HotViewers, r.ParentCDNs, r.OwnCDNs = 2, 60, true, []string{"local"}
	})

	streams := bucket(t, far.JS, schemas.BucketStreams)
	await.True(t, "region c knows the stream", func() bool { _, err := streams.Get(patient(t), p.Key.KVKey()); return err == nil })
	if _, err := there.Get(patient(t), "live"); err != nil {
		t.Errorf("a stream is known before it is known that it is private: %v", err)
	}
	if _, err := there.Get(patient(t), "other"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("a setting the parent does not have: %v", err)
	}
	put(t, apps, "new", &schemas.AppSettings{})
	await.True(t, "a change comes down", func() bool { _, err := there.Get(patient(t), "new"); return err == nil })

	cdnsComeDown(t, a, far)

	push(t, p, a.JS, 3)
	push(t, crowd, a.JS, 3)
	push(t, few, a.JS, 3)
	watch(t, a, p.Key)
	watch(t, c.Regions[1], p.Key)
	watch(t, c.Regions[1], few.Key)
	watch(t, c.Regions[1], crowd.Key)
	await.True(t, "what is watched in two regions is in c before anybody there watches", func() bool { ids, _ := messages(t, far, p.Key); return len(ids) == 4 })
	for i := range 100 {
		decided(t, c.Regions[1], crowd.Key, i)
		decided(t, c.Regions[1], few.Key, i%20)
	}
	await.True(t, "what a hundred watch in region b, too", func() bool { ids, _ := messages(t, far, crowd.Key); return len(ids) == 4 })
	if ids, _ := messages(t, far, few.Key); len(ids) > 0 {
		t.Errorf("region c has %d messages of a stream that twenty watch in one other region", len(ids))
	}

	goesUp(t, a, far, links[0])
}

// cdnsComeDown: a CDN that is drained in region a is in region c two links away, whose own one stays.
func cdnsComeDown(t *testing.T, a, far *regions.Region) {
	put(t, bucket(t, a.JS, schemas.BucketCDNs), "x", schemas.CDN{Name: "x", BaseURL: "http://x.example", State: schemas.CDNDraining})
	put(t, bucket(t, a.JS, schemas.BucketUsage), schemas.UsageKey, schemas.Usage{Seq: 7})
	cdns, usage := bucket(t, far.JS, schemas.BucketCDNs), bucket(t, far.JS, schemas.BucketUsage)
	await.True(t, "the registry of CDNs and their volumes come down", func() bool {
		e, err := cdns.Get(patient(t), "x")
		u, uerr := usage.Get(patient(t), schemas.UsageKey)
		_, stray := cdns.Get(patient(t), "stray")
		return err == nil && strings.Contains(string(e.Value()), string(schemas.CDNDraining)) && uerr == nil && strings.Contains(string(u.Value()), "7") && errors.Is(stray, jetstream.ErrKeyNotFound)
	})
	if _, err := cdns.Get(patient(t), "local"); err != nil {
		t.Errorf("the region's own CDN: %v", err)
	}
}

// decided puts the decision about a session on a region's bus, as its routers do.
func decided(t *testing.T, r *regions.Region, k schemas.StreamKey, session int) {
	t.Helper()
	d := &schemas.Decision{ID: rand.Text(), TimeUs: time.Now().UnixMicro(), Kind: schemas.DecisionSteering, App: k.App, Stream: k.Stream,
		SessionID: "s" + strconv.Itoa(session), Policy: "p", PolicyVersion: "1", Candidates: []schemas.Candidate{{CDN: "a"}}, Chosen: "a", Probability: 1, ReasonCode: "affinity"}
	b, err := schemas.EncodeRecord(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.JS.Publish(patient(t), schemas.DecisionSubject(d), b, jetstream.WithMsgID(d.ID)); err != nil {
		t.Fatal(err)
	}
}

func goesUp(t *testing.T, a, far *regions.Region, link *line.Relay) {
	const batches = 20
	for i := range batches {
		if i == batches/2 {
			link.Cut()
		}
		m := &nats.Msg{Subject: schemas.TelemetrySubject(3), Data: []byte(strconv.Itoa(i)), Header: nats.Header{schemas.HeaderProducer: {"p"}, schemas.HeaderProducerSeq: {strconv.Itoa(i + 1)}}}
		if _, err := far.JS.PublishMsg(patient(t), m, jetstream.WithMsgID("p/3/"+strconv.Itoa(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	e := &schemas.Event{ID: "test/1", TimeUs: time.Now().UnixMicro(), Kind: schemas.EventStreamStarted, App: "live", Stream: "one"}
	b, err := schemas.EncodeRecord(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.JS.Publish(patient(t), schemas.EventSubject(e), b, jetstream.WithMsgID(e.ID)); err != nil {
		t.Fatal(err)
	}
	link.Pass()
	got := func(stream, subject string) (out []string) {
		s, err := a.JS.Stream(patient(t), stream)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); ; {
			m, err := s.GetMsg(patient(t), seq, jetstream.WithGetMsgSubject(subject))
			if err != nil {
				return out
			}
			out, seq = append(out, string(m.Data)), m.Sequence+1
		}
	}
	await.True(t, "the event is in region a", func() bool { return len(got(schemas.StreamEvents, schemas.EventSubject(e))) == 1 })
	await.True(t, "the telemetry is in region a", func() bool { return len(got(schemas.StreamTelemetry, schemas.TelemetrySubject(3))) >= batches })
	var want []string
	for i := range batches {
		want = append(want, strconv.Itoa(i))
	}
	if out := got(schemas.StreamTelemetry, schemas.TelemetrySubject(3)); !slices.Equal(out, want) {
		t.Errorf("region a has %v", out)
	}
}

func bucket(t *testing.T, js jetstream.JetStream, name string) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(patient(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t *testing.T, kv jetstream.KeyValue, key string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(patient(t), key, b); err != nil {
		t.Fatal(err)
	}
}
