package hlscheck_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each change breaks one rule, and the checker names it.
func TestFindsViolations(t *testing.T) {
	good := read(t, "media_open.m3u8")
	for _, c := range []struct{ name, old, new, want string }{
		{"no header", "#EXTM3U\n", "", "cannot be read"},
		{"hold back", "PART-HOLD-BACK=1.0", "PART-HOLD-BACK=0.5", "PART-HOLD-BACK"},
		{"old version", "VERSION:9", "VERSION:3", "VERSION"},
		{"no blocking", "CAN-BLOCK-RELOAD=YES,", "", "CAN-BLOCK-RELOAD"},
		{"skip boundary", "CAN-SKIP-UNTIL=24.0", "CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL"},
		{"target", "TARGETDURATION:4", "TARGETDURATION:3", "over TARGETDURATION"},
		{"part target", "PART-TARGET=0.2", "PART-TARGET=0.15", "over PART-TARGET"},
		{"short part", `DURATION=0.2,URI="2-103.5.m4s"`, `DURATION=0.1,URI="2-103.5.m4s"`, "below 85"},
		{"hint listed", `URI="2-104.3.m4s"`, `URI="2-104.2.m4s"`, "which is listed"},
		{"no hint", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2-104.3.m4s\"\n", "", "preload hints"},
		{"no date", "#EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:20:12.000Z\n", "", "no EXT-X-PROGRAM-DATE-TIME"},
		{"report", ",LAST-PART=3", "", "rendition report"},
		{"same name", "\n2-103.m4s\n", "\n2-102.m4s\n", "listed twice"},
		{"sum", "#EXTINF:4.0,\n2-103.m4s", "#EXTINF:3.5,\n2-103.m4s", "its parts"},
		{"two hints", "#EXT-X-RENDITION", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n#EXT-X-RENDITION", "preload hints"},
		{"two hints of maps", "#EXT-X-RENDITION", "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"x\"\n#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"y\"\n#EXT-X-RENDITION", "preload hints"},
		{"hint of what", "TYPE=PART", "TYPE=SEGMENT", "TYPE=SEGMENT"},
		{"place of the hint", "#EXT-X-PART:DURATION=0.2,URI=\"2-104.2.m4s\"", "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"x\"\n#EXT-X-PART:DURATION=0.2,URI=\"2-104.2.m4s\"", "comes after the preload hint"},
		{"no part target", "#EXT-X-PART-INF:PART-TARGET=0.2\n", "", "PART-INF"},
		{"hold back of whole segments", "HOLD-BACK=12.0", "HOLD-BACK=8.0", "HOLD-BACK 8"},
		{"key after a part", "#EXTINF:4.0,\n2-103.m4s", "#EXT-X-KEY:METHOD=NONE\n#EXTINF:4.0,\n2-103.m4s", "EXT-X-KEY comes after the first part"},
		{"map after a part", "#EXTINF:4.0,\n2-103.m4s", "#EXT-X-MAP:URI=\"y\"\n#EXTINF:4.0,\n2-103.m4s", "EXT-X-MAP comes after the first part"},
		{"two reports", "#EXT-X-RENDITION-REPORT", "#EXT-X-RENDITION-REPORT:URI=\"../audio/playlist.m3u8\",LAST-MSN=104,LAST-PART=3\n#EXT-X-RENDITION-REPORT", "two rendition reports"},
		{"key frames", "#EXT-X-TARGETDURATION", "#EXT-X-I-FRAMES-ONLY\n#EXT-X-TARGETDURATION", "I-FRAMES-ONLY"},
		{"old parts", "1-100.m4s", "#EXT-X-PART:DURATION=0.2,URI=\"1-100.0.m4s\"\n1-100.m4s", "comes after EXTINF"},
		{"endlist", "#EXT-X-PRELOAD-HINT", "#EXT-X-ENDLIST\n#EXT-X-PRELOAD-HINT", "ENDLIST"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("%s: nothing was changed", c.name)
			continue
		}
		var k hlscheck.Checker
		if v := strings.Join(k.Add([]byte(bad)), "\n"); !strings.Contains(v, c.want) {
			t.Errorf("%s: found %q, not %q", c.name, v, c.want)
		}
	}
}

func TestFindsViolationsInTime(t *testing.T) {
	good := read(t, "media_open.m3u8")
	for _, c := range []struct{ name, old, new, want string }{
		{"part target", "PART-TARGET=0.2", "PART-TARGET=0.21", "PART-TARGET changed"},
		{"sequence", "MEDIA-SEQUENCE:100", "MEDIA-SEQUENCE:99", "went back"},
		{"discontinuity sequence", "DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4", "DISCONTINUITY-SEQUENCE is 4"},
		{"renamed", "\n1-101.m4s\n", "\n1-101x.m4s\n", "segment 101 changed"},
		{"part changed", `URI="2-104.1.m4s"`, `URI="2-104.1.m4s",INDEPENDENT=YES`, "changed to"},
		{"end", "#EXT-X-PART:DURATION=0.2,URI=\"2-104.2.m4s\"\n", "", "the end went back"},
		{"report", "LAST-PART=3", "LAST-PART=2", "rendition report"},
		{"server control", "PART-HOLD-BACK=1.0", "PART-HOLD-BACK=1.2", "SERVER-CONTROL changed"},
		{"other than hinted", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2-104.3.m4s\"", "#EXT-X-PART:DURATION=0.2,URI=\"2-104.9.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"2-104.10.m4s\"", "was hinted"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		var k hlscheck.Checker
		if v := k.Add([]byte(good)); len(v) > 0 {
			t.Fatal(v)
		}
		if v := strings.Join(k.Add([]byte(bad)), "\n"); bad == good || !strings.Contains(v, c.want) {
			t.Errorf("%s: found %q, not %q", c.name, v, c.want)
		}
	}
	var k hlscheck.Checker
	if v := k.Add([]byte(read(t, "media_delta.m3u8"))); len(v) == 0 {
		t.Error("a delta update without a playlist before it was taken")
	}
}

// A delta update that leaves out or changes something is found by the whole playlist.
func TestFindsDeltasThatDiffer(t *testing.T) {
	whole := read(t, "media_closed.m3u8")
	var c hlscheck.Checker
	c.Add([]byte(whole))
	if v := c.Same([]byte(whole)); len(v) > 0 {
		t.Error(v)
	}
	for _, change := range [][2]string{{"SEQUENCE:100", "SEQUENCE:101"}, {"1-103.m4s", "1-103x.m4s"}, {`URI="1-107.4.m4s"`, `URI="1-107.4.m4s",INDEPENDENT=YES`}} {
		if v := c.Same([]byte(strings.Replace(whole, change[0], change[1], 1))); len(v) == 0 {
			t.Errorf("%v is not found", change)
		}
	}
}

func TestFindsWrongReports(t *testing.T) {
	parse := func(text string) *hlscheck.Playlist {
		p, err := hlscheck.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	video := read(t, "media_open.m3u8")
	audio := strings.Replace(strings.Replace(video, "../audio/", "../video/", 1), "LAST-PART=3", "LAST-PART=2", 1)
	audio = strings.Replace(audio, "#EXT-X-PRELOAD-HINT", "#EXT-X-PART:DURATION=0.2,URI=\"2-104.3.m4s\"\n#EXT-X-PRELOAD-HINT", 1)
	for _, c := range []struct{ name, old, new, want string }{
		{"right", "", "", ""},
		{"behind", "LAST-PART=3", "LAST-PART=0", "ends in 104.3"},
		{"ahead", "LAST-PART=3", "LAST-PART=4", "ends in 104.3"},
		{"far ahead", "LAST-MSN=104", "LAST-MSN=105", "ends in 104.3"},
		{"its own", "../audio/", "../video/", "none of the other"},
		{"missing", "#EXT-X-RENDITION-REPORT", "#", "has no rendition report"},
	} {
		all := map[string]*hlscheck.Playlist{"src/video/playlist.m3u8": parse(strings.Replace(video, c.old, c.new, 1)), "src/audio/playlist.m3u8": parse(audio)}
		v := strings.Join(hlscheck.Reports("src/video/playlist.m3u8", all), "\n")
		if !strings.Contains(v, c.want) || c.want == "" && v != "" {
			t.Errorf("%s: found %q, not %q", c.name, v, c.want)
		}
	}
}

// Playlists of other kinds have rules of their own.
func TestFindsViolationsOfOtherKinds(t *testing.T) {
	const ts = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n" +
		"#EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:20:00.000Z\n#EXTINF:2.0,\n1-5.ts\n#EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:20:02.000Z\n#EXTINF:2.0,\n1-6.ts\n"
	keys := strings.Replace(ts, "VERSION:3\n", "VERSION:6\n#EXT-X-I-FRAMES-ONLY\n", 1)
	keys = strings.Replace(keys, "#EXT-X-PROGRAM", "#EXT-X-MAP:URI=\"i\"\n#EXT-X-PROGRAM", 1)
	dvr := strings.Replace(keys, "#EXT-X-I-FRAMES-ONLY\n", "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=12.0,CAN-SKIP-UNTIL=24.0\n", 1)
	for _, c := range []struct {
		name           string
		kind           hlscheck.Kind
		good           string
		old, new, want string
	}{
		{"version of MPEG-TS", hlscheck.TS, ts, "VERSION:3", "VERSION:6", "no more than 3"},
		{"map of MPEG-TS", hlscheck.TS, ts, "#EXTINF", "#EXT-X-MAP:URI=\"i\"\n#EXTINF", "EXT-X-MAP"},
		{"blocking of MPEG-TS", hlscheck.TS, ts, "#EXT-X-MEDIA", "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA", "SERVER-CONTROL"},
		{"parts in MPEG-TS", hlscheck.TS, ts, "#EXTINF", "#EXT-X-PART:DURATION=0.2,URI=\"x\"\n#EXTINF", "lists parts"},
		{"time of MPEG-TS", hlscheck.TS, ts, "14:20:02", "14:20:03", "PROGRAM-DATE-TIME"},
		{"version of key frames", hlscheck.KeyFrames, keys, "VERSION:6", "VERSION:4", "needs 5"},
		{"mark of key frames", hlscheck.KeyFrames, keys, "#EXT-X-I-FRAMES-ONLY\n", "", "I-FRAMES-ONLY"},
		{"map of key frames", hlscheck.KeyFrames, keys, "#EXT-X-MAP:URI=\"i\"\n", "", "EXT-X-MAP"},
		{"hint in whole segments", hlscheck.Whole, dvr, "1-6.ts\n", "1-6.ts\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n", "without parts"},
		{"skip boundary of whole segments", hlscheck.Whole, dvr, "UNTIL=24.0", "UNTIL=12.0", "CAN-SKIP-UNTIL"},
	} {
		k := hlscheck.Checker{Kind: c.kind}
		if v := k.Add([]byte(c.good)); len(v) > 0 {
			t.Fatalf("%s: %v\n%s", c.name, v, c.good)
		}
		bad := strings.Replace(c.good, c.old, c.new, 1)
		if v := strings.Join(k.Add([]byte(bad)), "\n"); bad == c.good || !strings.Contains(v, c.want) {
			t.Errorf("%s: found %q, not %q", c.name, v, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"media_open.m3u8", "media_closed.m3u8", "media_delta.m3u8", "multivariant_plain.m3u8"} {
		f.Add([]byte(read(f, n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []hlscheck.Kind{hlscheck.LowLatency, hlscheck.Whole, hlscheck.TS, hlscheck.KeyFrames} {
			k := hlscheck.Checker{Kind: kind}
			k.Add(b)
			k.Add(b)
			k.Same(b)
			if p := k.Last(); p != nil && len(p.Segments) > 0 {
				hlscheck.Reports("a/b", map[string]*hlscheck.Playlist{"a/b": p, "a/c": p})
			}
		}
	})
}
