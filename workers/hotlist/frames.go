package hotlist

import "github.com/spillway-live/spillway/schemas"

// frames remembers when each stream's video last came, as ingest says each
// second. A frame that does not come is in no picture. The zero value is usable.
type frames struct {
	last, before map[schemas.StreamKey]lastFrame
}

type lastFrame struct {
	epoch uint32
	us    int64 // of the last state that had frames, or of the first one
}

// leastFPS: streams with fewer frames a second have seconds without one.
const leastFPS = 2

// begin starts a round; streams that are not asked for in it are forgotten after it.
func (f *frames) begin() {
	f.last, f.before = make(map[schemas.StreamKey]lastFrame, len(f.last)), f.last
}

// noneMs gives for how long no video has come of a stream that is live and has a
// video track, milliseconds; it goes by the clock of ingest.
func (f *frames) noneMs(s *schemas.StreamState) int64 {
	if !hasVideo(s) {
		return 0
	}
	k := s.Key()
	was, known := f.before[k]
	if !known || was.epoch != s.Epoch.Epoch || s.Stats.FPS > 0 || s.Stats.Chunks == 0 {
		was = lastFrame{s.Epoch.Epoch, s.UpdatedUnixUs}
	}
	f.last[k] = was
	return max(0, s.UpdatedUnixUs-was.us) / 1000
}

func hasVideo(s *schemas.StreamState) bool {
	for i := range s.Epoch.Tracks {
		if t := &s.Epoch.Tracks[i]; t.Track == schemas.Video {
			return t.FPS == 0 || t.FPS >= leastFPS
		}
	}
	return false
}
