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

func FuzzParse(f *testing.F) {
	for _, n := range []string{"media_open.m3u8", "media_closed.m3u8", "media_delta.m3u8", "multivariant_plain.m3u8"} {
		f.Add([]byte(read(f, n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var k hlscheck.Checker
		k.Add(b)
		k.Add(b)
	})
}
