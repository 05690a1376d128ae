package bench

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

var base = &url.URL{Scheme: "http", Host: "h", Path: "/live/s/multivariant.m3u8"}

func TestParseMultivariant(t *testing.T) {
	r, ok, err := parseMultivariant(`#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="other",NAME="x",URI="no.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="audio, main",DEFAULT=YES,URI="src/audio/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001f,mp4a.40.2",AUDIO="a"

src/video/playlist.m3u8?x=1
#EXT-X-STREAM-INF:BANDWIDTH=2
second.m3u8
`, base)
	if err != nil || !ok || r.video != "http://h/live/s/src/video/playlist.m3u8?x=1" || r.audio != "http://h/live/s/src/audio/playlist.m3u8" {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	if _, ok, err := parseMultivariant("#EXTM3U\n#EXTINF:2,\na.ts\n", base); ok || err != nil {
		t.Errorf("a media playlist: %v, %v", ok, err)
	}
	if _, _, err := parseMultivariant("<html>", base); err == nil {
		t.Error("no error for what is no playlist")
	}
}

func TestParseMediaDatesParts(t *testing.T) {
	starts := map[int64]time.Time{}
	const full = `#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,CAN-SKIP-UNTIL=24
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="init.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXTINF:2,
7.m4s
#EXT-X-PART:DURATION=0.2,URI="8.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.15,URI="8.1.m4s"
#EXTINF:0.35,
8.m4s
#EXT-X-PART:DURATION=0.2,URI="9.0.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="9.1.m4s"
`
	m, err := parseMedia(full, base, starts)
	if err != nil {
		t.Fatal(err)
	}
	if !m.canBlock || !m.canSkip || m.initURI != "http://h/live/s/init.mp4" || m.segments != 2 || m.nextMSN != 9 || m.nextPart != 1 {
		t.Errorf("%+v", m)
	}
	ends := func(m *mediaPlaylist) string {
		var s []string
		for _, p := range m.parts {
			s = append(s, fmt.Sprintf("%d.%d %s", p.msn, p.part, p.end.Format("05.000")))
		}
		return strings.Join(s, ", ")
	}
	if got := ends(m); got != "8.0 02.200, 8.1 02.350, 9.0 02.550" {
		t.Errorf("parts end at %s", got)
	}
	// The delta update does not say when segment 9 began.
	m, err = parseMedia(`#EXTM3U
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-SKIP:SKIPPED-SEGMENTS=2
#EXT-X-PART:DURATION=0.2,URI="9.0.m4s"
#EXT-X-PART:DURATION=0.2,URI="9.1.m4s"
`, base, starts)
	if err != nil || m.nextMSN != 9 || m.nextPart != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := ends(m); got != "9.0 02.550, 9.1 02.750" {
		t.Errorf("after a delta update parts end at %s", got)
	}
	for _, bad := range []string{"", "#EXTM3U\n", "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\n", "#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=x\n",
		"#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:noon\n", "#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"%zz\"\n"} {
		if m, err := parseMedia(bad, base, starts); err == nil {
			t.Errorf("%q read as %+v", bad, m)
		}
	}
}

func TestDistribution(t *testing.T) {
	var v []float64
	for i := range 100 {
		v = append(v, float64(100-i))
	}
	if d := distribution(v); d != (Distribution{Samples: 100, Mean: 50.5, P50: 50, P95: 95, Max: 100}) {
		t.Errorf("%+v", d)
	}
	if d := distribution([]float64{3}); d != (Distribution{Samples: 1, Mean: 3, P50: 3, P95: 3, Max: 3}) {
		t.Errorf("%+v", d)
	}
	if d := distribution(nil); d != (Distribution{}) {
		t.Errorf("%+v", d)
	}
	if r := rangeOf([]float64{4, 1, 3, 2}); r != (Range{Median: 2.5, Min: 1, Max: 4}) {
		t.Errorf("%+v", r)
	}
}

// TestRatiosPairRounds: a ratio is of one round, not of two medians.
func TestRatiosPairRounds(t *testing.T) {
	r := &Report{}
	for round, cpu := range [][2]float64{{2, 4}, {9, 6}, {1, 4}} {
		for i, server := range []string{"own", "peer"} {
			r.Runs = append(r.Runs, Result{Server: server, Round: round + 1, CPUSeconds: cpu[i], PeakRSSBytes: int64(10 * (i + 1))})
		}
	}
	late := func(p50 float64) *Reading { return &Reading{VideoLatency: Distribution{P50: p50}} }
	r.Runs = append(r.Runs, Result{Server: "own", Round: 1, ReadersPerStream: 1, CPUSeconds: 3, PeakRSSBytes: 1, Reading: late(-10)},
		Result{Server: "peer", Round: 1, ReadersPerStream: 1, CPUSeconds: 2, PeakRSSBytes: 1, Reading: late(5)})
	r.sumUp("own")
	if len(r.Summary) != 4 || len(r.Ratios) != 2 {
		t.Fatalf("%+v", r)
	}
	if x := r.Ratios[0]; x.Peer != "peer" || x.CPU != (Range{Median: 0.5, Min: 0.25, Max: 1.5}) || x.PeakRSS.Median != 0.5 || x.LatencyDifferenceMs != nil {
		t.Errorf("%+v", x)
	}
	if x := r.Ratios[1]; x.CPU.Median != 1.5 || x.LatencyDifferenceMs == nil || x.LatencyDifferenceMs.Median != -15 {
		t.Errorf("%+v", x)
	}
	if s := r.Summary[1]; s.Server != "peer" || s.CPUSeconds != (Range{Median: 4, Min: 4, Max: 6}) {
		t.Errorf("%+v", s)
	}
}

func TestMachineIsRead(t *testing.T) {
	if m := machine(); m.CPUs < 1 || m.RAMBytes < 1<<27 || m.Kernel == "" {
		t.Errorf("%+v", m)
	}
	a, err := readMachineCPU()
	if err != nil || a.busy <= 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestPoints(t *testing.T) {
	late := Range{Median: 7}
	r := Report{Publishers: 4, Seconds: 10, Summary: []Summary{
		{Server: "a", CPUSeconds: Range{Median: 2}, PeakRSSBytes: Range{Median: 5}},
		{Server: "b", ReadersPerStream: 1, CPUSeconds: Range{Median: 4}, LatencyP50Ms: &late, LatencyP95Ms: &late},
	}}
	p := r.points()
	if len(p) != 2 || p[0].MsPerStreamSecond != 50 || p[0].PeakRSSBytes != 5 || p[0].LatencyP50Ms != nil {
		t.Fatalf("%+v", p)
	}
	if p[1].MsPerStreamSecond != 100 || p[1].Publishers != 4 || p[1].LatencyP50Ms == nil || *p[1].LatencyP95Ms != 7 {
		t.Errorf("%+v", p[1])
	}
}

// A page whose player has failed plays what it had loaded, for as long as it waits to begin anew.
func TestWhatWasLoadedIsPlayedToTheEnd(t *testing.T) {
	began := time.Unix(1000, 0)
	for _, c := range []struct{ ahead, stopped time.Duration }{
		{0, 10 * time.Second}, {time.Second, 9 * time.Second}, {20 * time.Second, 10*time.Second - pageReload},
	} {
		x := &seat{}
		x.state(true, began)
		failed := began.Add(10 * time.Second)
		x.state(false, failed)
		x.left(failed, c.ahead)
		if got := x.stopped(began, began.Add(20*time.Second)); got != c.stopped {
			t.Errorf("%v loaded: stopped for %v, want %v", c.ahead, got, c.stopped)
		}
	}
}
