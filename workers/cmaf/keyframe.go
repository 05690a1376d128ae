package cmaf

import (
	"encoding/binary"
	"fmt"
)

// KeyFrame gives a fragment of its own with nothing but the first sample of a
// segment, shown for as long as the segment lasts: what players show while they
// wind. A byte range of the segment would not do, because its first fragment
// announces samples that are not in the range. It is a pure function of the segment.
func KeyFrame(segment []byte) ([]byte, error) {
	samples, err := Samples(nil, segment)
	if err != nil {
		return nil, err
	}
	if len(samples) == 0 || !samples[0].Sync {
		return nil, fmt.Errorf("%w: it begins with no key frame", ErrDamaged)
	}
	s, last := &samples[0], &samples[len(samples)-1]
	length := last.DTS + uint64(last.Duration) - s.DTS
	if length > 1<<31 {
		return nil, fmt.Errorf("%w: it lasts %d units", ErrDamaged, length)
	}
	// moof { mfhd, traf { tfhd, tfdt, trun } }, mdat (ISO/IEC 14496-12, 8.8)
	const mfhd, tfhd, tfdt, trun = 16, 16, 20, 12 + 4 + 4 + 16
	const traf = 8 + tfhd + tfdt + trun
	const moof = 8 + mfhd + traf
	b := make([]byte, 0, moof+8+len(s.Data))
	u32 := func(v ...uint32) {
		for _, v := range v {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	box := func(size int, name string) {
		u32(uint32(size))
		b = append(b, name...)
	}
	box(moof, "moof")
	box(mfhd, "mfhd")
	u32(0, 1)
	box(traf, "traf")
	box(tfhd, "tfhd")
	u32(0x020000, 1) // default-base-is-moof; track
	box(tfdt, "tfdt")
	u32(1<<24, uint32(s.DTS>>32), uint32(s.DTS))
	box(trun, "trun")
	u32(1<<24|0xf01, 1, moof+8, uint32(length), uint32(len(s.Data)), 0x02000000, uint32(s.PTSOffset))
	box(8+len(s.Data), "mdat")
	return append(b, s.Data...), nil
}
