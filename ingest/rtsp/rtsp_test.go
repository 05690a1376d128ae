package rtsp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtsp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/camera"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/running"
)

var door = schemas.StreamKey{App: "home", Stream: "door"}

const password = "hunter2"

var clips sync.Map

// clip makes each clip once.
func clip(t *testing.T, s camera.ClipSettings) *camera.Clip {
	t.Helper()
	need.Program(t, "ffmpeg")
	once, _ := clips.LoadOrStore(s, sync.OnceValues(func() (*camera.Clip, error) { return camera.Make(context.Background(), s) }))
	c, err := once.(func() (*camera.Clip, error))()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func startCamera(t *testing.T, s camera.Settings) *camera.Camera {
	t.Helper()
	c, err := camera.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// puller is a running puller.
type puller struct {
	stop func()
	log  *running.Log
	reg  *prometheus.Registry
}

// pull runs a puller on a connection of its own.
func pull(t *testing.T, b *bustest.Bus) *puller {
	t.Helper()
	p := &puller{log: running.NewLog(t), reg: prometheus.NewRegistry()}
	logger := p.log.Logger()
	nc, err := b.Server.Connect("puller", nil)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := publish.New(t.Context(), publish.Settings{JetStream: js, Logger: logger, Registerer: p.reg})
	if err != nil {
		t.Fatal(err)
	}
	r, err := rtsp.New(t.Context(), rtsp.Settings{JetStream: js, Publish: svc, AnswerWithin: 30 * time.Second, Logger: logger, Registerer: p.reg})
	if err != nil {
		t.Fatal(err)
	}
	roles := running.Start(t, svc.Run, r.Run)
	p.stop = func() { roles.Stop(); nc.Close() }
	t.Cleanup(func() {
		p.stop()
		if strings.Contains(p.log.String(), password) {
			t.Error("the camera's password is in the log")
		}
	})
	return p
}

func (p *puller) counter(t *testing.T, name string) float64 {
	t.Helper()
	return running.Sum(t, p.reg, name)
}

func get[T any](t *testing.T, js jetstream.JetStream, bucket, key string) (v T) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), key); err == nil {
		if err := json.Unmarshal(e.Value(), &v); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func state(t *testing.T, b *bustest.Bus) schemas.StreamState {
	return get[schemas.StreamState](t, b.JS, schemas.BucketStreams, door.KVKey())
}

func pullState(t *testing.T, b *bustest.Bus) schemas.PullState {
	return get[schemas.PullState](t, b.JS, schemas.BucketPulls, door.KVKey())
}

// published is what stands on MEDIA of the stream, checked by the cutting rules.
type published struct {
	check   cutcheck.Checker
	epochs  []schemas.EpochOpen
	chunks  []schemas.Chunk
	payload [][]byte
}

func read(t *testing.T, b *bustest.Bus) *published {
	t.Helper()
	p := &published{}
	s, err := b.JS.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{schemas.MediaFilter(door)}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(schemas.MediaFilter(door)))
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, of := range info.State.Subjects {
		n += of
	}
	for ; n > 0; n-- {
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		switch m.Headers().Get(schemas.HeaderKind) {
		case schemas.KindEpoch:
			var e schemas.EpochOpen
			if err := json.Unmarshal(m.Data(), &e); err != nil {
				t.Fatal(err)
			}
			if err := p.check.Open(&e); err != nil {
				t.Fatal(err)
			}
			p.epochs = append(p.epochs, e)
		case schemas.KindChunk:
			ch, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.check.Chunk(ch, m.Data()); err != nil {
				t.Fatal(err)
			}
			p.chunks, p.payload = append(p.chunks, *ch), append(p.payload, m.Data())
		}
	}
	return p
}

// decode lets ffmpeg decode one track of one epoch, and gives what it complains of.
func (p *published) decode(t *testing.T, b *bustest.Bus, epoch uint32, track schemas.Track) (complaints string, frames int) {
	t.Helper()
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketInits)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for i, ch := range p.chunks {
		if ch.Epoch != epoch {
			continue
		}
		for _, f := range ch.Fragments {
			if f.Track != track {
				continue
			}
			if file.Len() == 0 {
				e, err := kv.Get(t.Context(), f.InitID)
				if err != nil {
					t.Fatal(err)
				}
				file.Write(e.Value())
			}
			file.Write(p.payload[i][f.Offset : f.Offset+f.Size])
		}
	}
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "warning", "-i", "-", "-f", "framecrc", "-")
	cmd.Stdin = &file
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, errs.String())
	}
	for _, l := range strings.Split(string(out), "\n") {
		if l != "" && l[0] != '#' {
			frames++
		}
	}
	return errs.String(), frames
}

func TestPullsWhatCamerasSend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		clip         camera.ClipSettings
		udp          bool
		video, audio string
	}{
		"h264 with B-frames and AAC over TCP": {camera.ClipSettings{BFrames: 2}, false, "avc1", "mp4a.40.2"},
		"h265 and Opus over UDP":              {camera.ClipSettings{Video: "h265", Audio: "opus"}, true, "hvc1", "opus"},
		"G.711 is left out":                   {camera.ClipSettings{Audio: "g711"}, false, "avc1", ""},
		"sound alone":                         {camera.ClipSettings{Video: "none"}, false, "", "mp4a.40.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			cam := startCamera(t, camera.Settings{Clip: clip(t, c.clip), User: "admin", Password: password, UDP: c.udp, ClockOffset: -time.Hour})
			src := schemas.Source{URL: cam.URL(), CDN: "a"}
			if c.udp {
				src.Transport = "udp"
			}
			bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), src)
			p := pull(t, b)
			await.True(t, "three seconds are published", func() bool { return state(t, b).Stats.Chunks >= 15 })
			p.stop()
			got := read(t, b)
			lost := p.counter(t, "spillway_pull_packets_lost_total")
			e := got.epochs[0]
			if e.Protocol != "rtsp" || e.CDN != "a" || len(got.epochs) != 1 {
				t.Errorf("%d epochs, the first %+v", len(got.epochs), e)
			}
			codecs := map[schemas.Track]string{}
			for _, tr := range e.Tracks {
				codecs[tr.Track] = tr.Codec
				complaints, frames := got.decode(t, b, e.Epoch, tr.Track)
				if complaints != "" || frames < 25 {
					t.Errorf("%s: %d frames; ffmpeg says: %s", tr.Track, frames, complaints)
				}
				if st := got.check.Tracks[tr.Track]; st.HolesUs > 50_000 && (lost == 0 || !c.udp) {
					t.Errorf("%s has holes of %d us", tr.Track, st.HolesUs)
				}
			}
			if !strings.HasPrefix(codecs[schemas.Video], c.video) || codecs[schemas.Audio] != c.audio || len(codecs) == 0 {
				t.Errorf("codecs %v", codecs)
			}
			if strings.Contains(name, "G.711") && !strings.Contains(p.log.String(), "G711") {
				t.Errorf("G.711 is not refused by name")
			}
			if pullState(t, b).Holder != "" {
				t.Errorf("after the stop: %+v", pullState(t, b))
			}
			await.True(t, "the camera was left with TEARDOWN", func() bool { return cam.Playing() == 0 && cam.Teardowns() >= 1 })
		})
	}
}

// say says demand until the returned function is called.
func say(t *testing.T, b *bustest.Bus) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			_ = demand.Say(b.Conn, door)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func TestOnDemandCameraSleepsUntilWatched(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	cam := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{})})
	always := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{})})
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: cam.URL(), OnDemand: true, GraceSec: 1})
	bustest.Put(t, b.JS, schemas.BucketSources, "home.hall", schemas.Source{URL: always.URL()})
	pull(t, b)
	await.True(t, "the camera that is always on is pulled", func() bool { return always.Playing() == 1 })
	if cam.Describes() != 0 {
		t.Error("a camera on demand was opened without demand")
	}
	for round := int64(1); round <= 2; round++ {
		stop := say(t, b)
		await.True(t, "the camera is live", func() bool { return state(t, b).Live && pullState(t, b).Playing })
		stop()
		await.True(t, "the camera is left", func() bool { return cam.Playing() == 0 && cam.Teardowns() >= round })
		await.True(t, "the state says so", func() bool { s := state(t, b); return !s.Live && strings.Contains(s.EndReason, "nobody watches") })
	}
	if cam.Teardowns() < cam.Plays() {
		t.Errorf("%d TEARDOWNs of %d PLAYs: the camera was not told that it is left", cam.Teardowns(), cam.Plays())
	}
	await.True(t, "the other camera is still pulled", func() bool { return always.Playing() == 1 })
	if n := len(read(t, b).epochs); n < 2 {
		t.Errorf("%d epochs: each waking is one", n)
	}
}

func TestOnePullerEachCameraAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	cam := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{})})
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: cam.URL()})
	first := pull(t, b)
	await.True(t, "the camera plays", func() bool { return pullState(t, b).Playing })
	holder := pullState(t, b).Holder
	second := pull(t, b)
	before := state(t, b).Stats.Chunks
	await.True(t, "the second puller had time to take it", func() bool { return state(t, b).Stats.Chunks > before+5 })
	if pullState(t, b).Holder != holder || cam.Plays() != 1 {
		t.Errorf("holder %s was %s, %d PLAYs: two pullers open one camera", pullState(t, b).Holder, holder, cam.Plays())
	}
	first.stop()
	await.True(t, "the second puller plays it", func() bool { s := pullState(t, b); return s.Playing && s.Holder != holder })
	if second.counter(t, "spillway_pull_takeovers_total") != 0 {
		t.Error("a lease that was given back counts as taken over")
	}
	// A lease whose holder says nothing any more runs out.
	second.stop()
	dead := schemas.PullState{App: door.App, Stream: door.Stream, Holder: "dead", UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(), Playing: true}
	bustest.Put(t, b.JS, schemas.BucketPulls, door.KVKey(), dead)
	third := pull(t, b)
	await.True(t, "a third takes over from a puller that died", func() bool { s := pullState(t, b); return s.Playing && s.Holder != "dead" })
	if third.counter(t, "spillway_pull_takeovers_total") != 1 {
		t.Error("the takeover is not counted")
	}
	read(t, b)
}

func TestLostPacketsAreBridgedToTheNextKeyFrame(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	cam := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{BFrames: 2}), LoseEvery: 150})
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: cam.URL()})
	p := pull(t, b)
	await.True(t, "packets are lost and media comes all the same", func() bool {
		return p.counter(t, "spillway_pull_frames_skipped_total") >= 20 && state(t, b).Stats.Chunks >= 20
	})
	p.stop()
	got := read(t, b)
	if complaints, frames := got.decode(t, b, got.epochs[0].Epoch, schemas.Video); complaints != "" || frames < 25 {
		t.Errorf("%d frames; ffmpeg says: %s", frames, complaints)
	}
	if p.counter(t, "spillway_pull_packets_lost_total") == 0 {
		t.Error("lost packets are not counted")
	}
}

func TestCameraThatFailsIsToldAndAskedAgain(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	cam := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{}), User: "admin", Password: "right"})
	url := strings.Replace(cam.URL(), "right", password, 1)
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: url})
	events, err := b.Conn.SubscribeSync("events.>")
	if err != nil {
		t.Fatal(err)
	}
	pull(t, b)
	await.True(t, "the camera's answer is told", func() bool { return strings.Contains(pullState(t, b).Error, "401 Unauthorized") })
	for {
		m, err := events.NextMsg(await.Limit)
		if err != nil {
			t.Fatalf("no event of the failure: %v", err)
		}
		var e schemas.Event
		if json.Unmarshal(m.Data, &e) == nil && e.Kind == schemas.EventPullFailed {
			if strings.Contains(string(m.Data), password) || !strings.Contains(e.Reason, "401") || e.Stream != "door" {
				t.Errorf("event %s", m.Data)
			}
			break
		}
	}
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: cam.URL()})
	await.True(t, "the right password is used at once", func() bool { s := pullState(t, b); return s.Playing && s.Error == "" })
	cam.Cut()
	await.True(t, "a camera that broke off plays again", func() bool { return cam.Plays() >= 2 && cam.Playing() == 1 })
	await.True(t, "in a new epoch", func() bool { return len(read(t, b).epochs) >= 2 })
}
