package cenc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// commonSystem is the W3C's common system id of pssh boxes, which ClearKey
// players read ("cenc" Initialization Data Format).
var commonSystem = [16]byte{0x10, 0x77, 0xef, 0xec, 0xc0, 0xb2, 0x4d, 0x02, 0xac, 0xe3, 0x3c, 0x1e, 0x52, 0xe2, 0xfb, 0x4b}

var errInit = errors.New("the init segment is not of one track, or damaged")

// entry describes where a sample entry is and how it is encrypted.
type entry struct {
	format string // avc1, mp4a, ...
	video  bool
}

func entryOf(format string) (entry, error) {
	switch format {
	case "avc1", "avc3", "hvc1", "hev1":
		return entry{format, true}, nil
	case "mp4a", "Opus":
		return entry{format, false}, nil
	case "av01":
		return entry{}, fmt.Errorf("%w: AV1 (H.264, H.265, AAC and Opus can be)", ErrUnsupported)
	case "encv", "enca":
		return entry{}, fmt.Errorf("%w: it is encrypted already", ErrUnsupported)
	}
	return entry{}, fmt.Errorf("%w: sample entry %.4q (H.264, H.265, AAC and Opus can be)", ErrUnsupported, format)
}

// sealInit gives the encrypted form of an init segment: the sample entry
// becomes encv or enca and says what it was (sinf), and moov has a pssh box that
// names the key.
func sealInit(init []byte, k *Key) ([]byte, entry, error) {
	// The sizes of all boxes around the sample entry grow with it.
	var around []int
	from, to := 0, len(init)
	for _, name := range []string{"moov", "trak", "mdia", "minf", "stbl", "stsd"} {
		at, size, err := child(init[:to], from, name)
		if err != nil {
			return nil, entry{}, err
		}
		around = append(around, at)
		from, to = at+8, at+size
	}
	from += 8 // version, flags, entry_count
	if to-from < 8 {
		return nil, entry{}, errInit
	}
	size := int(binary.BigEndian.Uint32(init[from:]))
	if size < 8 || from+size != to {
		return nil, entry{}, errInit
	}
	e, err := entryOf(string(init[from+4 : from+8]))
	if err != nil {
		return nil, e, err
	}
	sinf := appendSinf(nil, e, k)
	pssh := appendPSSH(nil, k.KID)
	moovEnd := around[0] + int(binary.BigEndian.Uint32(init[around[0]:]))
	out := make([]byte, 0, len(init)+len(sinf)+len(pssh))
	out = append(append(out, init[:to]...), sinf...)
	out = append(append(out, init[to:moovEnd]...), pssh...)
	out = append(out, init[moovEnd:]...)
	for _, at := range append(around, from) {
		grow(out[at:], len(sinf))
	}
	grow(out[around[0]:], len(pssh))
	copy(out[from+4:], "enca")
	if e.video {
		copy(out[from+4:], "encv")
	}
	return out, e, nil
}

func grow(b []byte, by int) {
	binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)+uint32(by))
}

// child finds the only box of a name among those from a place on.
func child(b []byte, from int, name string) (at, size int, err error) {
	at = -1
	for from < len(b) {
		if len(b)-from < 8 {
			return 0, 0, errInit
		}
		n := int(binary.BigEndian.Uint32(b[from:]))
		if n < 8 || n > len(b)-from {
			return 0, 0, errInit
		}
		if string(b[from+4:from+8]) == name {
			if at >= 0 {
				return 0, 0, fmt.Errorf("%w: it has two boxes %s", errInit, name)
			}
			at, size = from, n
		}
		from += n
	}
	if at < 0 {
		return 0, 0, fmt.Errorf("%w: it has no box %s", errInit, name)
	}
	return at, size, nil
}

// box appends a box whose body f writes.
func box(b []byte, name string, f func([]byte) []byte) []byte {
	at := len(b)
	b = append(append(b, 0, 0, 0, 0), name...)
	b = f(b)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// appendSinf writes ProtectionSchemeInfoBox (ISO/IEC 14496-12, 8.12) with tenc
// version 1 (ISO/IEC 23001-7, 8.2).
func appendSinf(b []byte, e entry, k *Key) []byte {
	return box(b, "sinf", func(b []byte) []byte {
		b = box(b, "frma", func(b []byte) []byte { return append(b, e.format...) })
		b = box(b, "schm", func(b []byte) []byte {
			return append(append(append(b, 0, 0, 0, 0), Scheme...), 0, 1, 0, 0)
		})
		return box(b, "schi", func(b []byte) []byte {
			return box(b, "tenc", func(b []byte) []byte {
				pattern := byte(0)
				if e.video {
					pattern = cryptBlocks<<4 | skipBlocks
				}
				b = append(b, 1, 0, 0, 0, 0, pattern, 1, 0) // protected, no IV with each sample
				b = append(b, k.KID[:]...)
				return append(append(b, 16), k.IV[:]...)
			})
		})
	})
}

// appendPSSH writes a pssh box of the common system, version 1, with one key id.
func appendPSSH(b []byte, kid KID) []byte {
	return box(b, "pssh", func(b []byte) []byte {
		b = append(append(b, 1, 0, 0, 0), commonSystem[:]...)
		b = append(append(b, 0, 0, 0, 1), kid[:]...)
		return append(b, 0, 0, 0, 0)
	})
}
