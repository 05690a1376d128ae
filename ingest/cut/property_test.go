package cut

import (
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/schemas"
)

// media is how far a track's media has come on the publisher's clock, microseconds:
// the decode time of the latest frame, whether it still waits for the next or not.
func (c *Cutter) mediaUs(audio bool) int64 {
	t := c.video
	if audio {
		t = c.audio
	}
	if !audio && c.holding {
		return t.us(c.heldAt) + c.origin
	}
	last := t.lastSampleDur()
	if last == 0 {
		if audio {
			last = c.count.frame
		} else {
			last = c.lastPlaced()
		}
	}
	return t.us(t.end) - t.us(last) + c.origin - c.shiftUs*b2i(audio)
}

func (c *Cutter) lastPlaced() uint64 {
	if c.pace.locked {
		return c.pace.interval
	}
	return c.lastDur
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestHourOfSkew: both tracks' frames come 100 ppm faster or slower than their
// declared rate, so that line and count would be 360 ms off after an hour. Media
// time stays within a frame of the timestamps, and the wall-clock with arrival.
func TestHourOfSkew(t *testing.T) {
	for _, tc := range []struct {
		name              string
		fps               float64
		video, audio, net float64 // frame intervals' and timestamps' skew
		grain             int64
		opus              bool
	}{
		{"fast pictures, slow sound", 30, 1e-4, -1e-4, 0, 1000, false},
		{"slow pictures, fast sound", 25, -1e-4, 1e-4, 0, 1000, false},
		{"29.97, Opus, 90 kHz", 30000. / 1001, 1e-4, 1e-4, 0, 11, true},
		{"the whole publisher", 30, 0, 0, 1e-4, 1000, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			audio, frame, packet := testAudio(t, 48000), 1024., []byte{1}
			if tc.opus {
				var err error
				if audio, err = NewAudioTrack(&AudioConfig{Codec: Opus, OpusChannels: 2}, 200_000); err != nil {
					t.Fatal(err)
				}
				frame, packet = 960, []byte{0xfc, 1}
			}
			s := Settings{App: "live", Stream: "test", Rendition: "src", Epoch: 1, GrainUs: tc.grain, Video: testVideo(t, tc.fps), Audio: audio}
			audio.BesideVideo(s.Video.Info.PartTargetUs)
			end := map[schemas.Track]uint64{}
			s.Emit = func(c *schemas.Chunk, _ []byte) {
				for _, f := range c.Fragments {
					if f.BaseTime < end[f.Track] {
						t.Fatalf("%s part begins at %d, before %d", f.Track, f.BaseTime, end[f.Track])
					}
					end[f.Track] = f.BaseTime + f.Duration
				}
			}
			buf := make([]byte, 0, 1<<20)
			s.Buffer = func(int) []byte { return buf }
			c, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			const hour = 3600e6
			vStep, aStep := 1e6/tc.fps*(1+tc.video), frame/48000*1e6*(1+tc.audio)
			worst := [2]int64{}
			for v, a := 0., 0.; v < hour; {
				isAudio := a < v
				at := v
				if isAudio {
					at, a = a, a+aStep
				} else {
					v += vStep
				}
				// The publisher's timestamps run on its clock, arrival on ours.
				f := Frame{DTSUs: int64(at*(1+tc.net)) / tc.grain * tc.grain, Key: true, Data: packet, ArrivedUs: epoch0 + int64(at)}
				if isAudio {
					err = c.Audio(f)
				} else {
					f.Key = int(at/vStep+0.5)%60 == 0
					err = c.Video(f)
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.Started() && at > 1e6 {
					d := c.mediaUs(isAudio) - f.DTSUs
					worst[b2i(isAudio)] = max(worst[b2i(isAudio)], d, -d)
					wall, bound := c.Wall(f.DTSUs)
					if e := wall - f.ArrivedUs; e > bound+2000 || e < -bound-2000 {
						t.Fatalf("at %.0f s the wall-clock is %d us off, bound %d", at/1e6, e, bound)
					}
				}
			}
			if worst[0] > int64(vStep) || worst[1] > int64(aStep) {
				t.Errorf("media is up to %d us (pictures) and %d us (sound) off the timestamps", worst[0], worst[1])
			}
			t.Logf("pictures at most %d us off, sound %d us", worst[0], worst[1])
		})
	}
}

// TestRandomTimestamps gives streams of random faults to cutters.
func TestRandomTimestamps(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 99))
		fps := []float64{30, 25, 60, 24000. / 1001, 12.5, 0}[rng.IntN(6)]
		audioRate := []int{48000, 44100}[rng.IntN(2)]
		d := newDriver(t, testVideo(t, fps), testAudio(t, audioRate))
		if fps == 0 {
			fps = 20 // and its intervals vary
		}
		var unwrap Unwrap
		shift := int64(1)<<32 - int64(rng.IntN(30_000)) // wraps on the way
		frames := (feed{fps: fps, gop: 1 + rng.IntN(int(fps*5)), rate: audioRate, seconds: 40, jitter: func() int64 { return rng.Int64N(50_000) }}).frames()
		size, jumped := 1000, false
		for i := 0; i < len(frames); i++ {
			f := frames[i]
			switch p := rng.IntN(1000); {
			case p < 20: // lost
				continue
			case p < 22: // a burst is lost
				i += rng.IntN(60)
				continue
			case p < 40 && i+1 < len(frames): // swapped
				frames[i+1].DTSUs, f.DTSUs = f.DTSUs, frames[i+1].DTSUs
			case p < 42: // one wrong timestamp
				f.DTSUs += rng.Int64N(800_000) - 400_000
			case p == 42: // the clock is set
				shift += rng.Int64N(200_000) - 100_000
				jumped = true
			case p < 46:
				size = 1 + rng.IntN(20_000)
			case p < 60:
				f.CTSUs = rng.Int64N(200_000) - 50_000
			}
			f.Data = make([]byte, size)
			ts := f.DTSUs/1000 + shift
			f.DTSUs = unwrap.Next(f.audio, uint64(uint32(ts)))
			d.add(f)
			if last := ts*1000 - f.DTSUs; last%(1<<32*1000) != 0 {
				t.Fatalf("seed %d: timestamp %d is unwrapped to %d", seed, ts*1000, f.DTSUs)
			}
		}
		// After the last faults the media is where the timestamps are.
		at := frames[len(frames)-1].ArrivedUs + 1_000_000
		base := frames[len(frames)-1].DTSUs/1000 + shift
		for i := range int64(200) {
			us := unwrap.Next(false, uint64(uint32(base+1000+int64(float64(i)*1000/fps))))
			f := feedFrame{Frame: Frame{DTSUs: us, Key: i%20 == 0, Data: make([]byte, 100), ArrivedUs: at + int64(float64(i)*1e6/fps)}}
			d.add(f)
			if off := d.cutter.mediaUs(false) - us; i > 150 && d.cutter.Started() && (off > int64(1e6/fps) || off < -int64(1e6/fps)) {
				t.Errorf("seed %d (%v fps, jumped %t): media is %d us off the timestamps", seed, fps, jumped, off)
				break
			}
		}
		d.cutter.Finish()
		checkStats(t, seed, &d.check)
	}
}

func checkStats(t *testing.T, seed uint64, c *cutcheck.Checker) {
	t.Helper()
	for track, st := range c.Tracks {
		if st.LongestSegUs-st.HolesUs > 4_500_000 || // a hole counts with the segment behind it
			st.Samples < 300 {
			t.Errorf("seed %d: %s %+v", seed, track, st)
		}
	}
}
