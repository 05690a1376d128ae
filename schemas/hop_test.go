package schemas

import "testing"

func TestPartPaths(t *testing.T) {
	for _, n := range []PartName{
		{StreamKey{"live", "demo"}, "src", Video, 3, 412, 7},
		{StreamKey{"live", "demo"}, "720p", Audio, 1, 0, -1},
	} {
		if got, ok := ParsePartPath(n.String()); !ok || got != n {
			t.Errorf("%s reads as %+v, %v", n, got, ok)
		}
		var row Telemetry
		n.Mark(&row, HopEdge)
		if got, ok := PartNameOf(&row); !ok || got != n {
			t.Errorf("%s in a row reads as %+v, %v", n, got, ok)
		}
	}
	for _, p := range []string{"", "x.m4s", ".m4s", "/live/demo/src/video/playlist.m3u8", "/live/demo/src/subs/1-2.m4s", "/live/demo/src/video/a-2.m4s", "/a/b/c/d/e/1-2.m4s", "/live//src/video/1-2.m4s"} {
		if n, ok := ParsePartPath(p); ok {
			t.Errorf("%q reads as %+v", p, n)
		}
	}
	if _, ok := PartNameOf(&Telemetry{Hop: HopEdge}); ok {
		t.Error("a row without numbers names a part")
	}
}

// Every key frame that opens a segment is looked at, and few parts besides: ten parts a segment of pictures cost
// less than twice the key frames, sound less than a part a segment.
func TestSamplingIsBounded(t *testing.T) {
	count := map[Track]int{}
	const segments = 1600
	for msn := range uint64(segments) {
		if !HopSampled(Video, msn, 0) {
			t.Fatalf("segment %d's key frame is not looked at", msn)
		}
		for part := range 10 {
			for _, k := range []Track{Video, Audio} {
				if HopSampled(k, msn, part) {
					count[k]++
				}
			}
		}
	}
	if v, a := count[Video], count[Audio]; v > segments*17/10 || v < segments*14/10 || a > segments*7/10 || a < segments/2 {
		t.Errorf("%d segments: %d parts of pictures and %d of sound are looked at", segments, v, a)
	}
}

func TestHopsSubject(t *testing.T) {
	k := StreamKey{"live", "demo"}
	if got, err := ParseHopsSubject(HopsSubject(k)); err != nil || got != k {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"hops.live", "hop.live.demo", "hops.live.", "hops.a.b.c"} {
		if _, err := ParseHopsSubject(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
