package mpegts

import "bytes"

const (
	packetBytes = 188
	syncByte    = 0x47
	patPID      = 0
	nullPID     = 0x1fff
)

// MaxUnitBytes bounds a unit; a longer one is passed over.
const MaxUnitBytes = 8 << 20

// Unit is the content of one PES packet: usually one video access unit, or some
// audio frames.
type Unit struct {
	Stream *Stream
	// PTS and DTS count 1/90000 s in 33 bits; DTS is PTS where only that is there.
	PTS, DTS uint64
	// HasTime: there are timestamps.
	HasTime bool
	// Lost: something of this stream is missing before this unit.
	Lost bool
	// Data is the receiver's to keep.
	Data []byte
}

// Counters tell what a demuxer had to do.
type Counters struct {
	Packets uint64 // taken
	Skipped uint64 // bytes outside of packets, after loss of synchronisation
	Broken  uint64 // packets, sections and units that were malformed or marked as damaged
	Lost    uint64 // gaps in continuity counters
}

// Demuxer takes a transport stream apart. Not safe for concurrent use.
type Demuxer struct {
	// Program is called with the program's streams when they become known or change.
	Program func([]*Stream) error
	// Unit is called with each unit, in order of completion.
	Unit func(*Unit) error

	counters Counters
	rest     []byte // less than a packet
	pat, pmt section
	pmtPID   int // 0: not known
	program  uint16
	streams  map[uint16]*assembler
}

// Counters of what has come so far.
func (d *Demuxer) Counters() Counters { return d.counters }

// Write takes the next bytes. Its errors are those of Program and Unit only.
func (d *Demuxer) Write(p []byte) error {
	if len(d.rest) > 0 {
		p = append(d.rest, p...)
	}
	for len(p) >= packetBytes {
		if p[0] != syncByte || len(p) > packetBytes && p[packetBytes] != syncByte {
			n := resync(p)
			d.counters.Skipped += uint64(n)
			p = p[n:]
			if len(p) < packetBytes {
				break
			}
		}
		if err := d.packet(p[:packetBytes]); err != nil {
			return err
		}
		p = p[packetBytes:]
	}
	d.rest = append(d.rest[:0], p...)
	return nil
}

// resync gives how many bytes to skip so that two packets in a row begin with the
// sync byte, as far as can be seen. Where the next packet's is damaged, but those
// behind are in place, nothing is skipped.
func resync(p []byte) int {
	for n := 0; n < len(p); {
		i := bytes.IndexByte(p[n:], syncByte)
		if i < 0 {
			return len(p)
		}
		n += i
		if n+packetBytes >= len(p) || p[n+packetBytes] == syncByte || n+2*packetBytes < len(p) && p[n+2*packetBytes] == syncByte {
			return n
		}
		n++
	}
	return len(p)
}

// Lose says that bytes are missing before the next ones, more than continuity
// counters are sure to tell.
func (d *Demuxer) Lose() {
	d.rest = d.rest[:0]
	d.counters.Lost++
	d.pat.reset()
	d.pmt.reset()
	for _, s := range d.streams {
		s.lose()
	}
}

// Flush gives what is complete but for the beginning of the next unit. Call it at the end.
func (d *Demuxer) Flush() error {
	for _, s := range d.streams {
		if err := d.emit(s); err != nil {
			return err
		}
	}
	return nil
}

// packet takes one transport packet (2.4.3.2).
func (d *Demuxer) packet(p []byte) error {
	d.counters.Packets++
	pid := int(p[1]&0x1f)<<8 | int(p[2])
	damaged, starts := p[1]&0x80 != 0, p[1]&0x40 != 0
	scrambled, hasField, hasPayload := p[3]&0xc0 != 0, p[3]&0x20 != 0, p[3]&0x10 != 0
	if pid == nullPID {
		return nil
	}
	if damaged || scrambled {
		d.counters.Broken++
		if s := d.streams[uint16(pid)]; s != nil {
			s.lose()
		}
		return nil
	}
	payload, jumps := p[4:], false
	if hasField {
		n := int(payload[0])
		if n > len(payload)-1 {
			d.counters.Broken++
			return nil // the counter tells of the loss
		}
		jumps = n > 0 && payload[1]&0x80 != 0
		payload = payload[1+n:]
	}
	if !hasPayload {
		return nil
	}
	switch {
	case pid == patPID:
		return d.takePAT(payload, starts)
	case pid == d.pmtPID:
		return d.takePMT(payload, starts)
	}
	s := d.streams[uint16(pid)]
	if s == nil {
		return nil
	}
	return d.payload(s, payload, p[3]&0x0f, starts, jumps)
}

// payload adds to a stream's unit (2.4.3.3: a packet may come twice).
func (d *Demuxer) payload(s *assembler, payload []byte, counter byte, starts, jumps bool) error {
	if s.counting && !jumps {
		switch {
		case counter == s.counter && !s.twice:
			s.twice = true
			return nil
		case counter != (s.counter+1)&0x0f:
			d.counters.Lost++
			s.lose()
		}
	}
	s.counter, s.counting, s.twice = counter, true, false
	if starts {
		if err := d.emit(s); err != nil {
			return err
		}
		s.begin()
	}
	if !s.open {
		return nil
	}
	if len(s.data)+len(payload) > MaxUnitBytes {
		d.counters.Broken++
		s.lose()
		return nil
	}
	s.data = append(s.data, payload...)
	if want := s.want(); want > 0 && len(s.data) >= want {
		s.data = s.data[:want]
		return d.emit(s)
	}
	return nil
}

// emit hands over what a stream has collected.
func (d *Demuxer) emit(s *assembler) error {
	if !s.open {
		return nil
	}
	u, ok := s.unit()
	if !ok {
		d.counters.Broken++
		return nil
	}
	if d.Unit == nil {
		return nil
	}
	return d.Unit(u)
}
