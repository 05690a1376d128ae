package srt

import (
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/mpegts"
	"github.com/spillway-live/spillway/ingest/publish"
)

// video makes frames of units.
type video struct {
	stream *mpegts.Stream
	marks  cut.MarkReader
	cfg    cut.VideoConfig
	// told is the configuration that the publication knows.
	told cut.VideoConfig
	// keyNeeded: what comes before the next key frame cannot be decoded.
	keyNeeded bool
	malformed int      // in a row
	mark      cut.Mark // of the last frame
}

func newVideo(s *mpegts.Stream) *video {
	return &video{stream: s, keyNeeded: true, cfg: cut.VideoConfig{Codec: s.Codec}}
}

func (f *feed) takeVideo(u *mpegts.Unit) error {
	v := f.video
	fr, ok, err := v.frame(u, &f.clock)
	if err != nil {
		f.m.skipped.Inc()
		v.keyNeeded = true
		if v.malformed++; v.malformed > maxMalformed {
			return publish.Refuse("bitstream", fmt.Sprintf("%d video frames in a row are malformed: %v", v.malformed, err))
		}
		return nil
	}
	v.malformed = 0
	if !ok {
		f.m.skipped.Inc()
		return nil
	}
	if !v.told.Equal(&v.cfg) {
		if err := f.pub.Video(&v.cfg); err != nil {
			return err
		}
		v.told = v.cfg.Clone()
	}
	if len(fr.Data) == 0 {
		return nil
	}
	f.units++
	fr.ArrivedUs = f.arrived.UnixMicro()
	v.mark.Apply(fr)
	return f.pub.WriteVideo(*fr)
}

// frame reads a unit. ok: it can be decoded by who has decoded those before; a
// frame without data says that there was no picture in it.
func (v *video) frame(u *mpegts.Unit, clock *cut.Unwrap) (fr *cut.Frame, ok bool, err error) {
	if u.Lost {
		v.keyNeeded = true
	}
	if !u.HasTime {
		return nil, false, errors.New("video without a timestamp")
	}
	cts := int64((u.PTS-u.DTS)<<31) >> 31 // of 33 bits
	if cts < 0 || cts > maxReorder {
		return nil, false, fmt.Errorf("presented %d/90000 s after it is decoded", cts)
	}
	au, err := v.marks.ParseVideo(v.cfg.Codec, u.Data, 0)
	if err != nil {
		return nil, false, err
	}
	if (au.Key || !v.cfg.Complete()) && v.cfg.Update(&au) {
		v.marks.Configure(&v.cfg)
	}
	if !au.Picture {
		return &cut.Frame{}, v.cfg.Complete(), nil
	}
	if v.keyNeeded && (!au.Key || !v.cfg.Complete()) {
		return nil, false, nil
	}
	v.keyNeeded, v.mark = false, au.Mark
	return &cut.Frame{DTSUs: clock.Next(false, u.DTS), CTSUs: us(cts, 90000), Key: au.Key, Data: au.Data}, true, nil
}

// maxReorder is the longest plausible time from decoding to presentation, 1/90000 s.
const maxReorder = 10 * 90000
