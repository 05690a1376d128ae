package cut_test

import (
	"bytes"
	"testing"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/cut/cuttest"
)

// TestDecodeTimes takes the decode times away, finds them again, and cuts the result.
func TestDecodeTimes(t *testing.T) {
	for name, args := range map[string][]string{
		"H.264 without B-frames": append(append([]string(nil), cuttest.H264...), "-bf", "0"),
		"H.264 with B-frames":    cuttest.H264,
		"H.264 with a pyramid":   append(append([]string(nil), cuttest.H264...), "-preset", "medium", "-bf", "4", "-x264-params", "b-pyramid=normal:scenecut=0"),
		"H.265 with B-frames":    cuttest.H265,
		"AV1":                    cuttest.AV1,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clip := cuttest.Encode(t, 3, args, nil)
			d := cut.NewDecodeTimes(clip.VideoConfig.Codec)
			last := int64(-1 << 62)
			for i := range clip.Video {
				s := &clip.Video[i]
				a, err := cut.ParseVideo(clip.VideoConfig.Codec, bytes.Clone(s.Data), 4)
				if err != nil {
					t.Fatal(err)
				}
				pts := s.DTSUs + s.CTSUs
				dts, err := d.Next(clip.VideoConfig, &a, pts)
				if err != nil {
					t.Fatal(err)
				}
				if dts <= last || dts > pts {
					t.Fatalf("frame %d is decoded at %d after %d, and presented at %d", i, dts, last, pts)
				}
				s.DTSUs, s.CTSUs, last = dts, pts-dts, dts
			}
			if d.Guessed > 0 {
				t.Errorf("%d were guessed", d.Guessed)
			}
			if first := clip.Video[0].DTSUs; first < 0 {
				for i := range clip.Video {
					clip.Video[i].DTSUs -= first
				}
			}
			media, check, _ := cutClip(t, clip, 11)
			if got := decode(t, media["video"]); got != len(clip.Video) {
				t.Errorf("%d frames of %d are decoded", got, len(clip.Video))
			}
			if v := check.Tracks["video"]; v.HolesUs > 80_000 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// FuzzDecodeTimes: whatever pictures and times come, decode times grow or the clock was set.
func FuzzDecodeTimes(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0x65, 0x88, 0x84, 0}, int64(0), uint8(12))
	f.Add([]byte{0, 0, 0, 4, 0x26, 0x01, 0xac, 0}, int64(33_000), uint8(13))
	f.Add([]byte{0, 0, 0, 5, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0, 0, 0, 3, 0x65, 0x88, 0x84}, int64(-5), uint8(12))
	f.Fuzz(func(t *testing.T, data []byte, step int64, which uint8) {
		codec := []cut.Codec{cut.H264, cut.H265, cut.AV1}[which%3]
		d := cut.NewDecodeTimes(codec)
		c := cut.VideoConfig{Codec: codec}
		last, begun := int64(0), false
		step %= 1 << 40
		for i := range int64(8) {
			a, err := cut.ParseVideo(codec, bytes.Clone(data), int(which/3)%5)
			if err != nil {
				return
			}
			c.Update(&a)
			pts := i * step
			dts, err := d.Next(&c, &a, pts)
			if err != nil {
				return
			}
			if begun && dts <= last && dts != pts {
				t.Errorf("decoded at %d after %d", dts, last)
			}
			last, begun = dts, true
		}
	})
}
