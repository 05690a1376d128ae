package packager_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func run(t *testing.T, p *packager.Packager) {
	t.Helper()
	running.Start(t, p.Run)
}

// parts counts what packagers send, by stream.
type parts struct {
	mu   sync.Mutex
	seen map[string]int
	ids  map[string]bool
	dup  int
}

func listen(t *testing.T, nc *nats.Conn) *parts {
	t.Helper()
	p := &parts{seen: map[string]int{}, ids: map[string]bool{}}
	if _, err := nc.Subscribe("parts.>", func(m *nats.Msg) {
		part, err := schemas.DecodePart([]byte(m.Header.Get(schemas.HeaderPart)), m.Data)
		if err != nil {
			t.Error(err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen[part.App+"/"+part.Stream]++
		if p.ids[part.MsgID()] {
			p.dup++
		}
		p.ids[part.MsgID()] = true
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *parts) of(stream string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[stream]
}

// Streams nobody asks for are not even sent to a packager; a stream is packaged
// once its parts are asked for, or where its settings say always. Two packagers
// make each part once.
func TestOnlyWhatIsWantedIsPackaged(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	for range 2 {
		run(t, &packager.Packager{JetStream: b.JS})
	}
	p := listen(t, b.Conn)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketApps)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "always", []byte(`{"package_always":true}`)); err != nil {
		t.Fatal(err)
	}
	clip := media.Load(t)
	streams := map[string]*media.Publisher{}
	for _, app := range []string{"idle", "wanted", "always"} {
		streams[app] = &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: app, Stream: "s"}}
		if err := streams[app].Announce(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "both streams are packaged", func() bool {
		if err := demand.SayParts(b.Conn, streams["wanted"].Key); err != nil {
			t.Fatal(err)
		}
		for _, s := range streams {
			if err := s.Push(t.Context(), b.JS); err != nil {
				t.Fatal(err)
			}
		}
		return p.of("wanted/s") > 10 && p.of("always/s") > 10
	})
	if n := p.of("idle/s"); n != 0 {
		t.Errorf("%d parts of a stream that nobody wants", n)
	}
	if p.dup > 0 {
		t.Errorf("%d parts came twice", p.dup)
	}
}

// Three packagers of all streams make each part once.
func TestAlwaysPackagesAllOnce(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	for range 3 {
		run(t, &packager.Packager{JetStream: b.JS, Always: true})
	}
	p := listen(t, b.Conn)
	clip := media.Load(t)
	await.True(t, "packagers listen", func() bool {
		m := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "a", Stream: fmt.Sprint("first", time.Now().UnixNano())}}
		if err := m.Push(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.seen) > 0
	})
	m := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "a", Stream: "s"}}
	for range 100 {
		if err := m.Push(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "all are packaged", func() bool { return p.of("a/s") >= 200 })
	if p.dup > 0 {
		t.Errorf("%d parts came twice", p.dup)
	}
}
