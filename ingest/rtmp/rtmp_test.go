package rtmp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// env is a server on a real bus.
type env struct {
	t    *testing.T
	bus  *bustest.Bus
	srv  *rtmp.Server
	keys *token.Signer
	log  *running.Log
	reg  *prometheus.Registry // of the last server
}

// counter sums a metric over its labels.
func (e *env) counter(name string) float64 {
	e.t.Helper()
	return running.Sum(e.t, e.reg, name)
}

// settings of a service and of its server.
type settings struct {
	publish.Settings
	rtmp rtmp.Settings
}

func start(t *testing.T, bs schemas.BusSettings, change func(*settings)) *env {
	t.Helper()
	e := &env{t: t, bus: bustest.StartWith(t, bs, bus.Options{}), log: running.NewLog(t)}
	e.serve(change)
	return e
}

// serve starts a server; it is stopped when the test ends. The last one started is e.srv.
func (e *env) serve(change func(*settings)) (stop func()) {
	e.t.Helper()
	var err error
	if e.keys, err = token.NewSigner([]byte("0123456789abcdef0123456789abcdef")); err != nil {
		e.t.Fatal(err)
	}
	e.reg = prometheus.NewRegistry()
	s := settings{Settings: publish.Settings{
		JetStream: e.bus.JS, Auth: publish.Auth{Keys: e.keys, OpenLoopback: true}, TelemetryEvery: 500 * time.Millisecond,
	}}
	s.Logger, s.Registerer = e.log.Logger(), e.reg
	s.rtmp = rtmp.Settings{Listen: "127.0.0.1:0", Logger: s.Logger, Registerer: s.Registerer}
	if change != nil {
		change(&s)
	}
	if s.rtmp.Publish, err = publish.New(e.t.Context(), s.Settings); err != nil {
		e.t.Fatal(err)
	}
	srv, err := rtmp.New(s.rtmp)
	if err != nil {
		e.t.Fatal(err)
	}
	e.srv = srv
	return running.Start(e.t, s.rtmp.Publish.Run, srv.Run).Ready(srv.Ready()).Stop
}

func (e *env) url(path string) string { return "rtmp://" + e.srv.Addr().String() + "/" + path }

// source describes what ffmpeg publishes.
type source struct {
	fps      string
	gop      int
	bframes  int
	rate     int // 0: no audio
	novideo  bool
	seconds  int
	realtime bool
	size     string
	extra    []string
}

func (s source) args() []string {
	a := []string{"-hide_banner", "-loglevel", "error", "-nostdin"}
	in := func(lavfi string) {
		if s.realtime {
			a = append(a, "-re")
		}
		a = append(a, "-f", "lavfi", "-i", lavfi)
	}
	if s.fps == "" {
		s.fps = "30"
	}
	if s.gop == 0 {
		s.gop = 60
	}
	if s.size == "" {
		s.size = "320x180"
	}
	if !s.novideo {
		in(fmt.Sprintf("testsrc=size=%s:rate=%s", s.size, s.fps))
	}
	if s.rate > 0 {
		in(fmt.Sprintf("sine=frequency=440:sample_rate=%d", s.rate))
	}
	a = append(a, "-t", fmt.Sprint(s.seconds))
	if !s.novideo {
		a = append(a, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", fmt.Sprint(s.gop), "-keyint_min", fmt.Sprint(s.gop),
			"-sc_threshold", "0", "-bf", fmt.Sprint(s.bframes), "-threads", "1")
	}
	if s.rate > 0 {
		a = append(a, "-c:a", "aac", "-b:a", "96k")
	}
	return append(a, s.extra...)
}

// publish runs ffmpeg until it ends or the context does.
func (s source) publish(ctx context.Context, url string) (stderr string, err error) {
	cmd := exec.CommandContext(ctx, "ffmpeg", append(s.args(), "-f", "flv", url)...)
	var b bytes.Buffer
	cmd.Stderr = &b
	err = cmd.Run()
	return b.String(), err
}

// publication is what is found on the bus.
type recorded struct {
	t       *testing.T
	check   cutcheck.Checker
	opens   []*schemas.EpochOpen
	ends    int
	chunks  []*schemas.Chunk
	media   map[uint32]map[schemas.Track][]byte // by epoch: concatenated fragments
	lastSeq uint64
}

// record reads everything on the stream's subject and verifies it.
func (e *env) record(k schemas.StreamKey) *recorded {
	e.t.Helper()
	r := &recorded{t: e.t, media: map[uint32]map[schemas.Track][]byte{}}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	st, err := e.bus.JS.Stream(ctx, schemas.StreamMedia)
	if err != nil {
		e.t.Fatal(err)
	}
	last, err := st.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		e.t.Fatalf("nothing on %s: %v", subject, err)
	}
	c, err := e.bus.JS.OrderedConsumer(ctx, schemas.StreamMedia, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		e.t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		e.t.Fatal(err)
	}
	defer it.Stop()
	for r.lastSeq < last.Sequence {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			e.t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			e.t.Fatal(err)
		}
		r.lastSeq = meta.Sequence.Stream
		r.take(m)
	}
	return r
}

func (r *recorded) take(m jetstream.Msg) {
	r.t.Helper()
	switch kind := m.Headers().Get(schemas.HeaderKind); kind {
	case schemas.KindEpoch:
		var o schemas.EpochOpen
		if err := json.Unmarshal(m.Data(), &o); err != nil {
			r.t.Fatal(err)
		}
		if err := r.check.Open(&o); err != nil {
			r.t.Error(err)
		}
		r.opens = append(r.opens, &o)
		r.media[o.Epoch] = map[schemas.Track][]byte{}
	case schemas.KindChunk:
		c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
		if err != nil {
			r.t.Fatal(err)
		}
		if got := m.Headers().Get(nats.MsgIdHdr); got != c.MsgID() {
			r.t.Errorf("message id %q, want %q", got, c.MsgID())
		}
		if err := r.check.Chunk(c, m.Data()); err != nil {
			r.t.Error(err)
		}
		r.chunks = append(r.chunks, c)
		for _, f := range c.Fragments {
			r.media[c.Epoch][f.Track] = append(r.media[c.Epoch][f.Track], m.Data()[f.Offset:f.Offset+f.Size]...)
		}
	case schemas.KindEnd:
		r.ends++
	default:
		r.t.Errorf("message of kind %q", kind)
	}
}

// decode gives one epoch's track to ffmpeg and ffprobe: no warning, and timestamps without a jump.
func (e *env) decode(r *recorded, o *schemas.EpochOpen, wantFrames map[schemas.Track]int, maxStep map[schemas.Track]float64) {
	e.t.Helper()
	ctx := context.Background()
	kv, err := e.bus.JS.KeyValue(ctx, schemas.BucketInits)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, t := range o.Tracks {
		init, err := kv.Get(ctx, t.InitID)
		if err != nil {
			e.t.Fatalf("init of %s: %v", t.Track, err)
		}
		if schemas.InitID(init.Value()) != t.InitID {
			e.t.Errorf("init of %s has another name than its content", t.Track)
		}
		file := filepath.Join(e.t.TempDir(), string(t.Track)+".mp4")
		if err := os.WriteFile(file, append(bytes.Clone(init.Value()), r.media[o.Epoch][t.Track]...), 0o600); err != nil {
			e.t.Fatal(err)
		}
		out, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-i", file, "-f", "null", "-").CombinedOutput()
		if err != nil || len(out) > 0 {
			e.t.Errorf("ffmpeg on %s: %v: %s", t.Track, err, out)
		}
		out, err = exec.Command("ffprobe", "-loglevel", "warning", "-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0", file).CombinedOutput()
		if err != nil {
			e.t.Fatalf("ffprobe: %v: %s", err, out)
		}
		lines := strings.Fields(string(out))
		if want := wantFrames[t.Track]; want > 0 && (len(lines) < want-2 || len(lines) > want+2) {
			e.t.Errorf("%s has %d frames, want about %d", t.Track, len(lines), want)
		}
		prev := -1.0
		for i, l := range lines {
			var pts, dts float64
			if _, err := fmt.Sscanf(l, "%g,%g", &pts, &dts); err != nil {
				e.t.Fatalf("ffprobe line %q: %v", l, err)
			}
			if pts < dts-1e-6 {
				e.t.Errorf("%s packet %d: presented at %v, decoded at %v", t.Track, i, pts, dts)
			}
			if prev >= 0 && (dts <= prev || dts-prev > maxStep[t.Track]) {
				e.t.Errorf("%s packet %d: decoded at %v after %v", t.Track, i, dts, prev)
			}
			prev = dts
		}
	}
}

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

func TestFormats(t *testing.T) {
	for name, s := range map[string]source{
		"30 fps 48 kHz":            {rate: 48000},
		"30 fps 48 kHz B-frames":   {rate: 48000, bframes: 2},
		"29.97 fps 44.1 kHz":       {fps: "30000/1001", rate: 44100},
		"29.97 B-frames":           {fps: "30000/1001", rate: 48000, bframes: 3},
		"24 fps 44.1 kHz B-frames": {fps: "24", gop: 48, rate: 44100, bframes: 2},
		"23.976 fps":               {fps: "24000/1001", gop: 48, rate: 48000},
		"60 fps":                   {fps: "60", gop: 120, rate: 48000},
		"video only":               {},
		"audio only":               {novideo: true, rate: 48000},
		"audio only 44.1":          {novideo: true, rate: 44100},
		"long group":               {gop: 250, rate: 48000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.seconds = 6
			e := start(t, schemas.BusSettings{}, nil)
			if out, err := s.publish(t.Context(), e.url("live/demo?cdn=b")); err != nil {
				t.Fatalf("ffmpeg: %v: %s", err, out)
			}
			e.waitEnd(demo)
			r := e.record(demo)
			if len(r.opens) != 1 || r.ends != 1 || r.opens[0].Epoch != 1 || r.opens[0].CDN != "b" || r.chunks[0].CDN != "b" {
				t.Fatalf("%d epochs, %d ends: %+v", len(r.opens), r.ends, r.opens)
			}
			want, step := map[schemas.Track]int{}, map[schemas.Track]float64{schemas.Audio: 0.0243}
			v, a := r.check.Tracks[schemas.Video], r.check.Tracks[schemas.Audio]
			if s.rate > 0 {
				want[schemas.Audio] = s.seconds * s.rate / 1024
				if a == nil || a.Short > 0 || a.HolesUs > 0 {
					t.Errorf("audio %+v", a)
				}
			}
			if !s.novideo {
				var num, den float64 = 30, 1
				fmt.Sscanf(s.fps, "%g/%g", &num, &den)
				want[schemas.Video] = int(float64(s.seconds) * num / den)
				step[schemas.Video] = den/num + 0.0021
				if v == nil || v.Short > 2 || v.HolesUs > 3000 || v.LongestSegUs > 4_100_000 {
					t.Errorf("video %+v", v)
				}
				if s.gop < 250 && v.Keys != v.Segments {
					t.Errorf("video %+v: not every segment starts with a key frame", v)
				}
				if a != nil && a.Segments != v.Segments {
					t.Errorf("%d video segments, %d audio segments", v.Segments, a.Segments)
				}
			}
			e.decode(r, r.opens[0], want, step)
		})
	}
}

// waitEnd waits until the stream's state says that it is not live.
func (e *env) waitEnd(k schemas.StreamKey) schemas.StreamState {
	e.t.Helper()
	var st schemas.StreamState
	e.until("the stream has ended", func() bool {
		var ok bool
		st, ok = e.state(k)
		return ok && !st.Live
	})
	return st
}

func (e *env) state(k schemas.StreamKey) (schemas.StreamState, bool) {
	var st schemas.StreamState
	kv, err := e.bus.JS.KeyValue(e.t.Context(), schemas.BucketStreams)
	if err != nil {
		e.t.Fatal(err)
	}
	v, err := kv.Get(e.t.Context(), k.KVKey())
	if err != nil {
		return st, false
	}
	if err := json.Unmarshal(v.Value(), &st); err != nil {
		e.t.Fatal(err)
	}
	return st, true
}

func (e *env) until(what string, f func() bool) {
	e.t.Helper()
	await.True(e.t, what, f)
}

// all gives the messages of a stream so far.
func (e *env) all(stream string) []*jetstream.RawStreamMsg {
	e.t.Helper()
	st, err := e.bus.JS.Stream(e.t.Context(), stream)
	if err != nil {
		e.t.Fatal(err)
	}
	info, err := st.Info(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	var out []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; info.State.Msgs > 0 && seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(e.t.Context(), seq)
		if err != nil {
			e.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// events gives the events of a kind so far.
func (e *env) events(kind schemas.EventKind) []schemas.Event {
	e.t.Helper()
	var out []schemas.Event
	for _, m := range e.all(schemas.StreamEvents) {
		var v schemas.Event
		if err := schemas.DecodeRecord(m.Data, &v); err != nil {
			e.t.Error(err)
		}
		if v.Kind == kind {
			out = append(out, v)
		}
	}
	return out
}
