package hotlist

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// TestVideoThatStops: ingest says each second how many frames came. A stream is
// off the list within 3 s of its last one, wherever in the second that was.
func TestVideoThatStops(t *testing.T) {
	video := []schemas.TrackInfo{{Track: schemas.Audio}, {Track: schemas.Video, FPS: 30}}
	for name, c := range map[string]struct {
		tracks   []schemas.TrackInfo
		settings *schemas.PictureSettings
		want     bool
	}{
		"video":                          {video, nil, true},
		"video of unknown rate":          {[]schemas.TrackInfo{{Track: schemas.Video}}, nil, true},
		"no video":                       {video[:1], nil, false},
		"one picture a second":           {[]schemas.TrackInfo{{Track: schemas.Video, FPS: 1}}, nil, false},
		"frozen streams are to be shown": {video, &schemas.PictureSettings{FrozenMs: -1}, false},
	} {
		for _, part := range []time.Duration{0, 300 * time.Millisecond, 999 * time.Millisecond} {
			var f frames
			var h *schemas.HotState
			s := stream(start)
			s.Epoch.Tracks = c.tracks
			stops := start.Add(10*time.Second + part)
			left := time.Time{}
			for now := start; now.Before(start.Add(30 * time.Second)); now = now.Add(every) {
				if sec := now.Truncate(time.Second); sec.Equal(now) {
					s.UpdatedUnixUs, s.Stats = now.UnixMicro(), schemas.PublisherStats{}
					if now.After(start.Add(2 * time.Second)) { // at first there is nothing yet
						s.Stats.Chunks = 5
						s.Stats.FPS = max(0, min(1, stops.Sub(sec.Add(-time.Second)).Seconds())) * 30
					}
				}
				f.begin()
				in := Inputs{Stream: s, Settings: c.settings, NoVideoMs: f.noneMs(s)}
				if n := Judge(h, in, now); n != nil {
					h = n
				}
				if h != nil && h.Off && left.IsZero() {
					left = now
					if !slices.Equal(h.Reasons, []string{schemas.HotFrozen}) {
						t.Errorf("%s: %v", name, h.Reasons)
					}
				}
			}
			switch d := left.Sub(stops); {
			case !c.want && !left.IsZero():
				t.Errorf("%s: left", name)
			case c.want && (left.IsZero() || d < 0 || d > 3*time.Second):
				t.Errorf("%s: left at %v, %v after the last frame", name, left, d)
			}
		}
	}
}

// A publication that has just begun, and one that begins anew, have not stopped.
func TestVideoThatHasNotBegun(t *testing.T) {
	var f frames
	s := stream(start)
	s.Epoch.Tracks = []schemas.TrackInfo{{Track: schemas.Video, FPS: 30}}
	none := func(after time.Duration, epoch uint32, fps float64, chunks uint64) int64 {
		s.UpdatedUnixUs, s.Epoch.Epoch = start.Add(after).UnixMicro(), epoch
		s.Stats = schemas.PublisherStats{FPS: fps, Chunks: chunks}
		f.begin()
		return f.noneMs(s)
	}
	for i, got := range []int64{
		none(0, 3, 0, 0), none(time.Second, 3, 0, 0), none(2*time.Second, 3, 30, 9), none(4*time.Second, 3, 0, 9), none(9*time.Second, 4, 0, 9),
	} {
		if want := []int64{0, 0, 0, 2000, 0}[i]; got != want {
			t.Errorf("state %d: %d ms, want %d", i, got, want)
		}
	}
	f.begin()
	f.begin()
	if len(f.last)+len(f.before) > 0 {
		t.Error("a stream that is gone is remembered")
	}
}
