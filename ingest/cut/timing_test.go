package cut

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/schemas"
)

// driver runs cutters over frames, with a new epoch at each jump, and verifies all chunks.
type driver struct {
	t            testing.TB
	video, audio *Track
	check        cutcheck.Checker
	cutter       *Cutter
	epoch        uint32
	dseq         uint32
	jumps        int
	bytes        int
}

func newDriver(t testing.TB, video, audio *Track) *driver {
	d := &driver{t: t, video: video, audio: audio}
	d.open(nil)
	return d
}

func (d *driver) open(next map[schemas.Track]uint64) {
	d.epoch++
	s := Settings{App: "live", Stream: "test", Rendition: "src", Epoch: d.epoch, DiscontinuitySeq: d.dseq, Discontinuity: d.dseq > 0, Video: d.video, Audio: d.audio}
	o := &schemas.EpochOpen{Epoch: d.epoch}
	for _, t := range []*Track{d.video, d.audio} {
		if t != nil {
			t.Info.FirstMSN = next[t.Info.Track]
			o.Tracks = append(o.Tracks, t.Info)
		}
	}
	if err := d.check.Open(o); err != nil {
		d.t.Fatal(err)
	}
	s.Emit = func(c *schemas.Chunk, p []byte) {
		d.bytes += len(p)
		if err := d.check.Chunk(c, p); err != nil {
			d.t.Fatal(err)
		}
	}
	c, err := New(s)
	if err != nil {
		d.t.Fatal(err)
	}
	d.cutter = c
}

func (d *driver) add(f feedFrame) {
	for t := d.cutter.Deadline(); t != 0 && t <= f.ArrivedUs; t = d.cutter.Deadline() {
		d.cutter.Tick(t)
	}
	err := d.cut(f)
	var jump *JumpError
	if errors.As(err, &jump) {
		d.jumps++
		d.reopen()
		err = d.cut(f)
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		d.t.Fatal(err)
	}
}

func (d *driver) cut(f feedFrame) error {
	if f.audio {
		return d.cutter.Audio(f.Frame)
	}
	return d.cutter.Video(f.Frame)
}

func (d *driver) reopen() {
	d.cutter.Finish()
	if d.cutter.Seq() > 0 {
		d.dseq++
	}
	d.open(d.cutter.NextMSN())
}

func TestVariableFrameRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	d := newDriver(t, testVideo(t, 30), testAudio(t, 48000))
	ms, sum := int64(0), int64(0)
	audio := feed{rate: 48000, seconds: 60}.frames()
	for i := range 800 {
		for len(audio) > 0 && audio[0].DTSUs <= ms*1000 {
			d.add(audio[0])
			audio = audio[1:]
		}
		d.add(feedFrame{Frame: Frame{DTSUs: ms * 1000, Key: i%40 == 0, Data: make([]byte, 500), ArrivedUs: epoch0 + ms*1000}})
		sum = ms
		ms += 10 + rng.Int64N(110)
	}
	d.cutter.Finish()
	v := d.check.Tracks[schemas.Video]
	if v.Samples != 800 || v.HolesUs != 0 || d.jumps != 0 || v.LongestSegUs > 4_120_000 {
		t.Errorf("%+v", v)
	}
	if end := int64(d.cutter.video.end) / 90; end < sum || end > sum+150 {
		t.Errorf("media ends at %d ms, the publisher's clock at %d", end, sum)
	}
}

// A rate that is not the declared one, and one that drifts, are followed without drift.
func TestClockIsFollowed(t *testing.T) {
	for _, fps := range []float64{29.99, 30.01, 25.02, 30.3, 13.7, 7.77} {
		f := feed{fps: fps, declared: 30, gop: 60, rate: 48000, seconds: 100}
		r := f.run(t)
		v := r.check.Tracks[schemas.Video]
		last := f.frames()
		var lastMs int64
		for _, fr := range last {
			if !fr.audio {
				lastMs = fr.DTSUs / 1000
			}
		}
		end := float64(r.cutter.video.end)/90 - 1000/fps
		if end < float64(lastMs)-5 || end > float64(lastMs)+5 {
			t.Errorf("%v fps: the last frame is decoded at %.1f ms, the publisher says %d", fps, end, lastMs)
		}
		if v.Samples < int(100*fps)-1 {
			t.Errorf("%v fps: %d frames", fps, v.Samples)
		}
	}
}

// An audio clock 300 ppm fast or slow stays within a few frames of the timestamps.
func TestAudioDrift(t *testing.T) {
	for _, ppm := range []float64{300, -300} {
		d := newDriver(t, nil, testAudio(t, 48000))
		var ms int64
		for i := range 20_000 {
			ms = int64(float64(i) * 1024 / 48 * (1 + ppm/1e6))
			d.add(feedFrame{audio: true, Frame: Frame{DTSUs: ms * 1000, Data: make([]byte, 10), ArrivedUs: epoch0 + ms*1000}})
		}
		d.cutter.Finish()
		if end := int64(d.cutter.audio.end) / 48; end < ms-20 || end > ms+60 {
			t.Errorf("%v ppm: media ends at %d ms, timestamps at %d", ppm, end, ms)
		}
		if a := d.check.Tracks[schemas.Audio]; a.Samples != 20_000 || d.jumps > 0 {
			t.Errorf("%v ppm: %+v", ppm, a)
		}
	}
}

func TestJumpsOpenEpochs(t *testing.T) {
	for name, by := range map[string]int64{"forward": 3_600_000, "back": -3_000} {
		d := newDriver(t, testVideo(t, 30), testAudio(t, 48000))
		for _, f := range (feed{fps: 30, gop: 30, rate: 48000, seconds: 20}).frames() {
			if f.ArrivedUs-epoch0 > 10_000_000 {
				f.DTSUs += by * 1000
			}
			d.add(f)
		}
		d.cutter.Finish()
		v, a := d.check.Tracks[schemas.Video], d.check.Tracks[schemas.Audio]
		if d.jumps != 1 || v.Discontinuities != 1 || a.Discontinuities != 1 {
			t.Errorf("%s: %d epochs were opened: %+v %+v", name, d.jumps, v, a)
		}
		if v.Samples < 570 || a.Samples < 880 { // at most a group of pictures is lost
			t.Errorf("%s: %d pictures, %d audio frames", name, v.Samples, a.Samples)
		}
	}
}

func TestSmallStepsAreRepaired(t *testing.T) {
	d := newDriver(t, testVideo(t, 30), testAudio(t, 48000))
	for i, f := range (feed{fps: 30, gop: 30, rate: 48000, seconds: 20}).frames() {
		switch {
		case i%97 == 50:
			f.DTSUs -= 200_000
		case i%101 == 40:
			continue // lost
		case i%103 == 40:
			f.DTSUs += 400_000
		}
		d.add(f)
	}
	d.cutter.Finish()
	if d.jumps != 0 {
		t.Errorf("%d epochs were opened", d.jumps)
	}
	if v := d.check.Tracks[schemas.Video]; v.Samples < 570 {
		t.Errorf("%+v", v)
	}
}

func TestWrap(t *testing.T) {
	var u Unwrap
	at := int64(1<<32 - 1000)
	for i := range int64(100) {
		if got := u.Next(false, uint64(at+i*33)); got != (at+i*33)*1000 {
			t.Fatalf("frame %d: %d, want %d", i, got, at+i*33)
		}
		if got := u.Next(true, uint64(at+i*33-500)); got != (at+i*33-500)*1000 {
			t.Fatalf("audio frame %d: %d, want %d", i, got, at+i*33-500)
		}
	}
}

// Audio whose timestamps have nothing to do with video's is heard all the same.
func TestForeignAudioClock(t *testing.T) {
	d := newDriver(t, testVideo(t, 30), testAudio(t, 48000))
	for _, f := range (feed{fps: 30, gop: 60, rate: 48000, seconds: 10}).frames() {
		if f.audio {
			f.DTSUs += 86_400_000_000
		}
		d.add(f)
	}
	d.cutter.Finish()
	if a := d.check.Tracks[schemas.Audio]; a == nil || a.Samples < 450 || d.jumps > 0 {
		t.Errorf("audio %+v, %d jumps", a, d.jumps)
	}
}

// A track that falls silent delays the other's parts by no more than the wait.
func TestSilentTrackHoldsNothingBack(t *testing.T) {
	var worst int64
	video, audio := testVideo(t, 30), testAudio(t, 48000)
	now := int64(0)
	s := Settings{App: "live", Stream: "test", Rendition: "src", Epoch: 1, Video: video, Audio: audio}
	s.Emit = func(c *schemas.Chunk, _ []byte) {
		for _, f := range c.Fragments {
			if f.Track == schemas.Video { // its last frame arrived an interval before its end
				end := epoch0 + int64(f.BaseTime+f.Duration)*1000/90 - 33_333
				worst = max(worst, now-end)
			}
		}
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range (feed{fps: 30, gop: 60, rate: 48000, seconds: 20}).frames() {
		if f.audio && f.DTSUs > 5_000_000 {
			continue
		}
		for d := c.Deadline(); d != 0 && d <= f.ArrivedUs; d = c.Deadline() {
			now = d
			c.Tick(d)
		}
		now = f.ArrivedUs
		if f.audio {
			err = c.Audio(f.Frame)
		} else {
			err = c.Video(f.Frame)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if worst > 101_000 {
		t.Errorf("a video part waited %d us", worst)
	}
}

func TestTooLarge(t *testing.T) {
	d := newDriver(t, testVideo(t, 30), nil)
	if err := d.cutter.Video(Frame{Key: true, Data: make([]byte, MaxFrameBytes+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	for i := range int64(6) { // frames that only just fit, and those of which two do not
		d.add(feedFrame{Frame: Frame{DTSUs: i * 33_000, Key: i == 0, Data: make([]byte, MaxFrameBytes>>(i%2)), ArrivedUs: epoch0 + i*33_000}})
	}
	d.cutter.Finish()
	if v := d.check.Tracks[schemas.Video]; v.Samples != 6 {
		t.Errorf("%+v", v)
	}
}

func FuzzCutter(f *testing.F) {
	f.Add([]byte{0, 1, 33, 0, 10, 0, 0, 33, 0, 10, 0, 2, 21, 0, 10, 0}, uint8(0))
	f.Add([]byte{5, 200, 3, 255, 0, 9, 0, 255, 255, 0, 4, 1, 1, 1, 1, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, mode uint8) {
		var v, a *Track
		if mode%3 != 1 {
			v = testVideo(t, []float64{0, 30, 24000. / 1001, 4, 60}[mode/3%5])
		}
		if mode%3 != 2 {
			a = testAudio(t, []int{48000, 44100}[mode/16%2])
		}
		d := newDriver(t, v, a)
		now := epoch0
		var vms, ams int64 = 1 << 33, 1 << 33
		for n := 0; len(data) >= 5 && n < 2000; n++ {
			op := data[:5]
			data = data[5:]
			step := int64(op[1])
			switch op[0] >> 4 {
			case 0:
				step = -step
			case 1:
				step *= 100
			case 2:
				step *= -20
			case 3:
				step *= 70_000
			case 4:
				step = 33
			case 5:
				step = 21
			}
			now += int64(op[3]) * 1000
			size := 1 + int(op[4])*7
			if op[4] == 255 {
				size = MaxFrameBytes
			}
			fr := Frame{CTSUs: int64(int8(op[2])) * 10_000, Key: op[0]&2 != 0, Data: make([]byte, size), ArrivedUs: now}
			if op[0]&1 == 0 && v != nil {
				vms += step
				fr.DTSUs = vms * 1000
				d.add(feedFrame{Frame: fr})
			} else if a != nil {
				ams += step
				fr.DTSUs = ams * 1000
				d.add(feedFrame{audio: true, Frame: fr})
			}
			if d.bytes > 100<<20 {
				break
			}
		}
		d.cutter.Finish()
	})
}

// Frames that an encoder drops at a constant rate leave no hole in the picture:
// the next frame shows early instead, and nothing drifts.
func TestDroppedFramesLeaveNoHole(t *testing.T) {
	for _, missing := range []int{1, 3, 7, 31, 100} {
		d := newDriver(t, testVideo(t, 30), testAudio(t, 48000))
		at := 0
		for _, f := range (feed{fps: 30, declared: 30, gop: 60, rate: 48000, seconds: 20}).frames() {
			if !f.audio {
				at++
				// Twice, one of them over the place of a key frame.
				if at > 100 && at <= 100+missing || at > 415 && at <= 415+missing {
					continue
				}
			}
			d.add(f)
		}
		d.cutter.Finish()
		v := d.check.Tracks[schemas.Video]
		if v.HolesUs > 10_000 || d.jumps != 0 || v.LongestSegUs > 4_120_000 || v.Samples != 600-2*missing {
			t.Errorf("%d frames missing: %+v", missing, v)
		}
		if end := int64(d.cutter.video.end) / 90; end < 19_990 || end > 20_010 {
			t.Errorf("%d frames missing: media ends at %d ms of 20000", missing, end)
		}
	}
}

// Key frames that come late, as large ones do, leave no segment without an end: their place is known.
func TestLateKeyFramesEndSegments(t *testing.T) {
	for _, regular := range []bool{true, false} {
		d := newDriver(t, testVideo(t, 30), nil)
		key, late := int64(0), int64(0)
		for i := range int64(1800) {
			f := feedFrame{Frame: Frame{DTSUs: i * 100_000 / 3 / 1000 * 1000, Data: make([]byte, 100)}}
			if i == key {
				f.Key = true
				key += 60
				if !regular {
					key += i % 7 * 6
				}
				late = 300_000 // and all that follow it
			} else if late > 0 {
				late -= 10_000
			}
			f.ArrivedUs = epoch0 + i*100_000/3 + late
			d.add(f)
		}
		d.cutter.Finish()
		v := d.check.Tracks[schemas.Video]
		// The first groups show their length; what cannot be foreseen may lack its end.
		if regular && (v.Ended < v.Segments-3 || v.Keys != v.Segments || v.Segments < 29) || !regular && v.Keys < v.Segments/2 {
			t.Errorf("regular %t: %+v", regular, v)
		}
	}
}
