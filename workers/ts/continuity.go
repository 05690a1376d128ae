package ts

import (
	"errors"
)

const (
	packetSize = 188
	counters   = 16 // values of a continuity counter
)

// continuous numbers a segment's packets so that those of any other segment can
// follow: each PID's count of packets with payload is brought to a multiple of
// sixteen, and counting begins at 0. Missing packets of a stream are won by
// splitting packets in two with stuffing (2.4.3.5), missing tables by repeating
// them; that is at most 15 packets a PID.
func continuous(b []byte) ([]byte, error) {
	if len(b)%packetSize != 0 {
		return nil, errors.New("MPEG-TS is no whole number of packets")
	}
	count := map[uint16]int{}
	for at := 0; at < len(b); at += packetSize {
		if hasPayload(b[at:]) {
			count[pid(b[at:])]++
		}
	}
	missing := map[uint16]int{}
	extra := 0
	for p, n := range count {
		missing[p] = (counters - n%counters) % counters
		extra += missing[p]
	}
	out := make([]byte, 0, len(b)+extra*packetSize)
	next := map[uint16]byte{}
	add := func(p []byte) {
		at := len(out)
		out = append(out, p...)
		id := pid(p)
		// Without payload a packet repeats the last counter.
		n := next[id]
		if hasPayload(p) {
			next[id] = (n + 1) % counters
		} else {
			n = (n + counters - 1) % counters
		}
		out[at+3] = out[at+3]&0xf0 | n
	}
	for at := 0; at < len(b); at += packetSize {
		p := b[at : at+packetSize]
		id := pid(p)
		switch {
		case missing[id] > 0 && isTable(id):
			add(p)
			for ; missing[id] > 0; missing[id]-- {
				add(p)
			}
		case missing[id] > 0 && splittable(p):
			missing[id]--
			first, second := split(p)
			add(first)
			add(second)
		default:
			add(p)
		}
	}
	for _, n := range missing {
		if n > 0 {
			return pad(out, missing, next)
		}
	}
	return out, nil
}

// pad is for segments with too few packets to split: the rest of a PID's
// counters is spent on packets of a padding stream, which decoders pass over.
func pad(out []byte, missing map[uint16]int, next map[uint16]byte) ([]byte, error) {
	for id := uint16(0); id < 0x1fff; id++ {
		for ; missing[id] > 0; missing[id]-- {
			p := [packetSize]byte{0x47, 0x40 | byte(id>>8), byte(id), 0x10 | next[id], 0, 0, 1, 0xbe, 0, packetSize - 10}
			for i := 10; i < packetSize; i++ {
				p[i] = 0xff
			}
			next[id] = (next[id] + 1) % counters
			out = append(out, p[:]...)
		}
	}
	return out, nil
}

func pid(p []byte) uint16      { return uint16(p[1]&0x1f)<<8 | uint16(p[2]) }
func hasPayload(p []byte) bool { return p[3]&0x10 != 0 }

// firstPID is the first one that the writer gives to a stream; below are tables.
const firstPID = 256

func isTable(id uint16) bool { return id < firstPID || id == pmtPID }

const pmtPID = 0x1000

// splittable: nothing but payload, of which none begins a PES packet.
func splittable(p []byte) bool { return p[1]&0x40 == 0 && p[3]&0x30 == 0x10 }

func split(p []byte) (first, second []byte) {
	const half = (packetSize - 4) / 2
	return stuffed(p[:4], p[4:4+half]), stuffed(p[:4], p[4+half:])
}

func stuffed(head, payload []byte) []byte {
	p := make([]byte, packetSize)
	copy(p, head)
	p[3] |= 0x20
	n := packetSize - 4 - len(payload) // adaptation field, its length byte included
	p[4] = byte(n - 1)
	p[5] = 0
	for i := 6; i < 4+n; i++ {
		p[i] = 0xff
	}
	copy(p[4+n:], payload)
	return p
}
