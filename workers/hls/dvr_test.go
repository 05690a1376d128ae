package hls

import (
	"strings"
	"testing"

	"github.com/bluenviron/gohlslib/v2/pkg/playlist"
)

func dvrOf(n int) *DVR {
	d := &DVR{}
	for i := range n {
		s := DVRSegment{Epoch: 1, MSN: uint64(7 + i), InitID: strings.Repeat("a", 32), WallUnixUs: 1_795_000_000_000_000 + int64(i)*2_000_000, DurationUs: 2_000_000}
		if i >= 3 {
			s.Epoch, s.DiscontinuitySeq, s.Discontinuity, s.InitID = 2, 1, i == 3, strings.Repeat("b", 32)
		}
		s.Gap = i == 1
		d.Segments = append(d.Segments, s)
	}
	return d
}

func TestDVR(t *testing.T) {
	const want = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=12.0,CAN-SKIP-UNTIL=24.0
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-MAP:URI="init-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:40.000Z
#EXTINF:2.0,
1-7.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:42.000Z
#EXT-X-GAP
#EXTINF:2.0,
1-8.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:44.000Z
#EXTINF:2.0,
1-9.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:46.000Z
#EXTINF:2.0,
2-10.m4s
`
	if got := string(dvrOf(4).Append(nil)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(dvrOf(4).AppendDelta(nil)); got != want {
		t.Errorf("there is nothing to skip:\n%s", got)
	}
	var m playlist.Media
	if err := m.Unmarshal([]byte(want)); err != nil || len(m.Segments) != 4 || m.MediaSequence != 7 {
		t.Errorf("another reader: %v, %+v", err, m)
	}
}

// An hour's reload is a delta update of a few hundred bytes.
func TestDVRDelta(t *testing.T) {
	d := dvrOf(1800)
	whole, delta := string(d.Append(nil)), string(d.AppendDelta(nil))
	if !strings.Contains(delta, "#EXT-X-SKIP:SKIPPED-SEGMENTS=1788\n") || strings.Count(delta, "#EXTINF") != 12 || len(delta) > 1500 {
		t.Errorf("%d bytes:\n%s", len(delta), delta)
	}
	// What it leaves out and what it has make up the whole.
	if i := strings.Index(delta, "#EXT-X-PROGRAM-DATE-TIME"); !strings.HasSuffix(whole, delta[i:]) {
		t.Error("the delta update does not end as the whole playlist does")
	}
	// A discontinuity that has left is counted.
	d.Segments = d.Segments[4:]
	if s := string(d.Append(nil)); !strings.Contains(s, "#EXT-X-DISCONTINUITY-SEQUENCE:1\n") {
		t.Errorf("%.400s", s)
	}
	t.Logf("whole %d bytes, delta %d", len(whole), len(delta))
}
