package cut

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// TestTracksKeepStep: parts of sound end with those of the picture, so that a
// finished part hardly waits for the other track's, and none is too short or too long.
func TestTracksKeepStep(t *testing.T) {
	for _, c := range []struct {
		name string
		fps  float64
		rate int
		most int64 // wait of a finished part for the other track, microseconds
	}{
		{"30 frames/s, 48 kHz", 30, 48000, 35_000},
		{"25 frames/s, 44.1 kHz", 25, 44100, 45_000},
		{"29.97 frames/s, 48 kHz", 30000. / 1001, 48000, 35_000},
		{"60 frames/s, 32 kHz", 60, 32000, 50_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			audio, video := testAudio(t, c.rate), testVideo(t, c.fps)
			audio.BesideVideo(video.Info.PartTargetUs)
			if over := audio.Info.PartTargetUs - video.Info.PartTargetUs; over < 0 || over > 35_000 {
				t.Fatalf("part target %d us", audio.Info.PartTargetUs)
			}
			now, chunks, both := int64(0), 0, 0
			var short, long, waited int
			s := Settings{
				App: "live", Stream: "s", Rendition: "src", Epoch: 1, Video: video, Audio: audio,
				Emit: func(ch *schemas.Chunk, _ []byte) {
					if chunks++; chunks < 10 {
						return // the first parts find each other
					}
					seen := map[schemas.Track]bool{}
					for i := range ch.Fragments {
						f := &ch.Fragments[i]
						seen[f.Track] = true
						if now-f.DoneUnixUs > c.most {
							waited++
						}
						if f.Track != schemas.Audio {
							continue
						}
						if us := f.DurationUs(); us > audio.Info.PartTargetUs {
							long++
						} else if !f.SegmentEnd && float64(us) < 0.85*float64(audio.Info.PartTargetUs) {
							short++
						}
					}
					if len(seen) == 2 {
						both++
					}
				},
			}
			cutter, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			f := feed{fps: c.fps, gop: int(2*c.fps + 0.5), rate: c.rate, seconds: 60}
			for _, fr := range f.frames() {
				for d := cutter.Deadline(); d != 0 && d <= fr.ArrivedUs; d = cutter.Deadline() {
					now = d
					cutter.Tick(d)
				}
				now = fr.ArrivedUs
				if fr.audio {
					err = cutter.Audio(fr.Frame)
				} else {
					err = cutter.Video(fr.Frame)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if short > 0 || long > 0 {
				t.Errorf("%d parts of sound are too short, %d too long", short, long)
			}
			// Around the ends of segments one waits for the next picture, which may be a key frame.
			if waited > chunks/10 {
				t.Errorf("%d parts of %d chunks waited over %d us", waited, chunks, c.most)
			}
			if both < chunks*8/10 {
				t.Errorf("only %d of %d chunks hold both tracks", both, chunks)
			}
		})
	}
}
