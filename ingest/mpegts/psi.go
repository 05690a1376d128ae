package mpegts

import (
	"bytes"
	"encoding/binary"
)

const (
	maxSectionBytes = 1024
	maxStreams      = 64
	tablePAT        = 0
	tablePMT        = 2
)

// section collects a table's section over packets (2.4.4).
type section struct {
	open bool
	data []byte
	last []byte // that was taken
}

func (s *section) reset() { s.open, s.data = false, s.data[:0] }

// take adds a packet's payload, and gives the section when it is complete, intact
// and not the same as before. broken: a damaged one was thrown away.
func (s *section) take(p []byte, starts bool) (done []byte, broken bool) {
	if starts {
		if len(p) < 1 || int(p[0]) > len(p)-1 {
			s.reset()
			return nil, true
		}
		s.data, s.open = append(s.data[:0], p[1+int(p[0]):]...), true
	} else if s.open {
		s.data = append(s.data, p...)
	}
	if !s.open || len(s.data) < 3 {
		return nil, false
	}
	n := 3 + int(binary.BigEndian.Uint16(s.data[1:])&0x0fff)
	if n > maxSectionBytes || n < 12 {
		s.reset()
		return nil, true
	}
	if len(s.data) < n {
		return nil, false
	}
	whole := s.data[:n]
	s.open = false
	if crc32(whole) != 0 {
		return nil, true
	}
	if bytes.Equal(whole, s.last) || whole[5]&1 == 0 { // known, or not in force yet
		return nil, false
	}
	s.last = bytes.Clone(whole)
	return s.last, false
}

// takePAT finds the first program (2.4.4.4).
func (d *Demuxer) takePAT(p []byte, starts bool) error {
	b, broken := d.pat.take(p, starts)
	if broken {
		d.counters.Broken++
	}
	if b == nil || b[0] != tablePAT {
		return nil
	}
	for e := b[8 : len(b)-4]; len(e) >= 4; e = e[4:] {
		number, pid := binary.BigEndian.Uint16(e), int(binary.BigEndian.Uint16(e[2:])&0x1fff)
		if number == 0 || pid < 0x10 || pid == nullPID {
			continue
		}
		if pid != d.pmtPID || number != d.program {
			d.pmtPID, d.program, d.pmt = pid, number, section{}
		}
		return nil
	}
	return nil
}

// takePMT finds the program's streams (2.4.4.9).
func (d *Demuxer) takePMT(p []byte, starts bool) error {
	b, broken := d.pmt.take(p, starts)
	if broken {
		d.counters.Broken++
	}
	if b == nil || b[0] != tablePMT || binary.BigEndian.Uint16(b[3:]) != d.program || len(b) < 16 {
		return nil
	}
	b, ok := skip(b[10:len(b)-4], 0)
	if !ok {
		d.counters.Broken++
		return nil
	}
	var found []*Stream
	for len(b) >= 5 && len(found) < maxStreams {
		pid := binary.BigEndian.Uint16(b[1:]) & 0x1fff
		rest, ok := skip(b[3:], 0)
		if !ok {
			d.counters.Broken++
			return nil
		}
		found = append(found, newStream(pid, b[0], b[5:len(b)-len(rest)]))
		b = rest
	}
	return d.change(found)
}

// skip passes over a 12-bit length and as many bytes.
func skip(b []byte, at int) ([]byte, bool) {
	if len(b) < at+2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[at:]) & 0x0fff)
	if n > len(b)-at-2 {
		return nil, false
	}
	return b[at+2+n:], true
}

// change takes over a new list of streams; those that stay keep what they have collected.
func (d *Demuxer) change(found []*Stream) error {
	next := map[uint16]*assembler{}
	for i, s := range found {
		if int(s.PID) == d.pmtPID || s.PID == patPID || next[s.PID] != nil {
			continue
		}
		if old := d.streams[s.PID]; old != nil && *old.stream == *s {
			next[s.PID], found[i] = old, old.stream
			continue
		}
		next[s.PID] = &assembler{stream: s}
	}
	for pid, old := range d.streams { // the last unit of what goes
		if next[pid] != old && old.open && old.want() == 0 {
			if err := d.emit(old); err != nil {
				return err
			}
		}
	}
	d.streams = next
	if d.Program == nil {
		return nil
	}
	return d.Program(found)
}

// crc32 is the checksum of sections (annex A); 0 over an intact one.
func crc32(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v) << 24
		for range 8 {
			if c&0x8000_0000 != 0 {
				c = c<<1 ^ 0x04c1_1db7
			} else {
				c <<= 1
			}
		}
	}
	return c
}
