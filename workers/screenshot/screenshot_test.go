package screenshot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/workerstest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

var key = schemas.StreamKey{App: "live", Stream: "one"}

// memory is a Source over prepared messages.
type memory struct {
	inits map[string][]byte
	last  *schemas.Picture
}

func (m *memory) Chunk(context.Context, uint64) (workers.Message, error) {
	return workers.Message{}, ErrGone
}
func (m *memory) Init(_ context.Context, id string) ([]byte, error) {
	if b, ok := m.inits[id]; ok {
		return b, nil
	}
	return nil, ErrGone
}
func (m *memory) Last(context.Context, schemas.StreamKey) (*schemas.Picture, error) {
	return m.last, nil
}

func handler(t testing.TB, src Source, s Settings) *Handler {
	t.Helper()
	if s.Decoder == nil {
		pool := &Pool{Timeout: time.Minute} // a decoder may wait for a CPU
		t.Cleanup(pool.Close)
		s.Decoder = pool
	}
	h, err := New(src, s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func chunks(t *testing.T, n int) ([]workers.Message, *memory) {
	t.Helper()
	clip := media.Load(t)
	p := &media.Publisher{Clip: clip, Key: key}
	var msgs []workers.Message
	for range n {
		m, err := media.Message(p.Chunk())
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, m)
	}
	init := clip.Init(schemas.Video)
	return msgs, &memory{inits: map[string][]byte{schemas.InitID(init): init}}
}

func TestContract(t *testing.T) {
	msgs, src := chunks(t, 25) // 5 s
	pool := &Pool{Timeout: time.Minute}
	t.Cleanup(pool.Close)
	workerstest.Run(t, workerstest.Contract{
		New:      func(t *testing.T) workers.Handler { return handler(t, src, Settings{Decoder: pool}) },
		Messages: msgs, AllowSilence: true,
	})
}

// 60 s of a stream with a key frame each 2 s: one picture for each 5 s of its
// own clock, real JPEGs of the right size.
func TestIntervalOfStreamTime(t *testing.T) {
	msgs, src := chunks(t, 300)
	h := handler(t, src, Settings{})
	intervals := map[int64]bool{}
	for _, m := range msgs {
		out, err := h.Handle(t.Context(), []workers.Message{m})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Subject != "pictures.live.one" {
				t.Fatalf("output to %s: %s", o.Subject, o.Data)
			}
			var p schemas.Picture
			if err := json.Unmarshal([]byte(o.Header.Get(schemas.HeaderPicture)), &p); err != nil {
				t.Fatal(err)
			}
			img, err := jpeg.Decode(bytes.NewReader(o.Data))
			if err != nil {
				t.Fatal(err)
			}
			if s := img.Bounds().Size(); s.X != 320 || s.Y != 180 || p.Width != s.X || p.Height != s.Y {
				t.Errorf("picture of %v, header says %d x %d", s, p.Width, p.Height)
			}
			i := p.WallUnixUs / 5_000_000
			if intervals[i] {
				t.Errorf("two pictures for interval %d", i)
			}
			intervals[i] = true
		}
	}
	if n := len(intervals); n < 12 || n > 13 {
		t.Errorf("%d pictures of 60 s", n)
	}
}

// Two workers make one picture of each interval; interval and size are those of
// the stream's settings, or its application's. A stream of damaged key frames
// beside it is told of, and costs the others nothing.
func TestTwoWorkersMakeOnePicture(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	settings, err := registry.Open(t.Context(), b.JS, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		t.Fatal(err)
	}
	for k, p := range map[string]schemas.PictureSettings{"live": {IntervalMs: 5000, Width: 200}, "live.small": {IntervalMs: 10_000, Width: 96}, "live.off": {Off: true}} {
		if _, err := settings.Put(t.Context(), k, &schemas.AppSettings{Pictures: &p}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		running.Start(t, func(ctx context.Context) error {
			return Run(ctx, b.JS, Settings{Registerer: prometheus.NewRegistry(), Decoder: &Pool{Timeout: time.Minute}})
		})
	}
	// Aligned with the intervals, so that the number of pictures is certain.
	clip := media.Load(t)
	for _, name := range []string{"one", "small", "off"} {
		p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: name}, Start: time.Now().Truncate(10 * time.Second)}
		if err := p.Announce(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
		for range 100 { // 20 s
			if err := p.Push(t.Context(), b.JS); err != nil {
				t.Fatal(err)
			}
		}
	}
	pushDamaged(t, b, schemas.StreamKey{App: "live", Stream: "damaged"})
	pictures, err := b.JS.Stream(t.Context(), schemas.StreamPictures)
	if err != nil {
		t.Fatal(err)
	}
	counts := func() map[string]uint64 {
		i, err := pictures.Info(t.Context(), jetstream.WithSubjectFilter("pictures.>"))
		if err != nil {
			t.Fatal(err)
		}
		return i.State.Subjects
	}
	want := map[string]uint64{"pictures.live.one": 4, "pictures.live.small": 2}
	await.Text(t, "all chunks are looked at", func() string {
		c, err := b.JS.Consumer(t.Context(), schemas.StreamMedia, Role)
		if err != nil {
			return err.Error()
		}
		if i := c.CachedInfo(); i.NumPending > 0 || i.NumAckPending > 0 || i.Delivered.Consumer == 0 {
			return fmt.Sprintf("%d chunks to look at, %d at work", i.NumPending, i.NumAckPending)
		}
		return ""
	})
	if got := counts(); !maps.Equal(got, want) {
		t.Errorf("pictures of 20 s: %v, want %v", got, want)
	}
	for subject, width := range map[string]int{"pictures.live.one": 200, "pictures.live.small": 96} {
		m, err := pictures.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		if img, err := jpeg.DecodeConfig(bytes.NewReader(m.Data)); err != nil || img.Width != width {
			t.Errorf("%s: %d pixels wide, want %d (%v)", subject, img.Width, width, err)
		}
	}
	events, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := events.GetLastMsgForSubject(t.Context(), "events.picture_failed.live.damaged"); err != nil || !strings.Contains(string(m.Data), "reason") {
		t.Errorf("nobody was told of the damaged key frame: %v", err)
	}
}

// pushDamaged publishes one chunk whose key frame is noise.
func pushDamaged(t *testing.T, b *bustest.Bus, k schemas.StreamKey) {
	t.Helper()
	p := &media.Publisher{Clip: media.Load(t), Key: k}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	c, payload := p.Chunk()
	f := c.Fragments[0]
	data := bytes.Clone(payload[f.Offset : f.Offset+f.Size])
	for i := 16 + bytes.Index(data, []byte("mdat")); i < len(data); i++ {
		data[i] = byte(i * 7)
	}
	c.Fragments = c.Fragments[:1]
	m, err := media.Message(c, data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutFFmpeg(t *testing.T) {
	msgs, src := chunks(t, 60)
	h := handler(t, src, Settings{Decoder: &Pool{Path: "no-such-ffmpeg"}})
	events := 0
	for _, m := range msgs {
		out, err := h.Handle(t.Context(), []workers.Message{m})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if !strings.HasPrefix(o.Subject, "events.picture_failed.") || !strings.Contains(string(o.Data), "not installed") {
				t.Errorf("%s: %s", o.Subject, o.Data)
			}
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d events", events)
	}
}

func TestDamagedFragment(t *testing.T) {
	msgs, src := chunks(t, 1)
	c, err := schemas.DecodeChunk([]byte(msgs[0].Header.Get(schemas.HeaderChunk)), msgs[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Clone(msgs[0].Data)
	f := c.Fragments[0]
	for i := f.Offset + 16; i < f.Offset+f.Size; i++ {
		data[i] = byte(i * 7)
	}
	c.Fragments = c.Fragments[:1]
	m, err := media.Message(c, data[:f.Size])
	if err != nil {
		t.Fatal(err)
	}
	out, err := handler(t, src, Settings{}).Handle(t.Context(), []workers.Message{m})
	if err != nil || len(out) != 1 || out[0].Subject != "events.picture_failed.live.one" {
		t.Errorf("%v %+v", err, out)
	}
}

// The measured distance of key frames changes by a millisecond each second, and two
// workers do not hear of it at the same moment: their intervals begin anywhere, and
// still no two pictures are less than half an interval apart, nor any two intervals
// without one.
func TestIntervalsThatMoveMakeNoPictureMore(t *testing.T) {
	const interval = 5 * time.Second
	src := &memory{}
	keys := int64(0)
	var hs [2]*Handler
	for i := range hs {
		var err error
		if hs[i], err = New(src, Settings{Interval: interval, KeyFrames: func(schemas.StreamKey) time.Duration {
			return 2*time.Second - time.Duration((keys/3+int64(i))%2)*time.Millisecond
		}}); err != nil {
			t.Fatal(err)
		}
	}
	var at []int64
	for ; keys < 600; keys++ {
		d := due{key: key, chunk: fmt.Sprint(keys), wallUs: 1_795_000_000_000_000 + keys*2_000_000}
		h := hs[keys%2]
		if !h.due(t.Context(), &d) {
			continue
		}
		h.remember(key, done{d.wallUs, d.chunk, d.every})
		if src.last != nil && d.near(src.last.WallUnixUs) { // asked once more when the picture is made
			continue
		}
		at = append(at, d.wallUs)
		src.last = &schemas.Picture{WallUnixUs: d.wallUs}
	}
	for i := range at[1:] {
		if d := time.Duration(at[i+1]-at[i]) * time.Microsecond; d < interval/2 || d > 2*interval {
			t.Errorf("pictures %d and %d are %v apart", i, i+1, d)
		}
	}
	if len(at) < 120 {
		t.Errorf("%d pictures of 20 minutes", len(at))
	}
}
