package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// What a probe would wake, encode or bring from elsewhere is probed only with viewers.
func TestProbesAreNoReasonToWork(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var never, here, late, ahead heard
	here.request(now.Add(-2*time.Second), now.Add(-time.Second))
	late.request(now.Add(-20*time.Second), now) // its log took a while
	ahead.request(now.Add(time.Hour), now.Add(-20*time.Second))
	for what, x := range map[string]struct {
		h               heard
		onDemand, costs bool
		want            bool
	}{
		"plain stream":                   {never, false, false, true},
		"elsewhere or ladder, unwatched": {never, false, true, false},
		"elsewhere or ladder, watched":   {late, false, true, true},
		"camera, unwatched":              {never, true, false, false},
		"camera, watched":                {here, true, true, true},
		"camera, left 20 s ago":          {late, true, false, false},
		"camera, clock ahead":            {ahead, true, false, false},
	} {
		if got := x.h.allows(x.onDemand, x.costs, now); got != x.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// Where every stream has a ladder and nobody watches, CDNs are still known: one of the
// streams is asked for, once a minute.
func TestOneLadderIsWokenForWantOfOthers(t *testing.T) {
	now := time.Unix(1_000_020, 0)
	key := func(name string) schemas.StreamKey { return schemas.StreamKey{App: "live", Stream: name} }
	var watched heard
	watched.request(now, now)
	camera, away := stream{key: key("a"), onDemand: true}, stream{key: key("b"), elsewhere: true, ladder: true}
	ladders := []stream{camera, away, {key: key("d"), ladder: true}, {key: key("c"), ladder: true}}
	for what, x := range map[string]struct {
		live []stream
		want string
		wake bool
	}{
		"nothing":                       {nil, "[]", false},
		"cameras and other regions":     {[]stream{camera, away}, "[]", false},
		"ladders alone":                 {ladders, "[live/c]", true},
		"one without a ladder":          {append([]stream{{key: key("e")}}, ladders...), "[live/e]", false},
		"one with a ladder and viewers": {append([]stream{{key: key("f"), ladder: true, heard: watched}}, ladders...), "[live/f]", false},
	} {
		got, latest := choose(x.live, now, 2*time.Second)
		want := now.Add(-2 * time.Second)
		if x.wake {
			want = time.Unix(1_000_020, 0).Truncate(time.Minute).Add(-1)
		}
		if fmt.Sprint(got) != x.want || !latest.Equal(want) {
			t.Errorf("%s: %v, not after %v; want %s, %v", what, got, latest, x.want, want)
		}
	}
	// Asked within this minute it is not asked again; in the next it is.
	x := pair{"cdn", key("c")}
	_, latest := choose(ladders, now, time.Second)
	if _, ok := due([]pair{x}, map[pair]time.Time{x: now.Truncate(time.Minute)}, nil, latest); ok {
		t.Error("woken twice in a minute")
	}
	if _, ok := due([]pair{x}, map[pair]time.Time{x: now.Truncate(time.Minute).Add(-time.Second)}, nil, latest); !ok {
		t.Error("not woken in the next minute")
	}
}

// A CDN that does not answer delays no other.
func TestOneThatWaitsDelaysNoOther(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	k := schemas.StreamKey{App: "live", Stream: "demo"}
	hangs, fine, fresh := pair{"hangs", k}, pair{"fine", k}, pair{"fresh", k}
	all := []pair{hangs, fine, fresh}
	asked := map[pair]time.Time{hangs: now.Add(-20 * time.Second), fine: now.Add(-10 * time.Second), fresh: now}
	if got, ok := due(all, asked, nil, now.Add(-5*time.Second)); !ok || got != hangs {
		t.Errorf("first is %v", got)
	}
	waiting := map[pair]bool{hangs: true}
	if got, ok := due(all, asked, waiting, now.Add(-5*time.Second)); !ok || got != fine {
		t.Errorf("while it waits: %v", got)
	}
	waiting[fine] = true
	if got, ok := due(all, asked, waiting, now.Add(-5*time.Second)); ok {
		t.Errorf("%v was asked a moment ago", got)
	}
}

// What was heard of streams that are not live is forgotten at each tick, whether or
// not this process holds a lease.
func TestForgetsStreamsThatAreGone(t *testing.T) {
	p := &Prober{streams: mirror.New(schemas.BucketStreams, schemas.ParseStreamState, nil), known: map[schemas.StreamKey]*heard{}}
	ctx, cancel := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); p.forget(ctx, tick) }()
	for _, name := range []string{"a", "b"} {
		notes, err := json.Marshal([]hops.Note{{Hop: schemas.HopIngest, AtUs: 1}})
		if err != nil {
			t.Fatal(err)
		}
		p.hear(&nats.Msg{Subject: schemas.HopsSubject(schemas.StreamKey{App: "live", Stream: name}), Data: notes})
	}
	if len(p.known) != 2 {
		t.Fatalf("%d streams are known", len(p.known))
	}
	tick <- time.Now()
	cancel()
	<-done // the tick was taken before, and is seen to its end
	if len(p.known) != 0 {
		t.Errorf("%d streams are known", len(p.known))
	}
	now := time.Unix(1_795_000_000, 0)
	at := func(live bool, age time.Duration) *schemas.StreamState {
		return &schemas.StreamState{Live: live, UpdatedUnixUs: now.Add(-age).UnixMicro()}
	}
	if isLive(at(false, 0), now) || isLive(at(true, liveFor), now) || !isLive(at(true, liveFor-time.Second), now) {
		t.Error("a stream is live while its state says so and is fresh")
	}
}
