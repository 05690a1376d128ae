package cmaf_test

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func TestReadsPartsAndInits(t *testing.T) {
	clip := media.Load(t)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	next := map[schemas.Track]uint64{}
	for range 25 {
		c, payload := p.Chunk()
		for _, f := range c.Fragments {
			s, err := cmaf.Samples(nil, payload[f.Offset:f.Offset+f.Size])
			if err != nil {
				t.Fatal(err)
			}
			if len(s) != f.Samples || s[0].DTS != f.BaseTime || s[0].DTS != next[f.Track] || s[0].Sync != f.Independent {
				t.Errorf("%s %d.%d: %d samples from %d, sync %t: %+v", f.Track, f.MSN, f.Part, len(s), s[0].DTS, s[0].Sync, f)
			}
			last := s[len(s)-1]
			next[f.Track] = last.DTS + uint64(last.Duration)
		}
		if start, end, err := cmaf.Span(payload[:c.Fragments[0].Size]); err != nil || start != c.Fragments[0].BaseTime || end-start != c.Fragments[0].Duration {
			t.Errorf("span %d to %d: %v", start, end, err)
		}
	}
	v, err := cmaf.ParseInit(clip.Init(schemas.Video))
	if err != nil || !v.AVC() || v.Width != 320 || v.Height != 180 || len(v.Params) != 2 || v.Encrypted {
		t.Errorf("%+v: %v", v, err)
	}
	a, err := cmaf.ParseInit(clip.Init(schemas.Audio))
	if err != nil || !a.AAC() || a.Codec != "mp4a.40.2" || a.SampleRate != 48000 || len(a.ASC) == 0 {
		t.Errorf("%+v: %v", a, err)
	}
}

func FuzzSamples(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cmaf.Samples(nil, b)
		if err != nil {
			return
		}
		for i := range s {
			_ = s[i].PTS()
		}
		_, _, _ = cmaf.Span(b)
		_, _ = cmaf.ParseInit(b)
	})
}

func seeds(f *testing.F) [][]byte {
	clip := media.Load(f)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	c, payload := p.Chunk()
	return [][]byte{payload, payload[:c.Fragments[0].Size], clip.Init(schemas.Video), clip.Init(schemas.Audio)}
}
