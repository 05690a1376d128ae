package probe

import (
	"strings"
	"testing"
	"time"
)

const live = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.000Z
#EXT-X-MAP:URI="init-1.mp4"
#EXTINF:2.00000,
1-7.m4s
#EXT-X-PART:DURATION=0.20000,URI="1-8.0.m4s",INDEPENDENT=YES
#EXTINF:2.10000,
1-8.m4s
#EXT-X-PART:DURATION=0.20000,URI="1-9.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.20000,URI="1-9.1.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="1-9.2.m4s"
`

func TestNewestOfAPlaylist(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for name, x := range map[string]struct {
		text, uri string
		end       time.Duration
		wrong     string
	}{
		"parts":              {text: live, uri: "1-9.1.m4s", end: 4500 * time.Millisecond},
		"segments alone":     {text: live[:strings.Index(live, "#EXT-X-PART:DURATION=0.20000,URI=\"1-9")], uri: "1-8.m4s", end: 4100 * time.Millisecond},
		"a date in between":  {text: live + "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:01:00Z\n#EXTINF:1,\n1-10.m4s\n", uri: "1-10.m4s", end: 61 * time.Second},
		"an error page":      {text: "<html>", wrong: "no playlist"},
		"no media":           {text: "#EXTM3U\n#EXT-X-ENDLIST\n", wrong: "no media"},
		"no date":            {text: "#EXTM3U\n#EXTINF:2,\na.m4s\n", wrong: "program date time"},
		"a bad date":         {text: "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:soon\n", wrong: "date time"},
		"an endless segment": {text: "#EXTM3U\n#EXTINF:1e300,\n", wrong: "duration"},
		"a nameless part":    {text: "#EXTM3U\n#EXT-X-PART:DURATION=1\n", wrong: "URI"},
	} {
		n, err := readPlaylist(x.text)
		if x.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), x.wrong) {
				t.Errorf("%s: %+v, %v", name, n, err)
			}
		} else if d := n.end.Sub(at.Add(x.end)).Abs(); err != nil || n.uri != x.uri || d > time.Millisecond {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

func TestWhatAPlayerAsksForFirst(t *testing.T) {
	if got := strings.Join(newestMedia(live), " "); got != "init-1.mp4 1-7.m4s 1-8.m4s 1-9.0.m4s 1-9.1.m4s" {
		t.Error(got)
	}
	if got := newestMedia("#EXTM3U\n"); len(got) != 0 {
		t.Error(got)
	}
}

func FuzzReadPlaylist(f *testing.F) {
	f.Add(live)
	f.Add("#EXTM3U\n#EXT-X-PART:DURATION=-1,URI=\"\"\n#EXTINF:NaN,\nx\n")
	f.Fuzz(func(t *testing.T, text string) {
		newestMedia(text)
		if n, err := readPlaylist(text); err == nil && (n.uri == "" || n.end.Year() < 2000) {
			t.Fatalf("%+v", n)
		}
	})
}

func TestStaleness(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, x := range map[string]struct {
		end  time.Time
		h    heard
		want time.Duration
	}{
		"fresh":                   {end: ago(300 * time.Millisecond), h: heard{ingest: ago(time.Second)}, want: 300 * time.Millisecond},
		"captured long before":    {end: ago(2300 * time.Millisecond), h: heard{ingest: ago(time.Second), capture: 2 * time.Second}, want: 300 * time.Millisecond},
		"stale":                   {end: ago(20 * time.Second), h: heard{ingest: ago(time.Second)}, want: 20 * time.Second},
		"the publisher is silent": {end: ago(20 * time.Second), h: heard{ingest: ago(20 * time.Second)}, want: sampleGap},
		"a clock that is ahead":   {end: now.Add(time.Second), want: 0},
		"nothing known of ingest": {end: ago(5 * time.Second), want: 5 * time.Second},
	} {
		if got := staleness(now, x.end, x.h); got != x.want {
			t.Errorf("%s: %s, expected %s", name, got, x.want)
		}
	}
}
