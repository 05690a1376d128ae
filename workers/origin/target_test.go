package origin

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// TestANewEpochMayHaveLongerParts: a playlist never promises shorter parts than it
// lists, and a track that begins later promises what the epoch has said.
func TestANewEpochMayHaveLongerParts(t *testing.T) {
	key := schemas.StreamKey{App: "live", Stream: "demo"}
	video, audio := trackName{schemas.SourceRendition, schemas.Video}, trackName{schemas.SourceRendition, schemas.Audio}
	f := &feed{o: &Origin{}, key: key, targets: map[trackName]int64{}, tracks: map[trackName]*track{video: newTrack(video.rendition, video.kind, window{}, 200_000)}, added: make(chan struct{})}
	for _, x := range []struct{ us, video, audio int64 }{{400_000, 400_000, 400_000}, {100_000, 400_000, 100_000}, {maxTargetUs + 1, 400_000, schemas.DefaultPartTargetUs}} {
		open := schemas.EpochOpen{Epoch: 2, Tracks: []schemas.TrackInfo{{Track: schemas.Video, PartTargetUs: x.us}, {Track: schemas.Audio, PartTargetUs: x.us}}}
		data, err := json.Marshal(&open)
		if err != nil {
			t.Fatal(err)
		}
		f.mark(&message{subject: schemas.MediaSubject(key, schemas.SourceRendition), header: nats.Header{schemas.HeaderKind: {schemas.KindEpoch}}, data: data})
		if got := f.tracks[video].targetUs; got != x.video {
			t.Errorf("an epoch of %d us: the track that was there promises %d, want %d", x.us, got, x.video)
		}
		delete(f.tracks, audio)
		if got := f.track(audio).targetUs; got != x.audio {
			t.Errorf("an epoch of %d us: a new track promises %d, want %d", x.us, got, x.audio)
		}
	}
}
