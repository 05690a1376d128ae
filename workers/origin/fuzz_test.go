package origin

import (
	"strings"
	"testing"
)

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/a/b/multivariant.m3u8", "/a/b/src/video/playlist.m3u8", "/a/b/src/audio/1-2.m4s", "/a/b/src/audio/1-2.3.m4s",
		"/a/b/src/video/init-0123456789abcdef0123456789abcdef.mp4", "//", "/a/../b", "/a/b/src/video/4294967296-1.m4s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p, ok := parsePath(path)
		if !ok {
			return
		}
		if p.key.Check() != nil || strings.Contains(path, "..") || len(path) > maxPath {
			t.Errorf("%q was taken as %+v", path, p)
		}
		if p.kind == "part" && p.id.part < 0 || p.kind == "segment" && p.id.part != -1 {
			t.Errorf("%q: %+v", path, p)
		}
	})
}

func FuzzParseDirectives(f *testing.F) {
	for _, s := range []string{"", "_HLS_msn=1&_HLS_part=2&_HLS_skip=YES", "_HLS_msn=%31", "_HLS_part=1", "CMCD=a%2Cb&_HLS_msn=4", "_HLS_msn=-1", "_HLS_skip=v2", "&&=&"} {
		f.Add(s)
	}
	tr := newTrack("src", "video", window{segments: 8, us: 16_000_000, keepUs: 12_000_000}, 200_000)
	f.Fuzz(func(t *testing.T, q string) {
		d, err := parseDirectives(q)
		if err != nil {
			return
		}
		if d.hasPart && !d.hasMSN || d.part < 0 {
			t.Errorf("%q was taken as %+v", q, d)
		}
		tr.reach(d)
	})
}
