package mpegts

import "encoding/binary"

const pesHeadBytes = 9

// assembler collects the PES packets of one stream (2.4.3.6).
type assembler struct {
	stream   *Stream
	counter  byte
	counting bool // counter is known
	twice    bool // the last packet has come twice
	open     bool // data is the beginning of a packet
	lost     bool // something is missing before data
	data     []byte
	size     int // of the last unit: a guess of the next one's
}

func (s *assembler) begin() {
	s.open, s.data = true, make([]byte, 0, s.size+s.size/4+2*packetBytes)
}

// lose drops the unit that is not complete; the next one tells.
func (s *assembler) lose() { s.open, s.lost, s.counting, s.data = false, true, false, nil }

// want is the length of the whole PES packet; 0: not known.
func (s *assembler) want() int {
	if len(s.data) < 6 {
		return 0
	}
	if n := int(binary.BigEndian.Uint16(s.data[4:])); n > 0 {
		return 6 + n
	}
	return 0
}

// unit reads the header of what was collected; false: it is malformed or cut short.
func (s *assembler) unit() (*Unit, bool) {
	b, want := s.data, s.want()
	s.open, s.data = false, nil
	if len(b) < pesHeadBytes || b[0] != 0 || b[1] != 0 || b[2] != 1 || b[6]>>6 != 2 || len(b) < want {
		s.lost = true
		return nil, false
	}
	n := pesHeadBytes + int(b[8])
	if len(b) < n {
		s.lost = true
		return nil, false
	}
	u := &Unit{Stream: s.stream, Lost: s.lost, Data: b[n:]}
	switch flags := b[7] >> 6; {
	case flags == 2 && n >= pesHeadBytes+5:
		u.PTS, u.HasTime = timestamp(b[9:]), true
		u.DTS = u.PTS
	case flags == 3 && n >= pesHeadBytes+10:
		u.PTS, u.DTS, u.HasTime = timestamp(b[9:]), timestamp(b[14:]), true
	}
	s.lost, s.size = false, len(b)
	return u, true
}

func timestamp(b []byte) uint64 {
	return uint64(b[0]>>1&7)<<30 | uint64(b[1])<<22 | uint64(b[2]>>1)<<15 | uint64(b[3])<<7 | uint64(b[4]>>1)
}
