package push

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Media that comes before the stream's state is dropped and counted; the connection stays.
func TestMediaAheadOfTheStateIsDropped(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pusher{m: m, streams: mirror.New(schemas.BucketStreams, schemas.ParseStreamState, nil)}
	s := &sender{j: &job{p: p, key: schemas.StreamKey{App: "live", Stream: "demo"}}}
	for seq := range uint64(2) {
		c := &schemas.Chunk{Epoch: 2, Seq: seq, Fragments: []schemas.Fragment{{Track: schemas.Video, Samples: 5, Independent: true, SegmentStart: true}}}
		if err := s.chunk(t.Context(), c, nil, 0); err != nil {
			t.Fatalf("chunk %d ends the connection: %v", seq, err)
		}
	}
	if s.open || s.begun || s.j.state.DroppedFrames != 10 {
		t.Errorf("open %v, begun %v, %d frames dropped; want 10", s.open, s.begun, s.j.state.DroppedFrames)
	}
}

func TestStateKnowsAChunk(t *testing.T) {
	c := &schemas.Chunk{Epoch: 2, Fragments: []schemas.Fragment{{Track: schemas.Video}, {Track: schemas.Audio}}}
	video, audio := schemas.TrackInfo{Track: schemas.Video}, schemas.TrackInfo{Track: schemas.Audio}
	for what, x := range map[string]struct {
		e    schemas.EpochOpen
		want bool
	}{
		"all":           {schemas.EpochOpen{Epoch: 2, Tracks: []schemas.TrackInfo{video, audio}}, true},
		"epoch before":  {schemas.EpochOpen{Epoch: 1, Tracks: []schemas.TrackInfo{video, audio}}, false},
		"no track":      {schemas.EpochOpen{Epoch: 2}, false},
		"sound is late": {schemas.EpochOpen{Epoch: 2, Tracks: []schemas.TrackInfo{video}}, false},
	} {
		if got := knows(&x.e, c); got != x.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
