package push

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

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

// Chunks that never came are counted as dropped, however the connection stood, once
// each; those of a stream that began anew are not.
func TestChunksThatNeverCameAreCounted(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pusher{m: m, streams: mirror.New(schemas.BucketStreams, schemas.ParseStreamState, nil)}
	j := &job{p: p, key: schemas.StreamKey{App: "live", Stream: "demo"}}
	chunk := func(epoch uint32, seq uint64) *schemas.Chunk {
		return &schemas.Chunk{Version: schemas.ChunkVersion, App: "live", Stream: "demo", Rendition: schemas.SourceRendition, Epoch: epoch, Seq: seq,
			Fragments: []schemas.Fragment{{Track: schemas.Video, Samples: 5, Independent: true, SegmentStart: true}}}
	}
	for i, x := range []struct {
		epoch uint32
		seq   uint64
		sent  bool  // to a connection; else it is left out before
		want  int64 // dropped in all; nothing flows before the stream's state is known
	}{
		{2, 7, false, 5}, // the first that is heard of
		{2, 8, false, 10},
		{2, 50, true, 220}, // 41 overflowed while a connection was made
		{2, 52, true, 230}, // the bus lost one
		{2, 52, true, 235}, // again
		{3, 9, false, 240}, // begun anew
		{3, 10, true, 245},
	} {
		c := chunk(x.epoch, x.seq)
		if x.sent {
			s := &sender{j: j}
			if err := s.chunk(t.Context(), c, nil, 0); err != nil {
				t.Fatal(err)
			}
		} else {
			head, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			j.skip(&nats.Msg{Header: nats.Header{schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(head)}}})
		}
		if got := j.state.DroppedFrames; got != x.want {
			t.Errorf("step %d: %d frames are dropped, want %d", i, got, x.want)
		}
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
