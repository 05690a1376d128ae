package push_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/workers/push"
)

var source = schemas.StreamKey{App: "live", Stream: "demo"}

// background runs f until the test ends.
func background(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// ingest takes publishers and gives its address.
func ingest(t *testing.T, b *bustest.Bus) string {
	t.Helper()
	svc, err := publish.New(t.Context(), publish.Settings{JetStream: b.JS, Auth: publish.Auth{OpenLoopback: true}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", Publish: svc})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		var g errgroup.Group
		g.Go(func() error { return svc.Run(ctx) })
		g.Go(func() error { return srv.Run(ctx) })
		return g.Wait()
	})
	<-srv.Ready()
	return srv.Addr().String()
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A stream is pushed to our own ingest, where it plays, beside a target that is not
// there and one that takes nothing. The process that pushes is killed, and another
// goes on. No log or state has a key.
func TestOneTargetNeverTouchesAnother(t *testing.T) {
	b := bustest.StartWith(t, schemas.BusSettings{MediaRetention: 5 * time.Minute}, bus.Options{})
	addr := ingest(t, b)
	clip := filepath.Join(t.TempDir(), "clip.flv")
	if err := (publisher.Clip{Path: clip, Seconds: 2, KeyframeSeconds: 1, Width: 320, Height: 180, BitrateKbps: 300}).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, (&publisher.Replay{File: clip, URLs: []string{"rtmp://" + addr + "/live/demo"}, Spread: -1, Logger: slog.New(slog.DiscardHandler)}).Run)

	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	targets, err := registry.Open(t.Context(), b.JS, schemas.BucketPushes, schemas.ParsePushTarget)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "sesame-open"
	for name, url := range map[string]string{
		"good": "rtmp://" + addr + "/pushed/{stream}-" + secret,
		"gone": "rtmp://" + closed.Addr().String() + "/app/{stream}-" + secret,
		"deaf": "rtmp://user:" + secret + "@" + deaf.Addr().String() + "/app/{stream}-" + secret + "?auth=" + secret,
	} {
		if _, err := targets.Edit(t.Context(), name, func(d *schemas.PushTarget, _ bool) error {
			*d = schemas.PushTarget{App: "live", URL: url}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var said lockedText
	pusher := func(js jetstream.JetStream) func(context.Context) error {
		return (&push.Pusher{JetStream: js, RetryFirst: 50 * time.Millisecond, RetryMost: 200 * time.Millisecond, ConnectTimeout: time.Second,
			LeaseTTL: 1500 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Run
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
	pushed := schemas.StreamKey{App: "pushed", Stream: "demo-" + secret}
	await.True(t, "the good target has the stream", func() bool {
		s := state("good")
		st, ok := publishtest.State(t, b.JS, pushed)
		return ok && st.Live && s.Phase == schemas.PushSending && s.Bytes > 100_000
	})
	await.Text(t, "the bad ones are tried again, with the reason", func() string {
		for _, name := range []string{"gone", "deaf"} {
			if s := state(name); s.Reconnects < 2 || s.Bytes > 0 {
				return name + ": " + string(s.Phase)
			}
		}
		return ""
	})
	first := state("good")
	background(t, pusher(b.JS))
	kill1(victim)
	await.Text(t, "another process goes on", func() string {
		if s := state("good"); s.Holder == first.Holder || s.Phase != schemas.PushSending || s.Bytes < 50_000 {
			return string(s.Phase)
		}
		return ""
	})
	kill()
	<-dead

	r := publishtest.Record(t, b.JS, pushed)
	i := slices.IndexFunc(r.Opens, func(o *schemas.EpochOpen) bool { return len(o.Tracks) == 2 })
	if i < 0 {
		t.Fatalf("no epoch has picture and sound: %+v", r.Opens)
	}
	if n := r.Decode(t, r.Opens[i]); n[schemas.Video] < 20 || n[schemas.Audio] < 20 {
		t.Errorf("decoded %v", n)
	}
	if state("good").DroppedFrames > 300 {
		t.Errorf("the good target lost %d frames", state("good").DroppedFrames)
	}
	for _, name := range []string{"good", "gone", "deaf"} {
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
