package transcode

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// nutFile gives what ffmpeg writes for a second of pictures.
func nutFile(t testing.TB) []byte {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=1",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "5", "-f", "nut", "-write_index", "0", "pipe:1").Output()
	if err != nil {
		need.Missing(t, "ffmpeg does not encode a clip: %v", err)
	}
	return out
}

func TestNUT(t *testing.T) {
	n := newNUTReader(bytes.NewReader(nutFile(t)))
	frames, keys, last := 0, 0, int64(-1)
	for {
		p, err := n.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		num, den := n.timebase()
		if at := p.pts * int64(num) * 10 / int64(den); at != last+1 {
			t.Errorf("frame %d is at %d/10 s", frames, at)
		} else {
			last = at
		}
		frames++
		if p.key {
			keys++
		}
	}
	if frames != 10 || keys != 2 {
		t.Errorf("%d frames, %d key frames", frames, keys)
	}
}

func FuzzNUT(f *testing.F) {
	file := nutFile(f)
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		n := newNUTReader(bytes.NewReader(b))
		for range 1000 {
			p, err := n.next()
			if err != nil {
				return
			}
			if len(p.data) > len(b)+1<<20 {
				t.Errorf("a frame of %d bytes out of %d", len(p.data), len(b))
			}
		}
	})
}

func FuzzFragment(f *testing.F) {
	p := &media.Publisher{Clip: media.Load(f), Key: key}
	c, b := p.Chunk()
	video := c.Fragments[0]
	f.Add(b[video.Offset:video.Offset+video.Size], video.Samples, video.BaseTime, video.Duration)
	f.Fuzz(func(t *testing.T, b []byte, samples int, base, duration uint64) {
		fr := schemas.Fragment{Track: schemas.Video, Samples: samples, BaseTime: base, Duration: duration}
		s, err := samplesOf(&fr, b)
		if err != nil || len(s) == 0 {
			return
		}
		size := 0
		for i := range s {
			size += len(s[i].data)
		}
		if len(s) != samples || size > len(b) {
			t.Errorf("%d samples of %d bytes", len(s), size)
		}
		_, _ = doubleInit(b)
	})
}

// planned1 makes a chunk of one part; order gives each
// frame's presentation, in frames, by decoding order. A frame lasts 10 units.
func planned1(seq, msn uint64, part uint32, first int, order ...int) *planned {
	f := schemas.Fragment{
		Track: schemas.Video, MSN: msn, Part: part, Timescale: 300, BaseTime: uint64(10 * first), Duration: uint64(10 * len(order)),
		Samples: len(order), SegmentStart: part == 0, Independent: part == 0,
	}
	pp := plannedPart{frag: f}
	for i, at := range order {
		dts := 10 * (first + i)
		pp.samples = append(pp.samples, sample{dts: uint64(dts), dur: 10, cto: int64(10*at - dts)})
	}
	return &planned{chunk: &schemas.Chunk{App: "live", Stream: "one", Epoch: 1, Seq: seq, Fragments: []schemas.Fragment{f}}, parts: []plannedPart{pp}, arrived: time.Now()}
}

// A source with B-frames, and one frame that the decoder could not make.
func TestCutterPutsFramesInTheirPlaces(t *testing.T) {
	var c cutter
	// Presentation I P B P | B P B P: the second part's first frame is presented before the first's last.
	for _, p := range []*planned{planned1(0, 5, 0, 0, 1, 3, 2, 5), planned1(1, 5, 1, 4, 4, 7, 6, 8)} {
		if err := c.expect(p); err != nil {
			t.Fatal(err)
		}
	}
	var got []rendered
	for _, at := range []int64{1, 2, 3, 4, 5, 7, 8} { // 6 is lost
		r, err := c.frame(frame{pts: 10 * at, key: at == 1, data: []byte{1, 2, 3}})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r...)
	}
	if len(got) != 2 {
		t.Fatalf("%d chunks", len(got))
	}
	want := [][]int64{{10, 20, 30, 40}, {50, 70, 80}}
	for i := range got {
		ch, b, err := got[i].chunk("low", schemas.InitID([]byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		f := &ch.Fragments[0]
		s, err := samplesOf(f, b) // it checks base time and duration
		if err != nil {
			t.Fatal(err)
		}
		if f.Independent != (i == 0) || len(s) != len(want[i]) {
			t.Errorf("part %d: %+v", i, f)
		}
		for j := range s {
			if s[j].pts() != want[i][j] || s[j].cto < 0 {
				t.Errorf("part %d, frame %d is presented at %d, %d after decoding; want %d", i, j, s[j].pts(), s[j].cto, want[i][j])
			}
		}
	}
	if _, err := c.frame(frame{pts: 95}); err == nil {
		t.Error("a frame that the source does not have was taken")
	}
}

func TestBegin(t *testing.T) {
	var have []*planned
	for i := range 8 { // segments of four chunks, from number 10
		p := planned1(uint64(10+i), uint64(i/4), uint32(i%4), i, i)
		have = append(have, p)
	}
	at := func(n uint64) *uint64 { return &n }
	for name, c := range map[string]struct {
		after []*uint64
		chunk int
		joins string
	}{
		"nothing made yet":            {[]*uint64{nil, nil}, 4, "[{14 0 true} {14 0 true}]"},
		"another stopped":             {[]*uint64{at(11), at(12)}, 0, "[{12 0 false} {13 0 false}]"},
		"another stopped just now":    {[]*uint64{at(17)}, 4, "[{18 0 false}]"},
		"one rung is new":             {[]*uint64{at(15), nil}, 4, "[{16 0 false} {14 0 true}]"},
		"what is between is not here": {[]*uint64{at(3)}, 4, "[{14 0 true}]"},
	} {
		b, ok := begin(have, c.after)
		if !ok || b.chunk != c.chunk || b.part != 0 {
			t.Errorf("%s: %+v, %t", name, b, ok)
			continue
		}
		if got := fmt.Sprint(b.joins); got != c.joins {
			t.Errorf("%s: %s, want %s", name, got, c.joins)
		}
	}
	if _, ok := begin(have[1:4], []*uint64{nil}); ok {
		t.Error("begun without a key frame")
	}
}
