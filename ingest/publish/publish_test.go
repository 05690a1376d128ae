package publish_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

var (
	sps, _ = hex.DecodeString("6742c01eda0280bfe5c05a808080a0000003002000000781e2c5d4")
	pps, _ = hex.DecodeString("68ce0fc8")
	video  = &cut.VideoConfig{Codec: cut.H264, SPS: sps, PPS: pps}
	other  = &cut.VideoConfig{Codec: cut.H264, SPS: sps, PPS: []byte{0x68, 0xce, 0x0f, 0xc9}}
	audio  = &cut.AudioConfig{Codec: cut.AAC, AAC: &mpeg4audio.AudioSpecificConfig{
		Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2}}
	demo = schemas.StreamKey{App: "live", Stream: "demo"}
	here = publish.Request{Key: demo, Protocol: "test", Peer: netip.MustParseAddr("127.0.0.1")}
)

// serve runs a service on a bus until the test ends or stop is called.
func serve(t *testing.T, b *bustest.Bus, change func(*publish.Settings)) (svc *publish.Service, stop func()) {
	t.Helper()
	s := publish.Settings{JetStream: b.JS, Auth: publish.Auth{OpenLoopback: true}}
	if change != nil {
		change(&s)
	}
	svc, err := publish.New(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	stop = running.Start(t, svc.Run).Stop
	return svc, stop
}

func admit(t *testing.T, svc *publish.Service) *publish.Publication {
	t.Helper()
	p, err := svc.Admit(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recorded is what the bus has of the stream.
type recorded struct {
	check cutcheck.Checker
	opens []schemas.EpochOpen
	// samples of video by epoch, in the order of opens.
	samples []int
}

func (r *recorded) pictures() int {
	if v := r.check.Tracks[schemas.Video]; v != nil {
		return v.Samples
	}
	return 0
}

func record(t *testing.T, b *bustest.Bus) *recorded {
	t.Helper()
	r := &recorded{}
	subject := schemas.MediaSubject(demo, schemas.SourceRendition)
	st, err := b.JS.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); ; seq++ {
		m, err := st.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		seq = m.Sequence
		switch m.Header.Get(schemas.HeaderKind) {
		case schemas.KindEpoch:
			var o schemas.EpochOpen
			if err := json.Unmarshal(m.Data, &o); err != nil {
				t.Fatal(err)
			}
			if err := r.check.Open(&o); err != nil {
				t.Error(err)
			}
			r.opens, r.samples = append(r.opens, o), append(r.samples, 0)
		case schemas.KindChunk:
			c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
			before := r.pictures()
			if err == nil {
				err = r.check.Chunk(c, m.Data)
				r.samples[len(r.samples)-1] += r.pictures() - before
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// feed writes 25 pictures a second, a key frame each second, and AAC if told.
type feed struct {
	t       *testing.T
	p       *publish.Publication
	picture int
	sound   int
}

func (f *feed) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *feed) frame() cut.Frame {
	key := f.picture%25 == 0
	data := []byte{0, 0, 0, 4, 0x41, 1, 2, 3}
	if key {
		data[4] = 0x65
	}
	fr := cut.Frame{DTSUs: int64(f.picture) * 40_000, Key: key, Data: data, ArrivedUs: time.Now().UnixMicro()}
	f.picture++
	return fr
}

func (f *feed) run(pictures int, withAudio bool) {
	f.t.Helper()
	for range pictures {
		f.must(f.p.WriteVideo(f.frame()))
		if !withAudio {
			f.sound = f.picture * 40 * 48 / 1024
		}
		for ; withAudio && f.sound*1024 < f.picture*40*48; f.sound++ {
			f.must(f.p.WriteAudio(cut.Frame{DTSUs: int64(f.sound) * 1024 * 1000 / 48, Data: []byte{1, 2, 3}, ArrivedUs: time.Now().UnixMicro()}))
		}
	}
}

// A track that begins late, and a changed configuration, wait for the next key
// frame: no picture is lost, and no sound behind it.
func TestChangesWaitForAKeyFrame(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, nil)
	f := &feed{t: t, p: admit(t, svc)}
	f.must(f.p.Video(video))
	f.run(35, false)
	f.must(f.p.Audio(audio)) // in the middle of a group of pictures
	f.run(40, true)          // up to a key frame
	f.must(f.p.Video(video)) // the same again changes nothing
	f.must(f.p.Audio(audio))
	f.run(25, true)
	f.must(f.p.Video(other))
	f.run(50, true)
	if err := f.p.End(publish.ErrEnded); !errors.Is(err, publish.ErrEnded) {
		t.Errorf("ended because %v", err)
	}
	r := record(t, b)
	if len(r.opens) != 3 || len(r.opens[0].Tracks) != 1 || len(r.opens[1].Tracks) != 2 || r.opens[1].Protocol != "test" {
		t.Fatalf("epochs %+v", r.opens)
	}
	// hls.js asks for a segment of number 0 again and again.
	if n := r.opens[0].Tracks[0].FirstMSN; n != 1 {
		t.Errorf("the stream's first segment has number %d", n)
	}
	v, a := r.check.Tracks[schemas.Video], r.check.Tracks[schemas.Audio]
	if v.Samples != f.picture {
		t.Errorf("%d of %d pictures", v.Samples, f.picture)
	}
	if want := f.sound - 50*40*48/1024; a.Samples < want-1 { // those before the first key frame belong to no epoch
		t.Errorf("%d of %d sounds", a.Samples, want)
	}
}

// A configuration that changes before the first epoch, while frames wait for the
// other track, is not that of the frames before it.
func TestChangesBeforeTheFirstEpoch(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, nil)
	f := &feed{t: t, p: admit(t, svc)}
	f.p.Expect(true, true)
	f.must(f.p.Video(video))
	f.run(25, false)
	f.must(f.p.Video(other)) // the sound is not known yet
	f.run(25, false)
	f.must(f.p.Audio(audio))
	f.run(50, true)
	_ = f.p.End(publish.ErrEnded)
	r := record(t, b)
	if len(r.opens) != 2 {
		t.Fatalf("epochs %+v", r.opens)
	}
	for i, c := range []*cut.VideoConfig{video, other} {
		want, err := cut.NewVideoTrack(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.opens[i].Tracks[0].InitID; got != want.Info.InitID {
			t.Errorf("epoch %d has the configuration %s, not %s", i, got, want.Info.InitID)
		}
	}
	if n := r.samples[0]; n != 25 {
		t.Errorf("%d pictures have the first configuration, not 25", n)
	}
	if v := r.check.Tracks[schemas.Video]; v.Samples != f.picture {
		t.Errorf("%d of %d pictures", v.Samples, f.picture)
	}
}

// Protocols with a goroutine for each track write from both.
func TestTracksFromTwoGoroutines(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, nil)
	p := admit(t, svc)
	p.Expect(true, true)
	p.Encoder("two goroutines")
	if err := p.Video(video); err != nil {
		t.Fatal(err)
	}
	if err := p.Audio(audio); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		f := &feed{t: t, p: p}
		for range 250 {
			if err := p.WriteVideo(f.frame()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for i := range int64(469) {
			if err := p.WriteAudio(cut.Frame{DTSUs: i * 1024 * 1000 / 48, Data: []byte{1}, ArrivedUs: time.Now().UnixMicro()}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	_ = p.End(publish.ErrEnded)
	if r := record(t, b); len(r.opens) != 1 || r.opens[0].Encoder != "two goroutines" || len(r.check.Tracks) != 2 {
		t.Errorf("epochs %+v", r.opens)
	}
}

func TestWithoutMedia(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, func(s *publish.Settings) { s.StartTimeout = 50 * time.Millisecond })
	p := admit(t, svc)
	<-p.Done()
	var why *publish.Refused
	if err := p.End(errors.New("the connection was lost")); !errors.As(err, &why) || why.Code != "no_media" {
		t.Errorf("ended because %v", err)
	}
	if err := p.WriteVideo(cut.Frame{}); !errors.As(err, &why) {
		t.Errorf("written after the end: %v", err)
	}
	// A key frame that never comes.
	f := &feed{t: t, p: admit(t, svc), picture: 1}
	f.must(f.p.Video(video))
	var err error
	await.True(t, "it is given up", func() bool {
		fr := f.frame()
		fr.Key = false
		err = f.p.WriteVideo(fr)
		f.picture++
		return err != nil
	})
	if !errors.As(err, &why) || why.Code != "no_key_frame" && why.Code != "no_media" {
		t.Errorf("ended because %v", err)
	}
	_ = f.p.End(err)
}

// The service stops its publications, waits for their protocols, and admits no more.
func TestShutdown(t *testing.T) {
	b := bustest.Start(t)
	svc, stop := serve(t, b, nil)
	f := &feed{t: t, p: admit(t, svc)}
	f.must(f.p.Video(video))
	f.run(60, false)
	ended := make(chan error, 1)
	go func() {
		<-f.p.Done()
		ended <- f.p.End(f.p.Err())
	}()
	stop()
	if err := <-ended; !errors.Is(err, publish.ErrShutdown) {
		t.Errorf("ended because %v", err)
	}
	if _, err := svc.Admit(t.Context(), here); err == nil {
		t.Error("admitted after the shutdown")
	}
	if v := record(t, b).check.Tracks[schemas.Video]; v == nil || v.Samples != 60 {
		t.Errorf("published %+v", v)
	}
}

// The context of an admission is its protocol's server's.
func TestServerOfAProtocolStops(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, nil)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := svc.Admit(ctx, here)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-p.Done()
	if err := p.End(errors.New("x")); !errors.Is(err, publish.ErrShutdown) {
		t.Errorf("ended because %v", err)
	}
}

func TestConfigurationsAreRefused(t *testing.T) {
	b := bustest.Start(t)
	svc, _ := serve(t, b, nil)
	p := admit(t, svc)
	var why *publish.Refused
	if err := p.Video(&cut.VideoConfig{Codec: "vp8"}); !errors.As(err, &why) || why.Code != "codec" {
		t.Errorf("VP8: %v", err)
	}
	if err := p.Audio(&cut.AudioConfig{Codec: "mp3"}); !errors.As(err, &why) || why.Code != "codec" {
		t.Errorf("MP3: %v", err)
	}
	_ = p.End(why)
	for name, r := range map[string]publish.Request{
		"name": {Key: schemas.StreamKey{App: "a.b", Stream: "c"}, Protocol: "test", Peer: here.Peer},
		"key":  {Key: demo, Protocol: "test", Peer: netip.MustParseAddr("192.0.2.1")},
	} {
		if _, err := svc.Admit(t.Context(), r); !errors.As(err, &why) || why.Code != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	pulled := publish.Request{Key: demo, Protocol: "test", Peer: netip.MustParseAddr("192.0.2.1"), Trusted: true}
	q, err := svc.Admit(t.Context(), pulled)
	if err != nil {
		t.Fatal(err)
	}
	_ = q.End(publish.ErrEnded)
}
