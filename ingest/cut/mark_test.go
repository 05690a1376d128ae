package cut

import (
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// FuzzMarks gives arbitrary SEI messages and metadata OBUs to the reader of time marks.
func FuzzMarks(f *testing.F) {
	for i, codec := range []Codec{H264, H265, AV1} {
		f.Add(testSPS, ClockMessage(codec, epoch0, Capture{Synchronised: true, BoundUs: 5, DelayUs: 7}), uint8(i))
	}
	f.Add(testSPS, append([]byte{6, 5, 28}, append(append([]byte(nil), misbAVC...), make([]byte, 12)...)...), uint8(0))
	f.Add(testSPS, append([]byte{6, 5, 42}, append(append([]byte(nil), obsTimes...), "\x00\x01\x012026-11-21T12:00:00Z\x00"...)...), uint8(0))
	f.Add(testSPS, []byte{6, 1, 8, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x80}, uint8(0))
	f.Add([]byte(nil), []byte{78, 1, 136, 8, 0x60, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x80}, uint8(1))
	f.Fuzz(func(t *testing.T, sps, unit []byte, which uint8) {
		codec := []Codec{H264, H265, AV1}[which%3]
		var r MarkReader
		r.Configure(&VideoConfig{Codec: codec, SPS: sps, SequenceHeader: sps, FPS: float64(which)})
		var m Mark
		switch {
		case codec == H264 && len(unit) > 1:
			r.avc(unit[1:], &m)
		case codec == H265 && len(unit) > 2:
			r.hevc(unit[2:], &m)
		case codec == AV1:
			r.av1(unit, &m)
		}
		c := newWallClock(1000)
		for i := range int64(20) {
			fr := Frame{ArrivedUs: epoch0 + i*40_000}
			m.Apply(&fr)
			if m.TimeOfDay && (fr.CaptureUs-fr.ArrivedUs > dayUs || fr.ArrivedUs-fr.CaptureUs > dayUs) {
				t.Errorf("time of day %d is taken for %d at %d", m.UnixUs, fr.CaptureUs, fr.ArrivedUs)
			}
			c.observe(&fr, i*40_000)
			if b := c.bound(); b < 0 {
				t.Errorf("bound of %d us", b)
			}
		}
	})
}

// FuzzAudio gives arbitrary packets and configurations to the audio side.
func FuzzAudio(f *testing.F) {
	f.Add([]byte{0xfc, 1, 2}, []byte{0x11, 0x90})
	f.Add([]byte{0x03, 0x3f}, []byte{0x2b, 0x92, 0x08, 0x00})
	f.Add([]byte{0x03}, []byte{0xff})
	f.Fuzz(func(t *testing.T, packet, asc []byte) {
		if n := OpusDuration(packet); n < 0 || n > opusMaxUnits || n > 0 && n%120 != 0 {
			t.Errorf("packet of %d samples", n)
		}
		var a mpeg4audio.AudioSpecificConfig
		if a.Unmarshal(asc) != nil {
			return
		}
		tr, err := NewAudioTrack(&AudioConfig{Codec: AAC, AAC: &a}, 200_000)
		if err == nil && (tr.Info.PartTargetUs <= 0 || tr.Info.Timescale == 0) {
			t.Errorf("%+v", tr.Info)
		}
	})
}
