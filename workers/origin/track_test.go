package origin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

var testWindow = window{segments: 8, us: 16_000_000, keepUs: 12_000_000}

// script is a stream's parts in the order of the bus: epochs that end in the
// middle of a segment, the next one going on with the next number.
func script(epochs int) []*piece {
	var all []*piece
	msn := uint64(40)
	wall := int64(1_790_000_000_000_000)
	init := schemas.InitID([]byte("x"))
	for e := range epochs {
		for i := range 75 { // 7 segments of 10 parts, and 5 parts of an eighth
			k := i % 10
			all = append(all, &piece{
				id: partID{uint32(e + 1), msn, k}, data: []byte{byte(e), byte(msn), byte(k)},
				h: schemas.Part{Epoch: uint32(e + 1), MSN: msn, Part: uint32(k), DiscontinuitySeq: uint32(e), InitID: init, DurationUs: 200_000, WallUnixUs: wall,
					Independent: k == 0, SegmentStart: k == 0, SegmentEnd: k == 9, Discontinuity: e > 0 && i == 0},
			})
			wall += 200_000
			if k == 9 {
				msn++
			}
		}
		msn++
	}
	return all
}

// play gives parts to a track in some order after announcing each of them.
func play(t *testing.T, bus, arrival []*piece) *track {
	t.Helper()
	tr := newTrack("src", schemas.Video, testWindow, 200_000)
	now := time.Unix(1_790_000_000, 0)
	var c hlscheck.Checker
	announced := 0
	for i, p := range arrival {
		// MEDIA is ahead of what arrives, as the bus is ahead of its packagers.
		for ; announced < len(bus) && announced < i+40; announced++ {
			b := bus[announced]
			tr.expect(b.id, b.h.SegmentStart, "")
		}
		tr.offer(p, now)
		now = now.Add(time.Millisecond)
		if tr.begun && tr.listed() {
			if v := c.Add(tr.playlist(false)); len(v) > 0 {
				t.Fatalf("after %d parts: %v\n%s", i+1, v, tr.playlist(false))
			}
		}
	}
	return tr
}

// Whatever the order in which parts arrive, and however often, the playlist ends
// up the same, and on the way it keeps the rules.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	bus := script(3)
	want := play(t, bus, bus).playlist(false)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		var arrival []*piece
		for _, p := range bus {
			arrival = append(arrival, p)
			if r.IntN(10) == 0 {
				arrival = append(arrival, p) // twice
			}
		}
		// Late by up to 20 parts.
		for i := range arrival {
			j := min(len(arrival)-1, i+r.IntN(20))
			arrival[i], arrival[j] = arrival[j], arrival[i]
		}
		if got := play(t, bus, arrival).playlist(false); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// A part that never comes and that nobody can explain holds up playback for
// three seconds, not for ever.
func TestHoleIsSkippedInTheEnd(t *testing.T) {
	bus := script(1)
	tr := newTrack("src", schemas.Video, testWindow, 200_000)
	now := time.Unix(1_790_000_000, 0)
	for i, p := range bus {
		if i != 23 {
			tr.offer(p, now)
		}
	}
	if tr.last != (partID{1, 42, 2}) {
		t.Fatalf("at %+v before the hole", tr.last)
	}
	tr.advance(now.Add(holePatience - time.Millisecond))
	if tr.last.msn != 42 {
		t.Fatalf("at %+v too early", tr.last)
	}
	tr.advance(now.Add(holePatience))
	if tr.last != bus[len(bus)-1].id {
		t.Fatalf("at %+v after patience ended", tr.last)
	}
}

// A segment whose last part does not say so ends with the next one's start, at
// once if MEDIA has announced nothing between, in either order of arrival.
func TestSegmentEndsUnsaid(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for _, partsFirst := range []bool{true, false} {
		bus := script(1)
		end := 0 // the first part that ends a segment
		for !bus[end].h.SegmentEnd {
			end++
		}
		bus[end].h.SegmentEnd = false
		tr := newTrack("src", schemas.Video, testWindow, 200_000)
		for _, p := range bus[:end+1] {
			tr.expect(p.id, p.h.SegmentStart, "")
			tr.offer(p, now)
		}
		start := bus[end+1]
		if partsFirst {
			tr.offer(start, now)
			if tr.last != bus[end].id {
				t.Error("the next segment was begun before MEDIA could tell what lies between")
			}
		}
		tr.expect(start.id, true, "")
		tr.offer(start, now)
		if tr.last != start.id || !tr.segs[len(tr.segs)-2].Complete {
			t.Errorf("parts first %t: at %+v, not at %+v", partsFirst, tr.last, start.id)
		}
	}
}

// What has left the playlist can be fetched for three target durations more.
func TestMediaStaysFetchable(t *testing.T) {
	tr := play(t, script(1), script(1))
	long := newTrack("src", schemas.Video, window{segments: 2, us: 4_000_000, keepUs: 4_000_000}, 200_000)
	for _, p := range script(1) {
		long.offer(p, time.Unix(1_790_000_000, 0))
	}
	first := long.segs[long.first].MSN
	if first != 45 {
		t.Errorf("the playlist starts at %d", first)
	}
	for msn, want := range map[uint64]bool{42: false, 43: true, 44: true, 45: true, 46: true, 47: false} {
		if _, ok, _ := long.find(partID{1, msn, -1}); ok != want {
			t.Errorf("segment %d can be fetched: %t", msn, ok)
		}
	}
	if _, ok, later := tr.find(partID{1, 47, 5}); ok || !later {
		t.Error("the next part cannot be waited for")
	}
	for id, want := range map[partID]bool{{1, 48, 0}: true, {2, 48, 0}: true, {1, 48, -1}: true, {1, 49, 0}: false, {2, 47, 0}: false, {3, 48, 0}: false, {1, 48, 9}: false} {
		if _, ok, later := tr.find(id); ok || later != want {
			t.Errorf("%+v is waited for: %t", id, later)
		}
	}
}

func TestReach(t *testing.T) {
	tr := play(t, script(1), script(1)) // ends with 47.4, 46 is complete
	for query, want := range map[string]reach{
		"": reached, "_HLS_msn=40": reached, "_HLS_msn=3": reached, "_HLS_msn=46&_HLS_part=9": reached, "_HLS_msn=47&_HLS_part=4": reached,
		"_HLS_msn=46&_HLS_part=10": reached, // part 0 of 47
		"_HLS_msn=47&_HLS_part=5":  toCome, "_HLS_msn=47": toCome, "_HLS_msn=48": toCome, "_HLS_msn=48&_HLS_part=0": toCome, "_HLS_msn=47&_HLS_part=19": toCome,
		"_HLS_msn=47&_HLS_part=20": tooFar, "_HLS_msn=49": tooFar, "_HLS_msn=48&_HLS_part=16": tooFar,
	} {
		d, err := parseDirectives(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := tr.reach(d); got != want {
			t.Errorf("%s: %d (%s), not %d", query, got, why, want)
		}
	}
	closed := play(t, script(1)[:70], script(1)[:70]) // 46 is complete, 47 has not begun
	for query, want := range map[string]reach{"_HLS_msn=46&_HLS_part=10": toCome, "_HLS_msn=46": toCome, "_HLS_msn=46&_HLS_part=9": reached, "_HLS_msn=47&_HLS_part=0": toCome, "_HLS_msn=48": toCome, "_HLS_msn=49": tooFar} {
		d, err := parseDirectives(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := closed.reach(d); got != want {
			t.Errorf("closed, %s: %d (%s), not %d", query, got, why, want)
		}
	}
	if fmt.Sprint(advanceLimit(200_000), advanceLimit(334_000), advanceLimit(1_000_000)) != "15 9 3" {
		t.Error("advance limits are wrong")
	}
}

// hls.js takes a complete segment for loaded when its last part is missing: it
// must learn of that part before it learns that the segment is complete.
func TestLastPartIsToldBeforeTheSegmentsEnd(t *testing.T) {
	tr := play(t, script(1)[:70], script(1)[:70]) // 46 has all ten parts, 47 has not begun
	last, end := []byte("\"1-46.9.m4s\""), []byte("\n1-46.m4s\n")
	check := func(what string, b []byte, complete bool) {
		t.Helper()
		if !bytes.Contains(b, last) || bytes.Contains(b, end) != complete {
			t.Errorf("%s: the last part must be listed, the segment: %t\n%s", what, complete, b)
		}
	}
	at := directives{hasMSN: true, hasPart: true, msn: 46, part: 9}
	check("all parts are here", tr.playlist(false), false)
	was := tr.answer(at)

	next := *script(1)[70]
	tr.offer(&next, time.Unix(1_790_000_100, 0))
	check("the next segment has begun", tr.playlist(false), true)
	check("asked for the last part late", tr.answer(at), false)
	if late := tr.answer(at); !bytes.Equal(late, was) {
		t.Errorf("asked late, the playlist is not what it was: was\n%s\nis\n%s", was, late)
	}
	at.skip = true
	check("asked for the last part late, with delta update", tr.answer(at), false)
	check("asked for a part before", tr.answer(directives{hasMSN: true, hasPart: true, msn: 46, part: 8}), true)
	check("asked past the end", tr.answer(directives{hasMSN: true, hasPart: true, msn: 46, part: 10}), true)
	check("asked for the segment", tr.answer(directives{hasMSN: true, msn: 46}), true)

	ended := play(t, script(1)[:70], script(1)[:70])
	wake := ended.changed
	ended.sawEnd(1, time.Unix(1_790_000_100, 0))
	check("the publisher left", ended.playlist(false), true)
	if wake == ended.changed {
		t.Error("those who wait are not told that the last segment is complete")
	}
}

// Parts that come together are told of one after the other at a segment's end.
func TestSegmentsEndIsNotToldTogetherWithItsLastPart(t *testing.T) {
	bus := script(1)
	tr := play(t, bus[:69], bus[:69]) // 46.9 is yet to come
	now := time.Unix(1_790_000_100, 0)
	tr.offer(bus[69], now)
	tr.offer(bus[70], now.Add(time.Millisecond))
	tr.offer(bus[71], now.Add(2*time.Millisecond))
	for query, want := range map[string]time.Duration{
		"": 0, "_HLS_msn=46": 0, "_HLS_msn=46&_HLS_part=8": 0, "_HLS_msn=46&_HLS_part=9": 0, // what they get has no more than the last part, or they did not wait for it
		"_HLS_msn=46&_HLS_part=10": endSpacing, "_HLS_msn=47&_HLS_part=0": endSpacing, "_HLS_msn=47&_HLS_part=1": endSpacing,
	} {
		d, err := parseDirectives(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.early(d, now); got != want {
			t.Errorf("%s waits %s, not %s", query, got, want)
		}
		if got := tr.early(d, now.Add(endSpacing)); got != 0 {
			t.Errorf("%s waits %s, after the spacing has passed", query, got)
		}
	}
}

// An epoch's first segment is dated when ingest's clock has settled.
func TestFirstSegmentIsDatedByASettledClock(t *testing.T) {
	for name, c := range map[string]struct {
		lateUs, wantUs int64
	}{"first frames 400 ms late": {400_000, 0}, "within what reordering explains": {90_000, 90_000}} {
		bus := script(1)[:20]
		zero := bus[0].h.WallUnixUs
		for _, p := range bus[:4] {
			p.h.WallUnixUs += c.lateUs
		}
		for _, i := range []int{0, 10} {
			bus[i].h.Line = &schemas.Line{FirstMSN: 40}
		}
		bus[10].h.WallUnixUs += 150_000 // of a later segment it is what its first part says
		tr := newTrack("src", schemas.Video, testWindow, 200_000)
		for _, p := range bus {
			tr.offer(p, time.Unix(1_790_000_000, 0))
		}
		if got := tr.segs[0].WallUnixUs - zero; got != c.wantUs {
			t.Errorf("%s: the first segment is dated %d us late, not %d", name, got, c.wantUs)
		}
		if got := tr.segs[1].WallUnixUs - bus[10].h.WallUnixUs; got != 0 {
			t.Errorf("%s: the second segment is dated %d us from its first part", name, got)
		}
	}
}
