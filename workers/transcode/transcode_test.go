package transcode

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// Every rung has the source's segments and parts, decodes, and is announced.
func TestRenditionsAreAligned(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder)
	src := follow(t, b.JS, key, schemas.SourceRendition)
	rungs := map[string]*follower{"144p": follow(t, b.JS, key, "144p"), "90p": follow(t, b.JS, key, "90p")}
	stop := pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, FirstMSN: 7, Start: time.Now()})
	watch(t, b.Conn, key)
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond})
	got := map[string][]made{}
	for name, f := range rungs {
		got[name] = f.next(32)
	}
	state := stateOf(t, b.JS, key, "144p")
	stop()
	last := got["144p"][31]
	if l := got["90p"][31]; l.Seq > last.Seq {
		last = l
	}
	source := src.source(last)
	for name, chunks := range got {
		if first := &chunks[0].Fragments[0]; !first.SegmentStart {
			t.Errorf("%s begins in the middle of segment %d", name, first.MSN)
		}
		if n := compare(t, b.JS, chunks, source); n != 32*media.PartFrames {
			t.Errorf("%s has %d frames", name, n)
		}
	}
	if state == nil || !state.Live || state.AverageBps <= 0 || state.PeakBps < state.AverageBps || len(state.Epoch.Tracks) != 1 {
		t.Fatalf("state %+v", state)
	}
	if v := state.Epoch.Tracks[0]; v.Width != 256 || v.Height != 144 || v.FPS != media.FPS || v.FirstMSN < 7 || v.InitID != got["144p"][0].Fragments[0].InitID {
		t.Errorf("track %+v", v)
	}
	if stateOf(t, b.JS, key, "720p") != nil {
		t.Error("a rung higher than the source was made")
	}
}

// Nobody watches: nothing is made. The last viewer leaves: it ends after the grace.
func TestOnlyWhileWatched(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder[:1])
	f := follow(t, b.JS, key, "144p")
	pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	src := follow(t, b.JS, key, schemas.SourceRendition)
	w := &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond, Grace: 100 * time.Millisecond}
	start(t, w)
	src.next(5)
	if len(f.chunks) > 0 {
		t.Error("made although nobody watches")
	}
	leave := watch(t, b.Conn, key)
	f.next(5)
	await.True(t, "the rendition is announced", func() bool { s := stateOf(t, b.JS, key, "144p"); return s != nil && s.Live })
	leave()
	await.True(t, "the rendition ends", func() bool { return !stateOf(t, b.JS, key, "144p").Live })
	n := len(f.chunks)
	src.next(5)
	if len(f.chunks) > n {
		t.Error("chunks are made after the end")
	}
	// Watched again: the epoch is the same, the rendition goes on with a segment.
	watch(t, b.Conn, key)
	await.True(t, "it is made again", func() bool { return stateOf(t, b.JS, key, "144p").Live })
}

// The publisher comes back with another epoch; the renditions follow it.
func TestSourceEpochs(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder[:1])
	f := follow(t, b.JS, key, "144p")
	clip := media.Load(t)
	one := &media.Publisher{Clip: clip, Key: key, Start: time.Now()}
	src := follow(t, b.JS, key, schemas.SourceRendition)
	stop := pushing(t, b.JS, one)
	watch(t, b.Conn, key)
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond})
	got := f.next(8)
	stop() // it died without a word
	stop = pushing(t, b.JS, &media.Publisher{Clip: clip, Key: key, Start: time.Now(), Epoch: 2, DSeq: 1, FirstMSN: one.NextMSN(), Discontinuity: true})
	for got[len(got)-1].Epoch == 1 {
		got = append(got, f.next(1)...)
	}
	if c := got[len(got)-1]; c.DiscontinuitySeq != 1 || !c.Fragments[0].SegmentStart || !c.Fragments[0].Independent {
		t.Errorf("epoch 2 begins with %+v", c.Chunk)
	}
	second := append(got[len(got)-1:], f.next(11)...)
	stop()
	compare(t, b.JS, second, src.source(second[len(second)-1]))

	// It leaves for good: so does the rendition, with an end of its own.
	p := &media.Publisher{Clip: clip, Key: key, Epoch: 2}
	if err := p.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the rendition ends", func() bool { return !stateOf(t, b.JS, key, "144p").Live })
	kinds := map[string]int{}
	for len(f.kinds) > 0 {
		kinds[<-f.kinds]++
	}
	if kinds[schemas.KindEpoch] != 2 || kinds[schemas.KindEnd] != 1 {
		t.Errorf("marks on the rendition: %v", kinds)
	}
}

// An encoder that dies is started again, is told of, and leaves no hole.
func TestEncoderDies(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder[:1])
	f := follow(t, b.JS, key, "144p")
	src := follow(t, b.JS, key, schemas.SourceRendition)
	stop := pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	watch(t, b.Conn, key)
	// The first process ends after some of its input, in the middle of a fragment.
	script := filepath.Join(t.TempDir(), "ffmpeg")
	text := "#!/bin/sh\nif mkdir " + script + ".once 2>/dev/null; then head -c 150000 | ffmpeg \"$@\"; exit 9; fi\nexec ffmpeg \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	w := &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond, Encoder: Encoder{Path: script}}
	start(t, w)
	got := f.next(25)
	stop()
	if n := counter(t, w.m.failures.WithLabelValues("failed")); n != 1 {
		t.Errorf("%v failures", n)
	}
	compare(t, b.JS, got, src.source(got[len(got)-1]))
	if e := event(t, b, schemas.EventTranscodeFailed); e.Stream != key.Stream || e.Reason == "" {
		t.Errorf("event %+v", e)
	}
}

// An encoder that does not keep up: the highest rung is left out, the others go on.
func TestEncoderBehind(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder)
	f := follow(t, b.JS, key, "90p")
	pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, Start: time.Now()})
	watch(t, b.Conn, key)
	script := filepath.Join(t.TempDir(), "ffmpeg")
	// Two rungs are too much for it: it reads nothing.
	text := "#!/bin/sh\ncase \"$*\" in *pipe:4*) exec sleep 60;; esac\nexec ffmpeg \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond, MaxBehind: 500 * time.Millisecond, Encoder: Encoder{Path: script}})
	f.next(5)
	if s := stateOf(t, b.JS, key, "144p"); s != nil {
		t.Errorf("the rung that is left out has the state %+v", s)
	}
	if e := event(t, b, schemas.EventTranscodeBehind); e.Detail["rendition"] != "144p" {
		t.Errorf("event %+v", e)
	}
}

func event(t *testing.T, b *bustest.Bus, kind schemas.EventKind) schemas.Event {
	t.Helper()
	s, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "events."+string(kind)+".>")
	if err != nil {
		t.Fatal(err)
	}
	var e schemas.Event
	if err := schemas.DecodeRecord(m.Data, &e); err != nil {
		t.Fatal(err)
	}
	return e
}
