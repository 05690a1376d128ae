package publishprobe

import "encoding/binary"

// SRT's handshake packet (draft-sharabayko-srt-01, section 3.2.1): 16 bytes of
// header and 48 of handshake.
const (
	srtPacket      = 64
	srtControl     = 0x8000 // control packet, type 0: handshake
	srtTypeAt      = 36
	srtSocketAt    = 40
	srtCookieAt    = 44
	srtInductionIs = 1
)

// srtInduction is a caller's first packet.
func srtInduction(id uint32) []byte {
	b := make([]byte, srtPacket)
	binary.BigEndian.PutUint16(b, srtControl)
	h := b[16:]
	binary.BigEndian.PutUint32(h, 4)     // version
	binary.BigEndian.PutUint16(h[6:], 2) // extension field: a stream in datagrams
	binary.BigEndian.PutUint32(h[8:], id)
	binary.BigEndian.PutUint32(h[12:], 1500) // MTU
	binary.BigEndian.PutUint32(h[16:], 8192) // flow window, packets
	binary.BigEndian.PutUint32(b[srtTypeAt:], srtInductionIs)
	binary.BigEndian.PutUint32(b[srtSocketAt:], id)
	return b
}

// isSRTAnswer says whether a packet is a listener's answer to the caller id: an
// induction of version 5 with a cookie.
func isSRTAnswer(b []byte, id uint32) bool {
	return len(b) >= srtPacket && binary.BigEndian.Uint16(b) == srtControl && binary.BigEndian.Uint32(b[12:]) == id &&
		binary.BigEndian.Uint32(b[16:]) == 5 && binary.BigEndian.Uint32(b[srtTypeAt:]) == srtInductionIs && binary.BigEndian.Uint32(b[srtCookieAt:]) != 0
}

const stunCookie = 0x2112A442

// stunRequest is a binding request without attributes (RFC 8489, section 5).
func stunRequest(id uint32) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 0x0001)
	binary.BigEndian.PutUint32(b[4:], stunCookie)
	copy(b[8:], "spillway") // of the transaction id; the rest tells attempts apart
	binary.BigEndian.PutUint32(b[16:], id)
	return b
}

// isSTUNAnswer says whether a packet is the success response to the request id.
func isSTUNAnswer(b []byte, id uint32) bool {
	return len(b) >= 20 && binary.BigEndian.Uint16(b) == 0x0101 && binary.BigEndian.Uint32(b[4:]) == stunCookie &&
		string(b[8:16]) == "spillway" && binary.BigEndian.Uint32(b[16:]) == id
}
