package cut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// H.264 NAL unit types (ITU-T H.264 table 7-1) that ingest looks at.
const (
	nalIDR    = 5
	nalSPS    = 7
	nalPPS    = 8
	nalAUD    = 9
	nalFiller = 12
)

// AccessUnit says what an H.264 access unit holds.
type AccessUnit struct {
	// Data is the access unit with four-byte lengths, without parameter sets,
	// delimiters and filler, which an avc1 sample does not need. Empty if nothing is left.
	Data []byte
	// Key: it holds an IDR slice, so decoding can start here.
	Key bool
	// Picture: it holds a slice at all.
	Picture bool
	// SPS and PPS are the parameter sets sent in band, if any.
	SPS, PPS []byte
}

// ErrBitstream is wrapped by errors about H.264 data that cannot be taken.
var ErrBitstream = errors.New("H.264 access unit is malformed")

// ParseAVC reads an access unit with lengthSize-byte NAL lengths (1, 2 or 4; ISO/IEC
// 14496-15), or an Annex B one, which some encoders send instead. With four-byte
// lengths the result reuses au's memory and changes its content; nothing is allocated.
func ParseAVC(au []byte, lengthSize int) (AccessUnit, error) {
	if lengthSize < 1 || lengthSize > 4 {
		return AccessUnit{}, fmt.Errorf("%w: NAL lengths of %d bytes", ErrBitstream, lengthSize)
	}
	if isAnnexB(au) && !validAVCC(au, lengthSize) {
		conv, err := annexBToAVCC(au)
		if err != nil {
			return AccessUnit{}, err
		}
		au, lengthSize = conv, 4
	}
	if lengthSize != 4 {
		conv, err := widen(au, lengthSize)
		if err != nil {
			return AccessUnit{}, err
		}
		au = conv
	}
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
		switch typ := unit[4] & 0x1f; typ {
		case nalSPS:
			out.SPS = bytes.Clone(unit[4:])
			continue
		case nalPPS:
			out.PPS = bytes.Clone(unit[4:])
			continue
		case nalAUD, nalFiller:
			continue
		default:
			if typ >= 1 && typ <= nalIDR {
				out.Picture = true
				out.Key = out.Key || typ == nalIDR
			}
		}
		if w != r-len(unit) {
			copy(au[w:], unit)
		}
		w += len(unit)
	}
	out.Data = au[:w]
	return out, nil
}

func isAnnexB(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0, 0, 1}) || bytes.HasPrefix(b, []byte{0, 0, 0, 1})
}

func validAVCC(b []byte, size int) bool {
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

// annexBToAVCC replaces start codes by lengths.
func annexBToAVCC(b []byte) ([]byte, error) {
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
