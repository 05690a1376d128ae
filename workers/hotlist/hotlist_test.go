package hotlist

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func stream(now time.Time) *schemas.StreamState {
	return &schemas.StreamState{
		App: demo.App, Stream: demo.Stream, Live: true, UpdatedUnixUs: now.UnixMicro(),
		Epoch: schemas.EpochOpen{App: demo.App, Stream: demo.Stream, Epoch: 3, OpenedUnixUs: start.UnixMicro()},
	}
}

func TestReasons(t *testing.T) {
	later := start.Add(time.Minute)
	black := func(ms int64) *schemas.Picture {
		return &schemas.Picture{Epoch: 3, Black: 1, BlackMs: ms, StillMs: ms, WallUnixUs: later.UnixMicro()}
	}
	still := func(ms int64) *schemas.Picture {
		return &schemas.Picture{Epoch: 3, StillMs: ms, WallUnixUs: later.UnixMicro()}
	}
	aged := func(p *schemas.Picture, by time.Duration) *schemas.Picture {
		p.WallUnixUs -= by.Microseconds()
		return p
	}
	keyFrames := func(ms int64) *schemas.StreamState {
		s := stream(later)
		s.Stats.KeyframeMs = ms
		return s
	}
	behind := func(at time.Time) *schemas.PublisherState {
		return &schemas.PublisherState{Background: true, LastUnixMs: at.UnixMilli()}
	}
	for name, c := range map[string]struct {
		in   Inputs
		want []string
	}{
		"nothing known":                   {Inputs{}, nil},
		"one black picture":               {Inputs{Picture: black(0)}, nil},
		"two":                             {Inputs{Picture: black(5000)}, []string{schemas.HotBlack}},
		"two that do not count":           {Inputs{Picture: black(5000), Settings: &schemas.PictureSettings{BlackMs: -1}}, nil},
		"first still picture":             {Inputs{Picture: still(0)}, nil},
		"second":                          {Inputs{Picture: still(5000)}, []string{schemas.HotFrozen}},
		"not for long enough":             {Inputs{Picture: still(5000), Settings: &schemas.PictureSettings{FrozenMs: 20_000}}, nil},
		"long enough":                     {Inputs{Picture: still(20_000), Settings: &schemas.PictureSettings{FrozenMs: 20_000}}, []string{schemas.HotFrozen}},
		"pictures of another publication": {Inputs{Picture: &schemas.Picture{Epoch: 2, StillMs: 9000, WallUnixUs: later.UnixMicro()}}, nil},
		"pictures are made no more":       {Inputs{Picture: black(5000), Settings: &schemas.PictureSettings{Off: true}}, nil},
		"the last is 30 s old":            {Inputs{Picture: aged(still(5000), 30*time.Second)}, []string{schemas.HotFrozen}},
		"none came for 31 s":              {Inputs{Picture: aged(black(5000), 31*time.Second)}, nil},
		"one a minute":                    {Inputs{Picture: aged(black(5000), 240*time.Second), Settings: &schemas.PictureSettings{IntervalMs: 60_000}}, []string{schemas.HotBlack}},
		"four minutes without":            {Inputs{Picture: aged(black(5000), 241*time.Second), Settings: &schemas.PictureSettings{IntervalMs: 60_000}}, nil},
		"a key frame in 10 s":             {Inputs{Picture: aged(still(5000), 40*time.Second), Stream: keyFrames(10_000)}, []string{schemas.HotFrozen}},
		"four key frames without":         {Inputs{Picture: aged(still(5000), 41*time.Second), Stream: keyFrames(10_000)}, nil},
		"background":                      {Inputs{Publisher: behind(later)}, []string{schemas.HotBackground}},
		"background before it began":      {Inputs{Publisher: behind(start.Add(-time.Minute))}, nil},
		"hidden":                          {Inputs{Review: &schemas.ReviewState{HiddenUntilUs: -1}}, []string{schemas.HotHidden}},
		"hidden once":                     {Inputs{Review: &schemas.ReviewState{HiddenUntilUs: start.UnixMicro()}}, nil},
		"all": {Inputs{Picture: still(5000), Publisher: behind(later), Review: &schemas.ReviewState{HiddenUntilUs: -1}},
			[]string{schemas.HotBackground, schemas.HotFrozen, schemas.HotHidden}},
	} {
		if c.in.Stream == nil {
			c.in.Stream = stream(later)
		}
		if got := c.in.Reasons(later); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A stream leaves at once and comes back when nothing was wrong for a while; a
// moment that is good in between does not bring it back.
func TestHysteresis(t *testing.T) {
	var h *schemas.HotState
	now := start.Add(time.Minute)
	step := func(after time.Duration, background bool) *schemas.HotState {
		now = now.Add(after)
		in := Inputs{Stream: stream(now), Publisher: &schemas.PublisherState{Background: background, LastUnixMs: now.UnixMilli()}}
		if n := Judge(h, in, now); n != nil {
			h = n
		}
		return h
	}
	if step(time.Second, false) != nil {
		t.Errorf("a good stream has an entry: %+v", h)
	}
	if h := step(time.Second, true); h == nil || !h.Off || h.Told || h.SinceUs != now.UnixMicro() {
		t.Fatalf("%+v", h)
	}
	left := h.SinceUs
	for range 3 {
		step(time.Second, false)
		if h := step(settle-time.Second, false); !h.Off {
			t.Errorf("back %v after it was good again", settle-time.Second)
		}
		step(time.Second/2, true)
	}
	step(0, false)
	// Who takes over goes on with what is stored.
	if h.SinceUs != left {
		t.Errorf("left anew: %d, %d", left, h.SinceUs)
	}
	if h := step(settle, false); h.Off || h.Told || h.SinceUs != now.UnixMicro() {
		t.Errorf("not back: %+v", h)
	}
	in := Inputs{Stream: stream(now.Add(-time.Minute)), Publisher: &schemas.PublisherState{Background: true, LastUnixMs: now.UnixMilli()}}
	if n := Judge(h, in, now); n != nil {
		t.Errorf("a stream that is not live is judged: %+v", n)
	}
}

// A stream that nothing was heard of for a day is passed over, unless its entry is still to be removed.
func TestPastStreamsArePassedOver(t *testing.T) {
	l := &List{hot: mirror.New(schemas.BucketHot, schemas.ParseHotState, nil)}
	s := stream(start)
	for after, want := range map[time.Duration]bool{time.Second: false, 24 * time.Hour: false, 24*time.Hour + time.Second: true} {
		if got := l.past(demo.KVKey(), s, start.Add(after)); got != want {
			t.Errorf("%v after its last word: %v", after, got)
		}
	}
}

func put(t *testing.T, js jetstream.JetStream, bucket, key string, v any) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key, b); err != nil {
		t.Fatal(err)
	}
}

// Two processes keep one list: each change is one event, also where one that
// stored it died before it told.
func TestListOnTheBus(t *testing.T) {
	b := bustest.Start(t)
	now := time.Now()
	state := stream(now.Add(time.Hour)) // stays fresh
	state.Epoch.OpenedUnixUs = now.Add(-time.Hour).UnixMicro()
	put(t, b.JS, schemas.BucketStreams, demo.KVKey(), state)
	// What a process that died had stored and not told.
	other := schemas.StreamKey{App: "live", Stream: "other"}
	s2 := *state
	s2.Stream = other.Stream
	put(t, b.JS, schemas.BucketStreams, other.KVKey(), s2)
	put(t, b.JS, schemas.BucketReviews, other.KVKey(), schemas.ReviewState{HiddenUntilUs: -1})
	put(t, b.JS, schemas.BucketHot, other.KVKey(), schemas.HotState{App: other.App, Stream: other.Stream, Off: true, Reasons: []string{schemas.HotHidden}, SinceUs: now.UnixMicro(), Epoch: 3})
	// And what was left of a stream that ended while no process ran.
	gone := schemas.StreamKey{App: "live", Stream: "gone"}
	s3 := *state
	s3.Stream, s3.Live, s3.UpdatedUnixUs = gone.Stream, false, now.Add(-48*time.Hour).UnixMicro()
	put(t, b.JS, schemas.BucketStreams, gone.KVKey(), s3)
	put(t, b.JS, schemas.BucketHot, gone.KVKey(), schemas.HotState{App: gone.App, Stream: gone.Stream, Off: true, Reasons: []string{schemas.HotHidden}, SinceUs: s3.UpdatedUnixUs, Told: true, Epoch: 3})
	for range 2 {
		l := &List{JetStream: b.JS}
		running.Start(t, l.Run)
	}
	events := func(kind schemas.EventKind, k schemas.StreamKey) int {
		st, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
		if err != nil {
			t.Fatal(err)
		}
		i, err := st.Info(t.Context(), jetstream.WithSubjectFilter("events."+string(kind)+"."+k.App+"."+k.Stream))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, c := range i.State.Subjects {
			n += int(c)
		}
		return n
	}
	want := func(what string, kind schemas.EventKind, k schemas.StreamKey, off bool) {
		t.Helper()
		await.Text(t, what, func() string {
			kv, err := b.JS.KeyValue(t.Context(), schemas.BucketHot)
			if err != nil {
				return err.Error()
			}
			e, err := kv.Get(t.Context(), k.KVKey())
			if err != nil {
				return err.Error()
			}
			h, err := schemas.ParseHotState(e.Key(), e.Value())
			if err != nil || h.Off != off || !h.Told || events(kind, k) != 1 {
				return fmt.Sprintf("%+v %v, %d events", h, err, events(kind, k))
			}
			return ""
		})
	}
	await.True(t, "the entry of the stream that ended is removed", func() bool {
		kv, err := b.JS.KeyValue(t.Context(), schemas.BucketHot)
		if err != nil {
			return false
		}
		_, err = kv.Get(t.Context(), gone.KVKey())
		return errors.Is(err, jetstream.ErrKeyNotFound)
	})
	want("the untold change is told", schemas.EventHotLeft, other, true)
	picture := func(still int64) {
		head, err := json.Marshal(schemas.Picture{Version: 1, App: demo.App, Stream: demo.Stream, WallUnixUs: now.Add(time.Hour).UnixMicro() + still, Epoch: 3, StillMs: still})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: schemas.PictureSubject(demo), Header: nats.Header{schemas.HeaderPicture: {string(head)}}}); err != nil {
			t.Fatal(err)
		}
	}
	picture(5000)
	want("the frozen stream leaves", schemas.EventHotLeft, demo, true)
	now = now.Add(time.Second)
	picture(0)
	want("it moves and comes back", schemas.EventHotBack, demo, false)
}
