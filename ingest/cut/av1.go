package cut

import (
	"bytes"
	"fmt"
)

// OBU types (AV1 6.2.2).
const (
	obuSequenceHeader    = 1
	obuTemporalDelimiter = 2
	obuFrameHeader       = 3
	obuTileGroup         = 4
	obuMetadata          = 5
	obuFrame             = 6
	obuPadding           = 15
)

// obu is one open bitstream unit.
type obu struct {
	typ     int
	head    int // bytes of its header and size field
	size    int // bytes of its payload
	hasSize bool
}

// readOBU reads the unit at the start of b (AV1 5.3).
func readOBU(b []byte) (obu, error) {
	if b[0]&0x80 != 0 {
		return obu{}, fmt.Errorf("%w: OBU with the forbidden bit set", ErrBitstream)
	}
	u := obu{typ: int(b[0] >> 3 & 0xf), head: 1, hasSize: b[0]&2 != 0}
	if b[0]&4 != 0 {
		u.head = 2
	}
	if len(b) < u.head {
		return obu{}, fmt.Errorf("%w: OBU header is cut short", ErrBitstream)
	}
	u.size = len(b) - u.head
	if !u.hasSize {
		return u, nil
	}
	size, n := readLEB128(b[u.head:])
	if n == 0 {
		return obu{}, fmt.Errorf("%w: OBU size field is malformed", ErrBitstream)
	}
	u.head += n
	if size > uint64(len(b)-u.head) {
		return obu{}, fmt.Errorf("%w: OBU of %d bytes where %d are left", ErrBitstream, size, len(b)-u.head)
	}
	u.size = int(size)
	return u, nil
}

// readLEB128 reads a size (AV1 4.10.5); n is 0 if it is malformed.
func readLEB128(b []byte) (v uint64, n int) {
	for n < 8 && n < len(b) {
		v |= uint64(b[n]&0x7f) << (7 * n)
		n++
		if b[n-1]&0x80 == 0 {
			return v, n
		}
	}
	return 0, 0
}

func appendLEB128(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// withSize gives a unit with a size field, as a sample and av1C want it.
func (u obu) withSize(b []byte) []byte {
	if u.hasSize {
		return b[:u.head+u.size]
	}
	out := append(make([]byte, 0, u.head+u.size+8), b[:u.head]...)
	out[0] |= 2
	out = appendLEB128(out, uint64(u.size))
	return append(out, b[u.head:u.head+u.size]...)
}

func parseAV1(tu []byte, marks *MarkReader) (AccessUnit, error) {
	var out AccessUnit
	w, begun := 0, false
	data := tu
	for r := 0; r < len(tu); {
		u, err := readOBU(tu[r:])
		if err != nil {
			return AccessUnit{}, err
		}
		unit := tu[r : r+u.head+u.size]
		payload := unit[u.head:]
		r += len(unit)
		switch u.typ {
		case obuTemporalDelimiter, obuPadding:
			continue
		case obuSequenceHeader:
			out.SequenceHeader = bytes.Clone(u.withSize(unit))
		case obuMetadata:
			marks.av1(payload, &out.Mark)
		case obuFrameHeader, obuFrame:
			// show_existing_frame 0, frame_type 0 (key), show_frame 1 (AV1 5.9.2).
			out.Key = out.Key || !begun && len(payload) > 0 && payload[0]&0xf0 == 0x10
			begun = true
			out.Picture = true
		case obuTileGroup:
			out.Picture = true
		}
		if !u.hasSize { // the last one
			sized := u.withSize(unit)
			data = append(append(make([]byte, 0, w+len(sized)), tu[:w]...), sized...)
			w += len(sized)
			break
		}
		if w != r-len(unit) {
			copy(tu[w:], unit)
		}
		w += len(unit)
	}
	out.Data = data[:w]
	return out, nil
}
