package viewer

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

func base(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestReadsOurPlaylists(t *testing.T) {
	k := schemas.StreamKey{App: "live", Stream: "x"}
	m := hls.Multivariant{
		Key: k, SteeringURI: "http://r/v1/steering?s=1",
		Variants: []hls.Variant{{
			Rendition: "src", PeakBps: 3_000_000, AverageBps: 2_000_000,
			Video: &schemas.TrackInfo{Track: schemas.Video, Codec: "avc1.64001f", Width: 2, Height: 2}, Audio: &schemas.TrackInfo{Track: schemas.Audio, Codec: "mp4a.40.2"},
		}},
		Pathways: []hls.Pathway{{ID: "b", BaseURL: "http://b/t/1"}, {ID: "a", BaseURL: "http://a/t/1"}},
	}
	got, err := parseMultivariant(string(m.Append(nil)), base(t, "http://r/x.m3u8"))
	if err != nil {
		t.Fatal(err)
	}
	if got.first != "b" || strings.Join(got.order, " ") != "b a" || got.steeringURI != m.SteeringURI {
		t.Errorf("%+v", got)
	}
	if a := got.paths["a"]; a.video != "http://a/t/1/live/x/src/video/playlist.m3u8" || a.audio != "http://a/t/1/live/x/src/audio/playlist.m3u8" || a.kbps != 2000 || a.host != "a" {
		t.Errorf("pathway a %+v", got.paths["a"])
	}

	wall := time.UnixMilli(1_700_000_000_000)
	parts := []hls.Part{{DurationUs: 200_000, Independent: true}, {DurationUs: 180_000}}
	list := hls.Media{PartTargetUs: 200_000, Segments: []hls.Segment{
		{Epoch: 1, MSN: 7, InitID: strings.Repeat("0", 32), WallUnixUs: wall.UnixMicro(), Parts: parts, Complete: true},
		{Epoch: 1, MSN: 8, InitID: strings.Repeat("0", 32), WallUnixUs: wall.Add(380 * time.Millisecond).UnixMicro(), Parts: parts[:1]},
	}}
	x, err := parseMedia(string(list.Append(nil)), base(t, "http://a/t/1/live/x/src/video/playlist.m3u8"), true)
	if err != nil {
		t.Fatal(err)
	}
	if !x.canBlock || x.partHold != time.Second || x.lastMSN != 8 || x.partsOfLast != 1 || x.lastComplete || !x.edge.Equal(wall.Add(580*time.Millisecond)) {
		t.Errorf("%+v", x)
	}
	if s := x.segments[0]; !s.complete || s.msn != 7 || resolve(x.base, s.uri) != "http://a/t/1/live/x/src/video/1-7.m4s" || len(s.parts) != 2 || !s.parts[0].independent || resolve(x.base, s.parts[1].uri) != "http://a/t/1/live/x/src/video/1-7.1.m4s" {
		t.Errorf("%+v", s)
	}
	whole, err := parseMedia(string(list.Append(nil)), x.base, false)
	if err != nil || len(whole.segments) != 2 || whole.partsOfLast != 1 || whole.lastMSN != 8 || whole.lastComplete || !whole.edge.Equal(x.edge) || len(whole.segments[1].parts) != 0 {
		t.Errorf("without parts: %+v, %v", whole, err)
	}
	if msn, part := x.next(true); msn != 8 || part != 1 {
		t.Errorf("next %d.%d", msn, part)
	}
}

func TestPending(t *testing.T) {
	seg := func(msn int64, parts int, complete bool) segment {
		s := segment{msn: msn, complete: complete, uri: "whole", dur: time.Duration(parts) * time.Second}
		for range parts {
			s.parts = append(s.parts, part{uri: "part", dur: time.Second})
		}
		return s
	}
	pl := &media{segments: []segment{seg(1, 0, true), seg(2, 3, true), seg(3, 2, false)}}
	pl.segments[0].dur = 3 * time.Second
	for _, c := range []struct {
		from  place
		whole bool
		want  string
		next  place
	}{
		{place{true, 1, 0}, false, "whole whole part part", place{true, 3, 2}},
		{place{true, 2, 1}, false, "part part part part", place{true, 3, 2}},
		{place{true, 2, 3}, false, "part part", place{true, 3, 2}},
		{place{true, 3, 1}, false, "part", place{true, 3, 2}},
		{place{true, 3, 2}, false, "", place{}},
		{place{true, 0, 5}, false, "whole whole part part", place{true, 3, 2}}, // fell out of the window
		{place{true, 9, 0}, false, "", place{}},
		{place{true, 2, 0}, true, "whole", place{true, 3, 0}},
	} {
		v := &view{c: Config{WholeSegments: c.whole}}
		var got []string
		var next place
		for _, it := range v.pending(pl, c.from) {
			got, next = append(got, it.uri), it.next
		}
		if s := strings.Join(got, " "); s != c.want || next != c.next {
			t.Errorf("from %+v: %q then %+v, want %q then %+v", c.from, s, next, c.want, c.next)
		}
	}
}

func FuzzPlaylists(f *testing.F) {
	f.Add("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXTINF:2,\na.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"p\"\n")
	f.Add("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,b\",AUDIO=\"x\",PATHWAY-ID=\"q\"\nv.m3u8\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"x\",URI=\"a.m3u8\"\n")
	f.Add("#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=9999999999\n#EXT-X-PART:DURATION=1e400,URI=\"%zz\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		u := base(t, "http://h/p/x.m3u8")
		if m, err := parseMultivariant(text, u); err == nil && (m.paths[m.first] == nil || len(m.order) == 0) {
			t.Error("a multivariant playlist without a first pathway")
		}
		if m, err := parseMedia(text, u, len(text)%2 == 0); err == nil {
			v := &view{}
			pos, _ := v.start(m, m.edge, false)
			for _, it := range v.pending(m, pos) {
				if it.next.msn < pos.msn || it.dur < 0 {
					t.Errorf("loading goes backwards: %+v then %+v", pos, it)
				}
			}
		}
	})
}
