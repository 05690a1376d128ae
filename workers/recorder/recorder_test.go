package recorder_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/recorder"
	"github.com/spillway-live/spillway/workers/store"
	"github.com/spillway-live/spillway/workers/store/storetest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

var key = schemas.StreamKey{App: "live", Stream: "one"}

func trackOf(t schemas.Track) archive.Track {
	return archive.Track{Class: archive.ClassDVR, Key: key, Rendition: schemas.SourceRendition, Track: t}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// run starts a recorder; stop ends it.
func run(t testing.TB, js jetstream.JetStream, o store.Objects) (stop func()) {
	t.Helper()
	r := &recorder.Recorder{JetStream: js, Store: o, PutTimeout: time.Second, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	stop = running.Start(t, r.Run).Stop
	return stop
}

func settings(t testing.TB, js jetstream.JetStream, k string, a schemas.AppSettings) {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), schemas.BucketApps)
	if err == nil {
		_, err = kv.Put(t.Context(), k, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func folder(t testing.TB) *store.Folder {
	t.Helper()
	f, err := store.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// source publishes chunks and keeps the bytes that each segment must have.
type source struct {
	*media.Publisher
	t    testing.TB
	js   jetstream.JetStream
	want map[string][]byte // <track>/<epoch>-<msn>
}

func newSource(t testing.TB, js jetstream.JetStream, p *media.Publisher) *source {
	t.Helper()
	p.Key = key
	if p.Start.IsZero() {
		p.Start = time.Now()
	}
	if err := p.Announce(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	return &source{p, t, js, map[string][]byte{}}
}

func (s *source) push(n int) {
	s.t.Helper()
	for range n {
		c, payload := s.Chunk()
		for i := range c.Fragments {
			p, data := packager.Part(c, payload, i)
			k := string(p.Track) + "/" + schemas.SegmentBase(p.Epoch, p.MSN)
			s.want[k] = append(s.want[k], data...)
		}
		s.send(c, payload)
	}
}

func (s *source) send(c *schemas.Chunk, payload []byte) {
	s.t.Helper()
	m, err := media.Message(c, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	msg := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
	msg.Header.Set(jetstream.MsgIDHeader, c.MsgID())
	if _, err := s.js.PublishMsg(s.t.Context(), msg); err != nil {
		s.t.Fatal(err)
	}
}

// recorded gives the segments in the store, and checks each against its name.
func recorded(t testing.TB, o store.Objects, tr schemas.Track) map[string]archive.Segment {
	t.Helper()
	l, err := o.List(t.Context(), trackOf(tr).Prefix(), "", 10_000)
	if err != nil {
		return nil // the store is away
	}
	out := map[string]archive.Segment{}
	for _, i := range l {
		if s, ok := trackOf(tr).Parse(i.Key); ok {
			k := string(tr) + "/" + schemas.SegmentBase(s.Epoch, s.MSN)
			if _, twice := out[k]; twice {
				t.Errorf("%s is there twice", k)
			}
			out[k] = s
		} else if !strings.Contains(i.Key, "/init-") {
			t.Errorf("%s is no name of a segment", i.Key)
		}
	}
	return out
}

// verify requires segments to be there with the right bytes and their inits.
func verify(t testing.TB, o store.Objects, want map[string][]byte, names ...string) {
	t.Helper()
	for _, n := range names {
		tr := schemas.Track(n[:strings.IndexByte(n, '/')])
		s, ok := recorded(t, o, tr)[n]
		if !ok {
			t.Errorf("%s is not recorded", n)
			continue
		}
		b, err := store.Get(t.Context(), o, trackOf(tr).Object(&s), 64<<20)
		if err != nil || !bytes.Equal(b, want[n]) || s.Bytes != int64(len(b)) || s.CRC != crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) {
			t.Errorf("%s: %v, %d bytes of %d, named %+v", n, err, len(b), len(want[n]), s)
		}
		init, err := store.Get(t.Context(), o, trackOf(tr).Init(&s), 1<<20)
		if err != nil || schemas.InitID(init) != s.InitID {
			t.Errorf("%s: its init segment: %v", n, err)
		}
	}
}

func names(epoch int, from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("video/%d-%d", epoch, i), fmt.Sprintf("audio/%d-%d", epoch, i))
	}
	return out
}

func has(t testing.TB, o store.Objects, want []string) func() bool {
	return func() bool {
		v, a := recorded(t, o, schemas.Video), recorded(t, o, schemas.Audio)
		for _, n := range want {
			_, inV := v[n]
			_, inA := a[n]
			if !inV && !inA {
				return false
			}
		}
		return true
	}
}

// A stream that wants it is recorded though nobody watches, from what the bus
// still holds; others are not. The end closes the last segment.
func TestRecordsWhatSettingsWant(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	clip := media.Load(t)
	o := folder(t)
	s := newSource(t, b.JS, &media.Publisher{Clip: clip, FirstMSN: 5})
	s.push(25) // before anybody records
	other := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "two"}, Start: time.Now()}
	for range 25 {
		if err := other.Push(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
	}
	run(t, b.JS, o)
	settings(t, b.JS, "live.one", schemas.AppSettings{DVRSec: 3600})
	await.True(t, "what was there", has(t, o, names(1, 5, 6)))
	s.push(27)
	if err := s.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the end", has(t, o, names(1, 5, 10)))
	verify(t, o, s.want, names(1, 5, 10)...)
	if n := len(recorded(t, o, schemas.Video)); n != 6 {
		t.Errorf("%d video segments of 6", n)
	}
	if d, err := o.Dirs(t.Context(), "dvr/live/"); err != nil || !slices.Equal(d, []string{"one"}) {
		t.Errorf("recorded: %v %v", d, err)
	}
	v := recorded(t, o, schemas.Video)["video/1-7"]
	if v.DurationUs != 2_000_000 || v.WallUnixUs != s.Start.UnixMicro()+4_000_000 || v.Discontinuity {
		t.Errorf("%+v", v)
	}
}

// A publisher that dies and comes back: the new epoch closes the old segment,
// and what the dead one still sends is ignored.
func TestNewEpoch(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	clip := media.Load(t)
	o := folder(t)
	settings(t, b.JS, "live", schemas.AppSettings{DVRSec: 60})
	run(t, b.JS, o)
	old := newSource(t, b.JS, &media.Publisher{Clip: clip, FirstMSN: 0})
	old.push(13)
	whole := bytes.Clone(old.want["video/1-1"])
	next := newSource(t, b.JS, &media.Publisher{Clip: clip, FirstMSN: 2, Epoch: 2, DSeq: 1, Discontinuity: true})
	next.push(5)
	old.push(10) // it has not noticed
	next.push(16)
	await.True(t, "both epochs", has(t, o, append(names(1, 0, 1), names(2, 2, 3)...)))
	old.want["video/1-1"] = whole
	verify(t, o, old.want, "video/1-0", "audio/1-0", "video/1-1")
	verify(t, o, next.want, names(2, 2, 3)...)
	if n := len(recorded(t, o, schemas.Video)); n != 4 {
		t.Errorf("%d video segments of 4: %v", n, recorded(t, o, schemas.Video))
	}
	if s := recorded(t, o, schemas.Video)["video/2-2"]; !s.Discontinuity || s.DiscontinuitySeq != 1 {
		t.Errorf("%+v", s)
	}
}

// cut is a store whose process dies at some point: nothing it does afterwards
// reaches the store, and it answers nothing more.
type cut struct {
	store.Objects
	left chan struct{} // one for each Put that succeeds
	dead chan struct{}
	once sync.Once
}

func (c *cut) Put(ctx context.Context, k string, data []byte) error {
	select {
	case <-c.left:
		return c.Objects.Put(ctx, k, data)
	default:
	}
	c.once.Do(func() { close(c.dead) })
	<-ctx.Done()
	return ctx.Err()
}

// Recorders share the work; one that dies with work in its hands leaves no hole.
func TestRecorderDies(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := folder(t)
	settings(t, b.JS, "live", schemas.AppSettings{DVRSec: 60})
	nc, err := b.Server.Connect("dies", nil)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	dying := &cut{Objects: o, left: make(chan struct{}, 7), dead: make(chan struct{})}
	for range cap(dying.left) {
		dying.left <- struct{}{}
	}
	stop := run(t, js, dying)
	s := newSource(t, b.JS, &media.Publisher{Clip: media.Load(t), FirstMSN: 5})
	s.push(75)
	<-dying.dead
	nc.Close() // it can acknowledge and give back nothing any more
	run(t, b.JS, o)
	run(t, b.JS, o)
	s.push(26)
	want := names(1, 5, 14)
	await.True(t, "every segment", has(t, o, want))
	verify(t, o, s.want, want...)
	stop()
}

// The store goes away and comes back: what the bus has kept is there in the end.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	svc := storetest.Start(t)
	o := svc.Store("spillway/")
	b := bustest.Start(t)
	settings(t, b.JS, "live", schemas.AppSettings{DVRSec: 60})
	run(t, b.JS, o)
	s := newSource(t, b.JS, &media.Publisher{Clip: media.Load(t), FirstMSN: 5})
	s.push(22)
	await.True(t, "the first segments", has(t, o, names(1, 5, 6)))
	svc.Kill()
	s.push(60)
	svc.Run()
	s.push(20)
	want := names(1, 5, 14)
	await.True(t, "what was published while the store was away", has(t, o, want))
	verify(t, o, s.want, want...)
}

// What is older than viewers may seek back goes, block by block; nothing else does.
func TestSweep(t *testing.T) {
	t.Parallel()
	o := folder(t)
	now := time.Date(2026, 11, 21, 12, 34, 0, 0, time.UTC)
	other := trackOf(schemas.Video)
	other.Key.Stream = "two"
	add := func(tr archive.Track, age time.Duration) string {
		t.Helper()
		s := archive.Segment{Epoch: 1, MSN: uint64(1e6 - age.Seconds()), ReceivedUnixUs: now.Add(-age).UnixMicro(), DurationUs: 2e6, Bytes: 1, InitID: strings.Repeat("a", 32)}
		for _, k := range []string{tr.Object(&s), tr.Init(&s)} {
			if err := o.Put(t.Context(), k, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		return tr.Object(&s)
	}
	var stay, go_ []string
	for _, age := range []time.Duration{0, 20 * time.Minute, 59 * time.Minute} {
		stay = append(stay, add(trackOf(schemas.Video), age))
	}
	stay = append(stay, add(other, 5*time.Minute))
	// What a verdict has marked stays until the mark is over, as does the mark.
	at := now.Add(-5 * time.Hour)
	marks := archive.Marks(trackOf(schemas.Video).Key, at.UnixMicro(), "bad")
	for _, k := range marks {
		if err := o.Put(t.Context(), k, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	stay = append(stay, add(trackOf(schemas.Video), now.Sub(at)), marks[0])
	over := archive.Marks(other.Key, now.Add(-archive.MarkKept-time.Hour).UnixMicro(), "bad")[0]
	if err := o.Put(t.Context(), over, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	go_ = append(go_, over)
	for _, age := range []time.Duration{75 * time.Minute, 3 * time.Hour} {
		go_ = append(go_, add(trackOf(schemas.Video), age), add(trackOf(schemas.Audio), age))
	}
	go_ = append(go_, add(other, 59*time.Minute)) // not to be recorded any more
	foreign := "dvr/live/one/src/video/notes/readme"
	if err := o.Put(t.Context(), foreign, []byte("x")); err != nil {
		t.Fatal(err)
	}
	n, err := recorder.Sweep(t.Context(), o, now, func(k schemas.StreamKey) time.Duration {
		if k.Stream == "one" {
			return time.Hour
		}
		return 10 * time.Minute
	})
	if want := 2*len(go_) - 1; err != nil || n != want { // a mark has no init segment
		t.Errorf("%d objects deleted of %d: %v", n, want, err)
	}
	for _, k := range append(stay, foreign) {
		if _, err := o.Stat(t.Context(), k); err != nil {
			t.Error(err)
		}
	}
	for _, k := range go_ {
		if _, err := o.Stat(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", k, err)
		}
	}
}
