package cmaf

import "encoding/binary"

// ReferenceKind says what the producer reference time (prft, ISO/IEC 14496-12,
// 8.16.5) in front of a fragment is the time of. The zero value: there is none.
type ReferenceKind string

// Kinds of producer reference times; their values are those of DASH's
// ProducerReferenceTime@type.
const (
	ReferenceEncoder  ReferenceKind = "encoder"
	ReferenceCaptured ReferenceKind = "captured"
)

// capturedFlags is what a prft has whose time is that of capture.
const capturedFlags = 24

// Reference gives the prft box that a fragment begins with, as a slice of it, and
// its kind; nil where it begins with another box.
func Reference(fragment []byte) ([]byte, ReferenceKind) {
	if len(fragment) < 28 || string(fragment[4:8]) != "prft" {
		return nil, ""
	}
	n := uint64(binary.BigEndian.Uint32(fragment))
	if n < 28 || n > 32 || n > uint64(len(fragment)) || fragment[8] > 0 && n != 32 {
		return nil, ""
	}
	kind := ReferenceEncoder
	if binary.BigEndian.Uint32(fragment[8:])&0xffffff == capturedFlags {
		kind = ReferenceCaptured
	}
	return fragment[:n:n], kind
}
