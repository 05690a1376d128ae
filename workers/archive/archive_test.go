package archive

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

func seg() Segment {
	return Segment{
		Epoch: 3, MSN: 1207, ReceivedUnixUs: time.Date(2026, 11, 21, 11, 59, 58, 123456000, time.UTC).UnixMicro(), WallUnixUs: 1795262397000000,
		DurationUs: 2000000, DiscontinuitySeq: 2, Discontinuity: true, Bytes: 123456, CRC: 0xab, InitID: strings.Repeat("0a", 16),
	}
}

var track = Track{ClassDVR, schemas.StreamKey{App: "live", Stream: "one"}, "src", schemas.Video}

// Names are a contract: what was recorded by an older program must be found.
func TestNamesStay(t *testing.T) {
	s := seg()
	const want = "dvr/live/one/src/video/20261121T1150Z/0000000003-000000001207_1795262398123456_1795262397000000_2000000_d2_123456_000000ab_0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.m4s"
	if got := track.Object(&s); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := track.Init(&s); got != "dvr/live/one/src/video/20261121T1150Z/init-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.mp4" {
		t.Error(got)
	}
	if back, ok := track.Parse(want); !ok || back != s {
		t.Errorf("%+v %t", back, ok)
	}
	for _, key := range []string{"", want[1:], strings.Replace(want, "T1150Z", "T1200Z", 1), strings.Replace(want, "one", "two", 1), track.Init(&s),
		strings.Replace(want, "_2000000_", "_02000000_", 1), strings.Replace(want, "_d2_", "_x2_", 1), want + "/x", strings.Replace(want, "0000000003-", "3-", 1)} {
		if got, ok := track.Parse(key); ok {
			t.Errorf("%s was taken as %+v", key, got)
		}
	}
}

func TestNamesAreInTheOrderOfTime(t *testing.T) {
	var names []string
	s := seg()
	for range 3000 {
		names = append(names, track.Object(&s))
		s.MSN++
		s.ReceivedUnixUs += 2_000_000
		if s.MSN%1000 == 0 {
			s.Epoch++
		}
	}
	if !slices.IsSorted(names) {
		t.Error("not sorted")
	}
}

func TestBlocks(t *testing.T) {
	at, err := ParseBlock(Block(seg().ReceivedUnixUs))
	if err != nil || !at.Equal(time.Date(2026, 11, 21, 11, 50, 0, 0, time.UTC)) {
		t.Errorf("%v %v", at, err)
	}
	for _, b := range []string{"", "20261121", "20261321T1150Z", "20261121T1150", "x"} {
		if _, err := ParseBlock(b); err == nil {
			t.Errorf("%q was taken", b)
		}
	}
}

func FuzzParseName(f *testing.F) {
	s := seg()
	f.Add(s.Name())
	for _, n := range []string{"", "_______.m4s", "1-2_3_4_5_c6_7_8_9.m4s", strings.Replace(s.Name(), "1207", "99999", 1)} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		s, err := ParseName(name)
		if err == nil && (s.Name() != name || s.Check() != nil) {
			t.Errorf("%q was taken as %+v", name, s)
		}
	})
}
