package push_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/push"
)

var source = schemas.StreamKey{App: "live", Stream: "demo"}

// background runs f until the test ends.
func background(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	stop = running.Start(t, f).Stop
	return stop
}

// Streams are pushed to targets that take them (our own ingest, also over TLS and
// with HEVC, and nginx, where they play) beside targets that are not there, take
// connections and say nothing, take a publisher and read nothing, and close in the
// middle. The process that pushes is killed, and another goes on. The streams
// themselves miss nothing, and no log or state has a key.
func TestOneTargetNeverTouchesAnother(t *testing.T) {
	b := bustest.StartWith(t, schemas.BusSettings{MediaRetention: 5 * time.Minute}, bus.Options{})
	addr, addrTLS, trust := ingest(t, b)
	clip := filepath.Join(t.TempDir(), "clip.flv")
	if err := (publisher.Clip{Path: clip, Seconds: 2, KeyframeSeconds: 1, Width: 320, Height: 180, BitrateKbps: 300}).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, (&publisher.Replay{File: clip, URLs: []string{"rtmp://" + addr + "/live/demo"}, Spread: -1, Logger: slog.New(slog.DiscardHandler)}).Run)
	publishHEVC(t, "rtmp://"+addr+"/live#hevc")

	closed := listen(t)
	closed.Close()
	deaf := listen(t) // takes connections and says nothing
	const secret = "sesame-open"
	all := map[string]string{
		"good":   "rtmp://" + addr + "/pushed/{stream}-" + secret,
		"secure": "rtmps://" + addrTLS + "/secure/{stream}-" + secret,
		"gone":   "rtmp://" + closed.Addr().String() + "/app/{stream}-" + secret,
		"deaf":   "rtmp://user:" + secret + "@" + deaf.Addr().String() + "/app/{stream}-" + secret + "?auth=" + secret,
		"stuck":  "rtmp://" + takes(t, 0) + "/app/{stream}-" + secret,
		"closes": "rtmp://" + takes(t, 20) + "/app/{stream}-" + secret,
	}
	nginx := startNginx(t)
	if nginx != nil {
		all["nginx"] = nginx.PublishURL("{stream}-" + secret)
	}
	targets, err := registry.Open(t.Context(), b.JS, schemas.BucketPushes, schemas.ParsePushTarget)
	if err != nil {
		t.Fatal(err)
	}
	for name, url := range all {
		target := schemas.PushTarget{App: "live", URL: url}
		if name != "good" {
			target.Stream = "demo"
		}
		if _, err := targets.Edit(t.Context(), name, func(d *schemas.PushTarget, _ bool) error { *d = target; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	said := running.NewLog(t)
	pusher := func(js jetstream.JetStream) func(context.Context) error {
		return (&push.Pusher{JetStream: js, RetryFirst: 50 * time.Millisecond, RetryMost: 200 * time.Millisecond, ConnectTimeout: time.Second,
			TLS: trust, LeaseTTL: 1500 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Run
	}
	victim, err := b.Server.Connect("victim", nil)
	if err != nil {
		t.Fatal(err)
	}
	vjs, err := jetstream.New(victim)
	if err != nil {
		t.Fatal(err)
	}
	vctx, kill := context.WithCancel(t.Context())
	dead := make(chan struct{})
	go func() { defer close(dead); _ = pusher(vjs)(vctx) }() // without its connection it may fail
	states, err := b.JS.KeyValue(t.Context(), schemas.BucketPushStates)
	if err != nil {
		t.Fatal(err)
	}
	state := func(target string) schemas.PushState {
		e, err := states.Get(t.Context(), schemas.PushStateKey(target, source))
		if err != nil {
			return schemas.PushState{}
		}
		s, err := schemas.ParsePushState(e.Key(), e.Value())
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	pushed, secure, hevc := schemas.StreamKey{App: "pushed", Stream: "demo-" + secret}, schemas.StreamKey{App: "secure", Stream: "demo-" + secret}, schemas.StreamKey{App: "pushed", Stream: "hevc-" + secret}
	await.Text(t, "good targets have the streams", func() string {
		if s := state("good"); s.Phase != schemas.PushSending || s.Bytes < 100_000 {
			return "phase " + string(s.Phase)
		}
		for _, k := range []schemas.StreamKey{pushed, secure, hevc} {
			if st, ok := publishtest.State(t, b.JS, k); !ok || !st.Live || len(st.Epoch.Tracks) != 2 {
				return k.App
			}
		}
		return ""
	})
	if st, _ := publishtest.State(t, b.JS, hevc); !slices.ContainsFunc(st.Epoch.Tracks, func(x schemas.TrackInfo) bool { return strings.HasPrefix(x.Codec, "hvc1") }) {
		t.Errorf("HEVC came out as %+v", st.Epoch.Tracks)
	}
	await.Text(t, "the bad ones are tried again, with the reason", func() string {
		for _, name := range []string{"gone", "deaf", "closes"} {
			if s := state(name); s.Reconnects < 2 || name != "closes" && s.Bytes > 0 {
				return name + ": " + string(s.Phase)
			}
		}
		return ""
	})
	plays(t, nginx, "demo-"+secret)
	first := state("good")
	background(t, pusher(b.JS))
	kill1(victim)
	await.Text(t, "another process goes on", func() string {
		if s := state("good"); s.Holder == first.Holder || s.Phase != schemas.PushSending || s.Bytes < 50_000 {
			return "phase " + string(s.Phase)
		}
		return ""
	})
	kill()
	<-dead
	// Which refuses a second publisher until the connection of the first is gone.
	await.Text(t, "nginx is pushed to again", func() string {
		if s := state("nginx"); nginx != nil && (s.Holder == first.Holder || s.Phase != schemas.PushSending) {
			return "phase " + string(s.Phase)
		}
		return ""
	})

	for _, k := range []schemas.StreamKey{pushed, secure, hevc} {
		r := publishtest.Record(t, b.JS, k)
		i := slices.IndexFunc(r.Opens, func(o *schemas.EpochOpen) bool { return len(o.Tracks) == 2 })
		if i < 0 {
			t.Fatalf("%s: no epoch has picture and sound: %+v", k.App, r.Opens)
		}
		if n := r.Decode(t, r.Opens[i]); n[schemas.Video] < 20 || n[schemas.Audio] < 20 {
			t.Errorf("%s: decoded %v", k.App, n)
		}
	}
	publishtest.Record(t, b.JS, source) // which looks for gaps
	if state("good").DroppedFrames > 300 {
		t.Errorf("the good target lost %d frames", state("good").DroppedFrames)
	}
	for name := range all {
		if s := state(name); strings.Contains(s.Reason, secret) {
			t.Errorf("%s's state shows the key: %s", name, s.Reason)
		}
	}
	if strings.Contains(said.String(), secret) {
		t.Error("a log shows a key")
	}
}

// kill1 ends a process's connection as its death does.
func kill1(nc *nats.Conn) { nc.Close() }
