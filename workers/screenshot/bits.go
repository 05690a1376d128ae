package screenshot

// bits copies a bit string with changes. Once it read over the end, bad is set
// and it reads zeroes.
type bits struct {
	in  []byte
	at  int // bit
	bad bool

	out  []byte
	used int // bits of out
}

// read gives the next n bits, at most 32.
func (b *bits) read(n int) (v uint32) {
	if b.at+n > 8*len(b.in) {
		b.bad = true
		return 0
	}
	for range n {
		v = v<<1 | uint32(b.in[b.at/8]>>(7-b.at%8)&1)
		b.at++
	}
	return v
}

// put writes the low n bits of v.
func (b *bits) put(v uint32, n int) {
	for n--; n >= 0; n-- {
		if b.used%8 == 0 {
			b.out = append(b.out, 0)
		}
		b.out[b.used/8] |= byte(v>>n&1) << (7 - b.used%8)
		b.used++
	}
}

func (b *bits) copy(n int) uint32 {
	v := b.read(n)
	b.put(v, n)
	return v
}

// readUE reads an Exp-Golomb code (ISO/IEC 14496-10, 9.1).
func (b *bits) readUE() uint32 {
	zeros := 0
	for b.read(1) == 0 {
		if zeros++; zeros > 31 || b.bad {
			b.bad = true
			return 0
		}
	}
	return 1<<zeros - 1 + b.read(zeros)
}

func (b *bits) putUE(v uint32) {
	n := 0
	for x := v + 1; x > 1; x >>= 1 {
		n++
	}
	b.put(0, n)
	b.put(v+1, n+1)
}

func (b *bits) copyUE() uint32 {
	v := b.readUE()
	b.putUE(v)
	return v
}

// end closes what was written with the trailing bits of an RBSP (7.3.2.11).
func (b *bits) end() []byte {
	b.put(1, 1)
	return b.out
}

// rest copies what is left up to the last bit that is 1, which ends an RBSP.
func (b *bits) rest() {
	last := 8*len(b.in) - 1
	for last >= b.at && b.in[last/8]>>(7-last%8)&1 == 0 {
		last--
	}
	for b.at <= last {
		b.copy(1)
	}
}

// unescaped removes emulation prevention bytes (7.4.1).
func unescaped(b []byte) []byte {
	out := make([]byte, 0, len(b))
	zeros := 0
	for _, x := range b {
		if zeros >= 2 && x == 3 {
			zeros = 0
			continue
		}
		if x == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, x)
	}
	return out
}

// escaped puts emulation prevention bytes in.
func escaped(b []byte) []byte {
	out := make([]byte, 0, len(b)+4)
	zeros := 0
	for _, x := range b {
		if zeros >= 2 && x <= 3 {
			out = append(out, 3)
			zeros = 0
		}
		if x == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, x)
	}
	return out
}
