package cut

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/schemas"
)

// Parameter sets of x264, 640x360 baseline.
var (
	testSPS, _ = hex.DecodeString("6742c01eda0280bfe5c05a808080a0000003002000000781e2c5d4")
	testPPS, _ = hex.DecodeString("68ce0fc8")
)

func testVideo(t testing.TB, fps float64) *Track {
	t.Helper()
	v, err := NewVideoTrack(&VideoConfig{Codec: H264, SPS: testSPS, PPS: testPPS, FPS: fps}, schemas.DefaultPartTargetUs)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func testAudio(t testing.TB, rate int) *Track {
	t.Helper()
	a, err := NewAudioTrack(&AudioConfig{Codec: AAC, AAC: &mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: rate, ChannelConfig: 2, ChannelCount: 2}}, schemas.DefaultPartTargetUs)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// feed is a publisher whose media is only sizes.
type feed struct {
	fps     float64 // 0: no video
	gop     int
	bframes bool
	rate    int // 0: no audio
	seconds float64
	startMs int64
	jitter  func() int64 // added to arrival, microseconds
	// audioLag delays audio's arrival, milliseconds
	audioLagMs int64
	declared   float64
}

const epoch0 = int64(1_700_000_000_000_000)

type feedFrame struct {
	audio bool
	Frame
}

// frames interleaves by arrival.
func (f feed) frames() []feedFrame {
	var v, a []feedFrame
	late := func() int64 {
		if f.jitter == nil {
			return 0
		}
		return f.jitter()
	}
	if f.fps > 0 {
		for i := 0; float64(i)/f.fps < f.seconds; i++ {
			dts := float64(i) / f.fps
			cts := 0.0
			if f.bframes {
				switch i % 3 {
				case 0:
					cts = 1 / f.fps
				case 1:
					cts = 3 / f.fps
				}
			}
			ms := int64(math.Floor(dts * 1000))
			pts := int64(math.Floor((dts + cts) * 1000))
			fr := Frame{DTSUs: (f.startMs + ms) * 1000, CTSUs: (pts - ms) * 1000, Key: i%f.gop == 0, Data: make([]byte, 1000), ArrivedUs: epoch0 + int64(dts*1e6) + late()}
			v = append(v, feedFrame{Frame: fr})
		}
	}
	if f.rate > 0 {
		for i := 0; float64(i)*1024/float64(f.rate) < f.seconds; i++ {
			dts := float64(i) * 1024 / float64(f.rate)
			fr := Frame{DTSUs: (f.startMs + int64(math.Floor(dts*1000))) * 1000, Key: true, Data: make([]byte, 300), ArrivedUs: epoch0 + int64(dts*1e6) + f.audioLagMs*1000 + late()}
			a = append(a, feedFrame{audio: true, Frame: fr})
		}
	}
	var out []feedFrame
	for len(v) > 0 || len(a) > 0 {
		if len(a) == 0 || len(v) > 0 && v[0].ArrivedUs <= a[0].ArrivedUs {
			out, v = append(out, v[0]), v[1:]
		} else {
			out, a = append(out, a[0]), a[1:]
		}
	}
	return out
}

type result struct {
	chunks   []*schemas.Chunk
	payloads [][]byte
	check    cutcheck.Checker
	cutter   *Cutter
}

// run cuts the feed and verifies every chunk.
func (f feed) run(t testing.TB) *result {
	t.Helper()
	r := &result{}
	s := Settings{App: "live", Stream: "test", Rendition: "src", CDN: "a", Epoch: 1}
	if f.declared == 0 {
		f.declared = f.fps
	}
	open := &schemas.EpochOpen{Epoch: 1}
	if f.fps > 0 {
		s.Video = testVideo(t, f.declared)
		open.Tracks = append(open.Tracks, s.Video.Info)
	}
	if f.rate > 0 {
		s.Audio = testAudio(t, f.rate)
		if s.Video != nil {
			s.Audio.BesideVideo(s.Video.Info.PartTargetUs)
		}
		open.Tracks = append(open.Tracks, s.Audio.Info)
	}
	if err := r.check.Open(open); err != nil {
		t.Fatal(err)
	}
	s.Emit = func(c *schemas.Chunk, p []byte) {
		if err := r.check.Chunk(c, p); err != nil {
			t.Fatal(err)
		}
		r.chunks, r.payloads = append(r.chunks, c), append(r.payloads, p)
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	r.cutter = c
	for _, fr := range f.frames() {
		for d := c.Deadline(); d != 0 && d <= fr.ArrivedUs; d = c.Deadline() {
			c.Tick(d)
		}
		var err error
		if fr.audio {
			err = c.Audio(fr.Frame)
		} else {
			err = c.Video(fr.Frame)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Finish()
	return r
}

func TestRates(t *testing.T) {
	for _, tc := range []struct {
		fps   float64
		gop   int
		part  int64 // longest video part, us
		short bool  // d does not allow 85 % of 200 ms, so the target itself is shorter
	}{
		{30, 60, 200_000, false}, {25, 50, 200_000, false}, {60, 120, 200_000, false}, {50, 100, 200_000, false},
		{24, 48, 166_666, false}, {30000. / 1001, 60, 166_833, false}, {24000. / 1001, 48, 166_833, false},
		{60000. / 1001, 120, 183_516, false}, {15, 30, 200_000, false}, {10, 20, 200_000, false}, {5, 10, 200_000, false},
	} {
		for _, b := range []bool{false, true} {
			for _, rate := range []int{48000, 44100, 0} {
				t.Run(fmt.Sprintf("%.2f/b=%t/%d", tc.fps, b, rate), func(t *testing.T) {
					r := feed{fps: tc.fps, gop: tc.gop, bframes: b, rate: rate, seconds: 20.5}.run(t)
					v := r.check.Tracks[schemas.Video]
					if v.LongestPartUs != tc.part {
						t.Errorf("longest part %d us, want %d", v.LongestPartUs, tc.part)
					}
					// Before the line is found the rounding to milliseconds may cost a part a frame.
					if v.Short > 2 {
						t.Errorf("%d of %d parts are short", v.Short, v.Parts)
					}
					if v.HolesUs > 2000 {
						t.Errorf("holes of %d us", v.HolesUs)
					}
					if v.Keys != v.Segments {
						t.Errorf("%d of %d segments start with a key frame", v.Keys, v.Segments)
					}
					if v.Ended < v.Segments-1 { // the last part before the end may have gone already
						t.Errorf("%d of %d segments are ended", v.Ended, v.Segments)
					}
					if v.Samples != int(math.Ceil(20.5*tc.fps)) {
						t.Errorf("%d frames came out", v.Samples)
					}
					if rate > 0 {
						a := r.check.Tracks[schemas.Audio]
						if tc.fps > 5 && a.Segments != v.Segments || a.Ended < a.Segments-1 || a.Short > 0 || a.HolesUs > 0 {
							t.Errorf("audio %+v; video has %d segments", a, v.Segments)
						}
						if tc.fps > 5 && len(r.chunks) > v.Parts*3/2+v.Segments {
							t.Errorf("%d chunks for %d video parts", len(r.chunks), v.Parts)
						}
					}
					if v.WorstWallErrorUs > 2*tc.part && b || v.WorstWallErrorUs > 2000 && !b {
						t.Errorf("wall-clock is %d us off a line", v.WorstWallErrorUs)
					}
				})
			}
		}
	}
}

func TestAudioOnly(t *testing.T) {
	for _, rate := range []int{48000, 44100, 16000} {
		r := feed{rate: rate, seconds: 21}.run(t)
		a := r.check.Tracks[schemas.Audio]
		// Segments end with a whole part, so none is longer than the least length and a part.
		if a.Short > 0 || a.Segments < 9 || a.LongestSegUs > 2_200_000 || a.ShortestSegUs < 2_000_000 {
			t.Errorf("%d Hz: %+v", rate, a)
		}
	}
}

func TestSegmentWithoutKeyFrame(t *testing.T) {
	r := feed{fps: 25, gop: 250, rate: 48000, seconds: 30}.run(t)
	v, a := r.check.Tracks[schemas.Video], r.check.Tracks[schemas.Audio]
	// 4 s, 4 s, then the key frame at 10 s.
	if v.Segments != 9 || v.Keys != 3 || a.Segments != 9 || v.LongestSegUs != 4_000_000 || v.ShortestSegUs != 2_000_000 {
		t.Errorf("video %+v audio %+v", v, a)
	}
}

func TestJitterDoesNotMoveWallClock(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	delay := int64(0)
	f := feed{fps: 30, gop: 60, rate: 48000, seconds: 60, jitter: func() int64 {
		if rng.IntN(10) > 0 {
			delay = rng.Int64N(80_000)
		} else {
			delay = rng.Int64N(3_000)
		}
		return delay
	}}
	r := f.run(t)
	v := r.check.Tracks[schemas.Video]
	if v.WorstWallErrorUs > 5_000 {
		t.Errorf("wall-clock moved by %d us", v.WorstWallErrorUs)
	}
}

func BenchmarkCutter(b *testing.B) {
	f := feed{fps: 30, gop: 60, rate: 48000, seconds: 60}
	frames := f.frames()
	for i := range frames {
		if !frames[i].audio {
			frames[i].Data = make([]byte, 10_800) // 2.6 Mbit/s
		}
	}
	v, a := testVideo(b, 30), testAudio(b, 48000)
	buf := make([]byte, 0, 1<<20)
	bytes := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		bytes = 0
		c, err := New(Settings{App: "live", Stream: "test", Rendition: "src", Epoch: 1, Video: v, Audio: a,
			Emit: func(_ *schemas.Chunk, p []byte) { bytes += int64(len(p)) }, Buffer: func(int) []byte { return buf }})
		if err != nil {
			b.Fatal(err)
		}
		for i := range frames {
			if frames[i].audio {
				err = c.Audio(frames[i].Frame)
			} else {
				err = c.Video(frames[i].Frame)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		c.Finish()
	}
	b.SetBytes(bytes)
	b.ReportMetric(float64(len(frames)), "frames/op")
}
