package transcode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

var key = schemas.StreamKey{App: "live", Stream: "one"}

var ladder = []schemas.Rung{
	{Name: "144p", Height: 144, BitrateBps: 200_000}, {Name: "90p", Height: 90, BitrateBps: 100_000},
	{Name: "720p", Height: 720, BitrateBps: 3_000_000}, // higher than the source: left out
}

// setLadder writes an application's settings.
func setLadder(t testing.TB, js jetstream.JetStream, app string, l []schemas.Rung) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), schemas.BucketApps)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(schemas.AppSettings{Ladder: l})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), app, b); err != nil {
		t.Fatal(err)
	}
}

// watch says that a stream is watched until the returned function is called.
func watch(t testing.TB, nc *nats.Conn, k schemas.StreamKey) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := demand.Say(nc, k); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(demand.Every / 2):
			}
		}
	}()
	leave = func() { cancel(); <-done }
	t.Cleanup(leave)
	return leave
}

// push publishes a source in real time until the context ends or n chunks are out.
func push(t testing.TB, js jetstream.JetStream, p *media.Publisher, ctx context.Context, n int) {
	t.Helper()
	if err := p.Announce(ctx, js); err != nil {
		t.Error(err)
		return
	}
	tick := time.NewTicker(time.Second * media.PartFrames / media.FPS)
	defer tick.Stop()
	for i := range n {
		if err := p.Push(ctx, js); err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		if i%5 == 0 {
			if err := p.PutState(ctx, js, true); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pushing runs push beside the test; the source stops with the returned function.
func pushing(t testing.TB, js jetstream.JetStream, p *media.Publisher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); push(t, js, p, ctx, 1<<30) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// start runs a worker beside the test.
func start(t testing.TB, w *Worker) (stop func()) {
	t.Helper()
	if w.Logger == nil && testing.Verbose() {
		w.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w.Registerer = prometheus.NewRegistry()
	return running.Start(t, w.Run).Stop
}

// made is one chunk on the bus.
type made struct {
	*schemas.Chunk
	data []byte
	at   time.Time
}

// follow collects a rendition's chunks as they come. It fails the test where
// numbers repeat or go back.
type follower struct {
	t      testing.TB
	chunks chan made
	kinds  chan string
}

func follow(t testing.TB, js jetstream.JetStream, k schemas.StreamKey, rendition string) *follower {
	t.Helper()
	s, err := js.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{schemas.MediaSubject(k, rendition)}})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, chunks: make(chan made, 4096), kinds: make(chan string, 4096)}
	cc, err := c.Consume(func(m jetstream.Msg) {
		kind := m.Headers().Get(schemas.HeaderKind)
		f.kinds <- kind
		if kind != schemas.KindChunk {
			return
		}
		c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
		if err != nil {
			t.Error(err)
			return
		}
		f.chunks <- made{c, m.Data(), time.Now()}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cc.Stop)
	return f
}

// next gives the next n chunks.
func (f *follower) next(n int) []made {
	f.t.Helper()
	var out []made
	limit := time.After(30 * time.Second)
	for len(out) < n {
		select {
		case c := <-f.chunks:
			out = append(out, c)
		case <-limit:
			f.t.Fatalf("%d chunks of %d after 30 s", len(out), n)
		}
	}
	return out
}

// stateOf gives a rendition's state; nil without one.
func stateOf(t testing.TB, js jetstream.JetStream, k schemas.StreamKey, rendition string) *schemas.RenditionState {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), schemas.BucketRenditions)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), k.KVKey()+"."+rendition)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	var s schemas.RenditionState
	if err := json.Unmarshal(e.Value(), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// compare checks that chunks have the shape of the source's: numbers, base times,
// durations, frames, clocks; that they follow each other without a hole; and that
// ffmpeg decodes all of them without a word. It gives the number of frames.
func compare(t testing.TB, js jetstream.JetStream, got []made, source map[uint64]made) int {
	t.Helper()
	frames := 0
	var end uint64
	var file []byte
	for i, c := range got {
		src, ok := source[c.Seq]
		if !ok {
			t.Fatalf("chunk %s has no source", c.ContentID())
		}
		if c.Epoch != src.Epoch || c.WallOfFirst() != src.WallOfFirst() || c.ReceivedUnixUs != src.ReceivedUnixUs || c.Clock != src.Clock ||
			c.ClockBoundUs != src.ClockBoundUs || c.DiscontinuitySeq != src.DiscontinuitySeq || c.CDN != src.CDN {
			t.Errorf("chunk %s differs from the source's: %+v, %+v", c.ContentID(), c.Chunk, src.Chunk)
		}
		var video []schemas.Fragment
		for _, f := range src.Fragments {
			if f.Track == schemas.Video {
				video = append(video, f)
			}
		}
		if len(c.Fragments) != len(video) {
			t.Fatalf("chunk %s has %d parts, its source %d", c.ContentID(), len(c.Fragments), len(video))
		}
		for k, f := range c.Fragments {
			want := video[k]
			want.Offset, want.Size, want.InitID, want.Independent = f.Offset, f.Size, f.InitID, f.Independent
			if !reflect.DeepEqual(f, want) {
				t.Errorf("chunk %s, part %d: %+v, want %+v", c.ContentID(), k, f, want)
			}
			if f.SegmentStart && !f.Independent {
				t.Errorf("chunk %s: segment %d starts without a key frame", c.ContentID(), f.MSN)
			}
			if i > 0 && f.BaseTime != end {
				t.Errorf("chunk %s: a hole from %d to %d", c.ContentID(), end, f.BaseTime)
			}
			end = f.BaseTime + f.Duration
			s, err := samplesOf(&f, c.data[f.Offset:f.Offset+f.Size])
			if err != nil {
				t.Fatal(err)
			}
			frames += len(s)
			of, kind := cmaf.Reference(src.data[video[k].Offset : video[k].Offset+video[k].Size])
			if own, _ := cmaf.Reference(c.data[f.Offset : f.Offset+f.Size]); kind != cmaf.ReferenceEncoder || !bytes.Equal(own, of) {
				t.Errorf("chunk %s, part %d: prft %x, its source has %x", c.ContentID(), k, own, of)
			}
			if file == nil {
				file = initOf(t, js, f.InitID)
			}
			file = append(file, c.data[f.Offset:f.Offset+f.Size]...)
		}
	}
	if n := decode(t, file); n != frames {
		t.Errorf("%d frames decode, there are %d", n, frames)
	}
	return frames
}

func (m made) WallOfFirst() int64 {
	for _, f := range m.Fragments {
		if f.Track == schemas.Video {
			return f.WallUnixUs
		}
	}
	return 0
}

func initOf(t testing.TB, js jetstream.JetStream, id string) []byte {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), schemas.BucketInits)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e.Value()
}

// decode gives the number of frames in an MP4 file; ffmpeg must not complain.
func decode(t testing.TB, file []byte) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.mp4")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ffmpeg", "-v", "error", "-xerror", "-err_detect", "explode", "-i", name, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("ffmpeg: %v: %s", err, out)
	}
	out, err = exec.Command("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		t.Fatalf("ffprobe says %q", out)
	}
	return n
}

// source gives the chunks of last's epoch, up to it, by number.
func (f *follower) source(last made) map[uint64]made {
	f.t.Helper()
	out := map[uint64]made{}
	for {
		c := f.next(1)[0]
		if c.Epoch == last.Epoch {
			out[c.Seq] = c
		}
		if c.Epoch == last.Epoch && c.Seq >= last.Seq {
			return out
		}
	}
}

func counter(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
