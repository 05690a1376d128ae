package cut

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// Each segment opens where its run says, on both tracks.
func TestSegmentsKeepTheirLine(t *testing.T) {
	for _, f := range []feed{{fps: 30, gop: 60, rate: 48000, seconds: 30}, {fps: 30000. / 1001, gop: 60, rate: 44100, seconds: 30}, {rate: 48000, seconds: 30}} {
		runs, regular := map[uint64]bool{}, map[schemas.Track]int{}
		for _, c := range f.run(t).chunks {
			for i := range c.Fragments {
				fr := &c.Fragments[i]
				if (fr.Line != nil) != fr.SegmentStart {
					t.Fatalf("%+v: %s %d.%d: start %t, line %+v", f, fr.Track, fr.MSN, fr.Part, fr.SegmentStart, fr.Line)
				}
				if fr.Line == nil {
					continue
				}
				l := fr.Line
				runs[l.ID] = true
				if l.SegmentUs == 0 {
					continue
				}
				regular[fr.Track]++
				at := int64(fr.BaseTime * 1_000_000 / uint64(fr.Timescale))
				off := at - l.StartUs - int64(fr.MSN-l.FirstMSN)*l.SegmentUs
				if off > schemas.LineSlackUs || off < -schemas.LineSlackUs {
					t.Errorf("%+v: %s segment %d opens %d us off its line %+v", f, fr.Track, fr.MSN, off, l)
				}
			}
		}
		if len(runs) != 2 || regular[schemas.Audio] < 10 {
			t.Errorf("%+v: runs %v, regular segments %v: one run until the length is known and one after it are expected", f, runs, regular)
		}
	}
}

func TestLineBeginsANewRun(t *testing.T) {
	var l line
	const zero = 1_790_000_000_000_000
	at, i := int64(0), uint64(0)
	open := func(d, drift int64, audio uint64) schemas.Line {
		l.open(at, zero+drift, i, audio)
		at, i = at+d, i+1
		return l.cur
	}
	for range 5 {
		open(2_000_000, 0, i)
	}
	if l.cur.ID != 1 || l.cur.SegmentUs != 2_000_000 || l.cur.StartUs != 2_000_000 || l.index != 1 {
		t.Fatalf("regular: %+v", l)
	}
	if c := open(2_000_000, schemas.LineLateUs, i); c.ID != 1 {
		t.Errorf("a little late: %+v", c)
	}
	if c := open(2_000_000, schemas.LineLateUs+1, i); c.ID != 2 || c.ZeroUnixUs != zero+schemas.LineLateUs+1 || c.SegmentUs != 2_000_000 {
		t.Errorf("late: %+v", c)
	}
	// Audio pauses for three segments: its numbers fall behind, once.
	audio := i
	for range 3 {
		if c := open(2_000_000, 0, audio); c.ID != 2 {
			t.Errorf("audio pauses: %+v", c)
		}
	}
	if c := open(2_000_000, 0, audio+1); c.ID != 3 || l.audio != audio+1 {
		t.Errorf("audio is back: %+v", l)
	}
	open(3_000_000, 0, audio+2)
	if c := open(3_000_000, 0, audio+3); c.ID != 4 || c.SegmentUs != 0 {
		t.Errorf("other key frames: %+v", c)
	}
	if c := open(3_000_000, 0, audio+4); c.ID != 5 || c.SegmentUs != 3_000_000 {
		t.Errorf("regular again: %+v", c)
	}
}
