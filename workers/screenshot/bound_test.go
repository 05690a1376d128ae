package screenshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hotlist"
)

// What the way of a picture may take so that the bound holds: from its key frame
// to the hot list's memory (part, bus, decoder, bus), and the hot list's round.
// Two pictures may come 100 ms late (look.Pace); the sum is the second that is promised.
const (
	wayOfPicture = 650 * time.Millisecond
	hotRound     = 250 * time.Millisecond
)

// TestHotListBound: with clocks of our own, a stream that goes black or freezes at
// the worst moment (just after a key frame that shows it well) has left two
// picture intervals and 1 s later, for any distance and phase of key frames.
func TestHotListBound(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, interval := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second} {
		for _, key := range []time.Duration{500, 1000, 1900, 2000, 2002, 3000, 4000, 6000} {
			key *= time.Millisecond
			for _, what := range []string{schemas.HotBlack, schemas.HotFrozen} {
				worst := time.Duration(0)
				for range 20 {
					worst = max(worst, untilOff(t, r, interval, key, what))
				}
				// Pictures are of key frames: no interval is shorter than theirs.
				if bound := 2*max(interval, key) + time.Second; worst > bound {
					t.Errorf("pictures every %v, key frames every %v: %s after %v, promised are %v", interval, key, what, worst, bound)
				}
			}
		}
	}
}

// untilOff plays a stream that changes at a random key frame, and gives how long it stays on the list.
func untilOff(t *testing.T, r *rand.Rand, interval, key time.Duration, what string) time.Duration {
	t.Helper()
	k := schemas.StreamKey{App: "live", Stream: "one"}
	h, err := New(&memory{}, Settings{Interval: interval, KeyFrames: func(schemas.StreamKey) time.Duration { return key }})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_795_000_000, 0).Add(time.Duration(r.Int64N(int64(2 * interval))))
	changes := begin.Add(time.Duration(3+r.IntN(12)) * key).Add(time.Millisecond)
	state := &schemas.StreamState{App: k.App, Stream: k.Stream, Live: true, Epoch: schemas.EpochOpen{Epoch: 1}}
	var last *schemas.Picture
	type known struct {
		at time.Time
		p  *schemas.Picture
	}
	var news []known
	var hot *schemas.HotState
	round := begin.Add(time.Duration(r.Int64N(int64(hotRound))))
	for i := 0; ; i++ {
		at := begin.Add(time.Duration(i) * key)
		if at.After(changes.Add(5*interval + 5*key)) {
			t.Fatalf("pictures every %v, key frames every %v: never %s", interval, key, what)
		}
		for ; round.Before(at); round = round.Add(hotRound) {
			in := hotlist.Inputs{Stream: state}
			for _, n := range news {
				if !n.at.After(round) {
					in.Picture = n.p
				}
			}
			state.UpdatedUnixUs = round.UnixMicro()
			if next := hotlist.Judge(hot, in, round); next != nil {
				hot = next
			}
			if hot != nil && hot.Off {
				if round.Before(changes) || hot.Reasons[0] != what {
					t.Fatalf("left at %v for %v, it changed at %v", round, hot.Reasons, changes)
				}
				return round.Sub(changes)
			}
		}
		d := due{key: k, chunk: fmt.Sprint(i), wallUs: at.UnixMicro()}
		if !h.due(context.Background(), &d) {
			continue
		}
		h.remember(k, done{d.wallUs, d.chunk, d.every})
		p := &schemas.Picture{App: k.App, Stream: k.Stream, WallUnixUs: d.wallUs, Epoch: 1, Hash: schemas.PictureHash(r.Uint64()), Cells: []byte{byte(i * 40), 100, 200, 20}}
		if at.After(changes) {
			p.Hash, p.Cells = 5, []byte{9, 120, 220, 10}
			if what == schemas.HotBlack {
				p.Black, p.Cells = 1, []byte{1, 1, 1, 1}
			}
		}
		follow(p, last, d.apart)
		last = p
		news = append(news, known{at.Add(wayOfPicture), p})
	}
}

// A picture that another worker made long ago is found on the bus, where ids are forgotten.
func TestLongIntervals(t *testing.T) {
	src := &memory{last: &schemas.Picture{App: key.App, Stream: key.Stream, WallUnixUs: 62_000_000}}
	h, err := New(src, Settings{Interval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	h.remember(key, done{2_000_000, "a", time.Minute})
	for wallUs, want := range map[int64]bool{119_000_000: false, 121_000_000: true} {
		if got := h.due(t.Context(), &due{key: key, chunk: "b", wallUs: wallUs}); got != want {
			t.Errorf("at %d us: due %t", wallUs, got)
		}
	}
}

// A stream that costs decoders twice in a row is left alone for a while, and only it.
func TestHostileStreamIsLeftAlone(t *testing.T) {
	h, err := New(&memory{}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	other, now := schemas.StreamKey{App: "live", Stream: "two"}, time.Now()
	h.lost(key, now, true)
	if h.left(key, now) {
		t.Error("after one loss, which may be chance")
	}
	h.lost(key, now, false)
	h.lost(key, now, true)
	if h.left(key, now) {
		t.Error("though a picture came in between")
	}
	h.lost(key, now, true)
	if !h.left(key, now.Add(leaveFor-time.Second)) || h.left(key, now.Add(leaveFor)) || h.left(other, now) {
		t.Errorf("%+v", h.hostile)
	}
	if h.due(t.Context(), &due{key: key, chunk: "x", wallUs: 1e15}) || !h.due(t.Context(), &due{key: other, chunk: "x", wallUs: 1e15}) {
		t.Error("what is due does not follow")
	}
}
