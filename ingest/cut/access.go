package cut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// AccessUnit says what one access unit (AV1: temporal unit) holds.
type AccessUnit struct {
	// Data is the sample as it goes into mdat: NAL units with four-byte lengths,
	// without parameter sets, delimiters and filler, or OBUs with size fields, without
	// temporal delimiters and padding. Empty if nothing is left.
	Data []byte
	// Key: decoding can start here (IDR; H.265 also CRA and BLA; AV1 a shown key frame).
	Key bool
	// Picture: it holds coded picture data at all.
	Picture bool
	// VPS, SPS, PPS, MorePPS and SequenceHeader are the configuration sent in
	// band, if any: see [VideoConfig]. They are copies.
	VPS, SPS, PPS  []byte
	MorePPS        [][]byte
	SequenceHeader []byte
	// Mark is the time of capture that the unit carries, if any: see [MarkReader].
	Mark Mark
}

// ErrBitstream is wrapped by errors about access units that cannot be taken.
var ErrBitstream = errors.New("access unit is malformed")

// maxPPS bounds the picture parameter sets of one access unit.
const maxPPS = 64

// ParseVideo reads an access unit. H.264 and H.265 come with lengthSize-byte NAL
// lengths (1 to 4; ISO/IEC 14496-15) or, with lengthSize 0, in Annex B form, which
// is also recognised where lengths are expected, because some encoders send it.
// AV1 comes as a temporal unit in the low-overhead format (AV1 5.2). With
// four-byte lengths, and for AV1, the result reuses data's memory and changes its
// content; nothing is allocated but copies of configurations. Errors wrap [ErrBitstream].
func ParseVideo(codec Codec, data []byte, lengthSize int) (AccessUnit, error) {
	return parseVideo(codec, data, lengthSize, nil)
}

func parseVideo(codec Codec, data []byte, lengthSize int, marks *MarkReader) (AccessUnit, error) {
	switch codec {
	case AV1:
		return parseAV1(data, marks)
	case H264, H265:
	default:
		return AccessUnit{}, fmt.Errorf("%w: %q is no video codec known here", ErrBitstream, codec)
	}
	switch {
	case lengthSize < 0 || lengthSize > 4:
		return AccessUnit{}, fmt.Errorf("%w: NAL lengths of %d bytes", ErrBitstream, lengthSize)
	case lengthSize == 0, isAnnexB(data) && !validLengths(data, lengthSize):
		conv, err := annexBToLengths(data)
		if err != nil {
			return AccessUnit{}, err
		}
		data = conv
	case lengthSize != 4:
		conv, err := widen(data, lengthSize)
		if err != nil {
			return AccessUnit{}, err
		}
		data = conv
	}
	return parseNALUnits(codec, data, marks)
}

func parseNALUnits(codec Codec, au []byte, marks *MarkReader) (AccessUnit, error) {
	var out AccessUnit
	w := 0
	for r := 0; r < len(au); {
		if len(au)-r < 4 {
			return AccessUnit{}, fmt.Errorf("%w: %d bytes left where a NAL length is expected", ErrBitstream, len(au)-r)
		}
		n := int(binary.BigEndian.Uint32(au[r:]))
		if n < 0 || n > len(au)-r-4 {
			return AccessUnit{}, fmt.Errorf("%w: NAL of %d bytes where %d are left", ErrBitstream, n, len(au)-r-4)
		}
		unit := au[r : r+4+n]
		r += 4 + n
		if n == 0 {
			continue
		}
		keep := false
		if codec == H264 {
			keep = out.avcUnit(unit[4:], marks)
		} else {
			keep = out.hevcUnit(unit[4:], marks)
		}
		if !keep {
			continue
		}
		if w != r-len(unit) {
			copy(au[w:], unit)
		}
		w += len(unit)
	}
	out.Data = au[:w]
	return out, nil
}

func (a *AccessUnit) addPPS(p []byte) {
	if bytes.Equal(p, a.PPS) {
		return
	}
	if a.PPS == nil {
		a.PPS = bytes.Clone(p)
		return
	}
	for _, q := range a.MorePPS {
		if bytes.Equal(p, q) {
			return
		}
	}
	if len(a.MorePPS) < maxPPS-1 {
		a.MorePPS = append(a.MorePPS, bytes.Clone(p))
	}
}

// H.264 NAL unit types (ITU-T H.264 table 7-1) that ingest looks at.
const (
	avcIDR    = 5
	avcSEI    = 6
	avcSPS    = 7
	avcPPS    = 8
	avcAUD    = 9
	avcFiller = 12
)

// avcUnit notes what an H.264 NAL unit is and tells whether an avc1 sample keeps it.
func (a *AccessUnit) avcUnit(u []byte, marks *MarkReader) bool {
	switch typ := u[0] & 0x1f; typ {
	case avcSPS:
		a.SPS = bytes.Clone(u)
		return false
	case avcPPS:
		a.addPPS(u)
		return false
	case avcAUD, avcFiller:
		return false
	case avcSEI:
		marks.avc(u[1:], &a.Mark)
	default:
		if typ >= 1 && typ <= avcIDR {
			a.Picture = true
			a.Key = a.Key || typ == avcIDR
		}
	}
	return true
}

// H.265 NAL unit types (ITU-T H.265 table 7-1).
const (
	hevcBLA    = 16 // BLA_W_LP, the first of those at which decoding can start
	hevcCRA    = 21 // CRA_NUT, the last
	hevcVCLEnd = 32
	hevcVPS    = 32
	hevcSPS    = 33
	hevcPPS    = 34
	hevcAUD    = 35
	hevcFiller = 38
	hevcSEI    = 39 // prefix
)

// hevcUnit notes what an H.265 NAL unit is and tells whether an hvc1 sample keeps it.
func (a *AccessUnit) hevcUnit(u []byte, marks *MarkReader) bool {
	if len(u) < 2 { // shorter than its header
		return false
	}
	switch typ := u[0] >> 1 & 0x3f; typ {
	case hevcVPS:
		a.VPS = bytes.Clone(u)
		return false
	case hevcSPS:
		a.SPS = bytes.Clone(u)
		return false
	case hevcPPS:
		a.addPPS(u)
		return false
	case hevcAUD, hevcFiller:
		return false
	case hevcSEI:
		marks.hevc(u[2:], &a.Mark)
	default:
		if typ < hevcVCLEnd {
			a.Picture = true
			a.Key = a.Key || typ >= hevcBLA && typ <= hevcCRA
		}
	}
	return true
}

func isAnnexB(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0, 0, 1}) || bytes.HasPrefix(b, []byte{0, 0, 0, 1})
}

func validLengths(b []byte, size int) bool {
	for len(b) > 0 {
		n, ok := readLength(b, size)
		if !ok || n > len(b)-size {
			return false
		}
		b = b[size+n:]
	}
	return true
}

func readLength(b []byte, size int) (int, bool) {
	if len(b) < size {
		return 0, false
	}
	n := 0
	for i := range size {
		n = n<<8 | int(b[i])
	}
	return n, true
}

// widen rewrites lengths of 1 to 3 bytes as four bytes.
func widen(b []byte, size int) ([]byte, error) {
	out := make([]byte, 0, len(b)+64)
	for len(b) > 0 {
		n, ok := readLength(b, size)
		if !ok || n > len(b)-size {
			return nil, fmt.Errorf("%w: a NAL length points past the end", ErrBitstream)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(n))
		out = append(out, b[size:size+n]...)
		b = b[size+n:]
	}
	return out, nil
}

// annexBToLengths replaces start codes by lengths.
func annexBToLengths(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b)+64)
	start := nextStart(b, 0)
	for start >= 0 {
		begin := start + 3
		start = nextStart(b, begin)
		end := len(b)
		if start >= 0 {
			end = start
		}
		// A four-byte start code's first zero, and trailing zeros, are not part of the NAL unit.
		for end > begin && b[end-1] == 0 {
			end--
		}
		if end == begin {
			continue
		}
		out = binary.BigEndian.AppendUint32(out, uint32(end-begin))
		out = append(out, b[begin:end]...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no NAL unit between start codes", ErrBitstream)
	}
	return out, nil
}

func nextStart(b []byte, from int) int {
	i := bytes.Index(b[from:], []byte{0, 0, 1})
	if i < 0 {
		return -1
	}
	return from + i
}
