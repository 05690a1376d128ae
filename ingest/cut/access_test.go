package cut

import (
	"errors"
	"testing"
)

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
