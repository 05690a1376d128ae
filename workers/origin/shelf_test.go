package origin

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/hls"
)

// What the parts of a timeline look like when they are put together.
func TestShelfArranges(t *testing.T) {
	const us = 2_000_000
	zero := time.Now().Add(-10 * time.Minute).UnixMicro()
	stored := func(epoch uint32, from, to int) (out []archive.Segment) {
		for i := from; i <= to; i++ {
			out = append(out, archive.Segment{Epoch: epoch, MSN: uint64(i), ReceivedUnixUs: zero + int64(i)*us, WallUnixUs: zero + int64(i)*us, DurationUs: us,
				DiscontinuitySeq: epoch - 1, Bytes: 1, InitID: strings.Repeat("a", 32)})
		}
		return out
	}
	live := func(epoch uint32, from, to int) (out []hls.DVRSegment) {
		for i := from; i <= to; i++ {
			out = append(out, hls.DVRSegment{Epoch: epoch, MSN: uint64(i), WallUnixUs: zero + int64(i)*us, DurationUs: us, DiscontinuitySeq: epoch - 1, InitID: strings.Repeat("a", 32)})
		}
		return out
	}
	join := func(s ...[]archive.Segment) (out []archive.Segment) {
		for _, x := range s {
			out = append(out, x...)
		}
		return out
	}
	for _, c := range []struct {
		name   string
		window time.Duration
		stored []archive.Segment
		live   []hls.DVRSegment
		want   string // epoch-msn, g a gap, d a discontinuity before it
	}{
		{"nothing", time.Hour, nil, nil, ""},
		{"only live", time.Hour, nil, live(1, 3, 5), "1-3 1-4 1-5"},
		{"only stored", time.Hour, stored(1, 3, 5), nil, "1-3 1-4 1-5"},
		{"stored, then live, overlapping", time.Hour, stored(1, 1, 4), live(1, 3, 6), "1-1 1-2 1-3 1-4 1-5 1-6"},
		{"a hole between", time.Hour, stored(1, 1, 2), live(1, 5, 6), "1-1 1-2 1-3g 1-4g 1-5 1-6"},
		{"a hole in what is stored", time.Hour, join(stored(1, 1, 1), stored(1, 3, 3)), live(1, 4, 4), "1-1 1-2g 1-3 1-4"},
		{"an epoch begins", time.Hour, join(stored(1, 1, 2), stored(2, 3, 3)), live(2, 4, 4), "1-1 1-2 2-3d 2-4"},
		{"an epoch begins after a hole", time.Hour, stored(1, 1, 2), live(2, 4, 5), "1-1 1-2 1-3g 2-4d 2-5"},
		{"the window", 6 * time.Second, stored(1, 1, 8), live(1, 7, 10), "1-8 1-9 1-10"},
		{"no gaps at the beginning", 8 * time.Second, stored(1, 1, 5), live(1, 8, 10), "1-8 1-9 1-10"},
		{"counted anew", time.Hour, stored(7, 400, 405), live(1, 3, 4), "1-3 1-4"},
		{"a hole too large to list", time.Hour, stored(1, 1, 2), live(1, 90_000, 90_001), "1-90000 1-90001"},
	} {
		s := &shelf{segs: c.stored}
		s.window.Store(int64(c.window))
		var got []string
		for _, x := range s.arrange(c.live) {
			n := schemas.SegmentBase(x.Epoch, x.MSN)
			if x.Gap {
				n += "g"
			}
			if x.Discontinuity {
				n += "d"
			}
			got = append(got, n)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s, want %s", c.name, strings.Join(got, " "), c.want)
		}
	}
}

// A segment that left memory before a list shows it stays listed, and becomes a
// gap when lists go on without it.
func TestShelfRemembers(t *testing.T) {
	o := &Origin{Logger: slog.New(slog.DiscardHandler)}
	s := &shelf{d: &dvr{o: o}}
	s.window.Store(int64(time.Hour))
	at := func(i int) hls.DVRSegment {
		return hls.DVRSegment{Epoch: 1, MSN: uint64(i), WallUnixUs: int64(i) * 2_000_000, DurationUs: 2_000_000, InitID: strings.Repeat("a", 32)}
	}
	s.playlist([]hls.DVRSegment{at(1), at(2), at(3)}, false)
	b := string(s.playlist([]hls.DVRSegment{at(3), at(4)}, false))
	for i := 1; i <= 4; i++ {
		if !strings.Contains(b, fmt.Sprintf("\n1-%d.m4s\n", i)) || strings.Contains(b, "GAP") {
			t.Errorf("segment %d is not listed, or there are gaps:\n%s", i, b)
		}
	}
	kept := archive.Segment{Epoch: 1, MSN: 1, ReceivedUnixUs: time.Now().UnixMicro(), WallUnixUs: 2_000_000, DurationUs: 2_000_000, Bytes: 1, InitID: strings.Repeat("a", 32)}
	since := time.Now().Add(-time.Hour)
	s.take([]archive.Segment{kept}, since, time.Now())
	if b := string(s.playlist([]hls.DVRSegment{at(3), at(4)}, false)); strings.Contains(b, "GAP") {
		t.Errorf("given up too early:\n%s", b)
	}
	s.take([]archive.Segment{kept}, since, time.Now().Add(2*memoryHolds))
	b = string(s.playlist([]hls.DVRSegment{at(3), at(4)}, false))
	if strings.Count(b, "#EXT-X-GAP\n") != 1 || !strings.Contains(b, "#EXT-X-GAP\n#EXTINF:2.0,\n1-2.m4s\n") {
		t.Errorf("segment 2 was never recorded:\n%s", b)
	}
}
