package cenc

// bitReader reads a NAL unit's payload and steps over emulation prevention
// bytes (ITU-T H.264, 7.4.1; H.265, 7.4.2). bad stays set once it read past the end.
type bitReader struct {
	b     []byte
	pos   int // of the next byte
	zeros int
	cur   byte
	left  uint
	bad   bool
}

func (r *bitReader) bit() uint32 {
	if r.left == 0 && !r.load() {
		return 0
	}
	r.left--
	return uint32(r.cur>>r.left) & 1
}

func (r *bitReader) load() bool {
	if r.pos < len(r.b) && r.zeros >= 2 && r.b[r.pos] == 3 {
		r.pos, r.zeros = r.pos+1, 0
	}
	if r.pos >= len(r.b) {
		r.bad = true
		return false
	}
	r.cur, r.left = r.b[r.pos], 8
	r.pos++
	r.zeros++
	if r.cur != 0 {
		r.zeros = 0
	}
	return true
}

func (r *bitReader) flag() bool { return r.bit() == 1 }

// u reads n bits, 32 at most.
func (r *bitReader) u(n int) uint32 {
	var v uint32
	for range n {
		v = v<<1 | r.bit()
	}
	return v
}

// ue reads an unsigned Exp-Golomb code; se has the same length.
func (r *bitReader) ue() uint32 {
	n := 0
	for !r.bad && r.bit() == 0 {
		n++
	}
	if n > 31 {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return 1<<n - 1 + r.u(n)
}

// ueMax reads a code that cannot be above limit.
func (r *bitReader) ueMax(limit uint32) uint32 {
	v := r.ue()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *bitReader) skip(codes int) {
	for range codes {
		r.ue()
	}
}
