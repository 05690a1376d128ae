package cut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// Encoders with several picture parameter sets repeat all of them, or some: neither is a change.
func TestSeveralPPS(t *testing.T) {
	pps2 := []byte{0x68, 0x5b, 0x83, 0xf2}
	c := VideoConfig{Codec: H264, SPS: testSPS, PPS: testPPS, MorePPS: [][]byte{pps2}}
	tr, err := NewVideoTrack(&c, 200_000)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(tr.Init, slices.Concat([]byte{2, 0, 4}, testPPS, []byte{0, 4}, pps2)) {
		t.Error("the init segment does not hold both")
	}
	au := func(units ...[]byte) []byte {
		var b []byte
		for _, u := range append(units, []byte{0x65, 1}) {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...)
		}
		return b
	}
	for name, tc := range map[string]struct {
		units  [][]byte
		change bool
	}{
		"all":             {[][]byte{testSPS, testPPS, pps2}, false},
		"all, repeated":   {[][]byte{testPPS, pps2, testPPS, pps2}, false},
		"the first":       {[][]byte{testPPS}, false},
		"the second":      {[][]byte{pps2}, false},
		"none":            {nil, false},
		"another":         {[][]byte{testPPS, {0x68, 1, 2, 3}}, true},
		"other SPS":       {[][]byte{append(bytes.Clone(testSPS), 1)}, true},
		"one that is new": {[][]byte{{0x68, 1, 2, 3}}, true},
	} {
		a, err := ParseVideo(H264, au(tc.units...), 4)
		if err != nil {
			t.Fatal(err)
		}
		n := c.Clone()
		if got := n.Update(&a); got != tc.change || n.Equal(&c) == tc.change {
			t.Errorf("%s: changed %t", name, got)
		}
	}
}

// HE-AAC is named by its extension and keeps the core's rate.
func TestHEAAC(t *testing.T) {
	a := &mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, ExtensionType: mpeg4audio.ObjectTypeSBR,
		SampleRate: 24000, ExtensionSampleRate: 48000, ChannelConfig: 2, ChannelCount: 2}
	tr, err := NewAudioTrack(&AudioConfig{Codec: AAC, AAC: a}, 200_000)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Info.Codec != "mp4a.40.5" || tr.Info.Timescale != 24000 || tr.Info.PartTargetUs != 170_667 {
		t.Errorf("%+v", tr.Info)
	}
}

func FuzzParseVideo(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0x65, 1, 0, 0, 0, 1, 0x67}, 4, uint8(0))
	f.Add([]byte{0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3}, 4, uint8(0))
	f.Add([]byte{0, 2, 0x41, 1}, 2, uint8(0))
	f.Add([]byte{0, 0, 0, 1, 0x40, 1, 1, 0, 0, 1, 0x42, 1, 2, 0, 0, 1, 0x44, 1, 3, 0, 0, 1, 0x26, 1, 9}, 0, uint8(1))
	f.Add([]byte{0x12, 0, 0x0a, 2, 1, 2, 0x32, 3, 0x10, 1, 2}, 0, uint8(2))
	f.Add([]byte{0x0a, 2, 1, 2, 0x30, 0x10, 1, 2}, 0, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, size int, which uint8) {
		codec := []Codec{H264, H265, AV1}[which%3]
		a, err := ParseVideo(codec, data, size)
		if err != nil {
			if !errors.Is(err, ErrBitstream) {
				t.Errorf("error %v does not tell its kind", err)
			}
			return
		}
		if codec != AV1 && !validLengths(a.Data, 4) {
			t.Errorf("% x is not a row of NAL units", a.Data)
		}
		if a.Key && !a.Picture {
			t.Error("a key frame without a picture")
		}
		if codec == AV1 {
			for b := a.Data; len(b) > 0; {
				u, err := readOBU(b)
				if err != nil || !u.hasSize {
					t.Fatalf("% x is not a row of OBUs with sizes: %v", a.Data, err)
				}
				b = b[u.head+u.size:]
			}
		}
		c := VideoConfig{Codec: codec}
		c.Update(&a)
		if _, err := NewVideoTrack(&c, 200_000); err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("error %v does not tell its kind", err)
		}
		if !c.Equal(&c) || c.Update(&a) {
			t.Error("the same configuration differs from itself")
		}
	})
}
