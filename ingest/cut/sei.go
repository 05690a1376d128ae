package cut

import (
	"bytes"
	"encoding/binary"
	"time"
)

// SEI payload types (ITU-T H.264 table D-1, H.265 D.2.1).
const (
	seiPicTiming    = 1 // H.264
	seiUnregistered = 5
	seiTimeCode     = 136 // H.265
)

// seiBytes is how much of a message is looked at; all that are read are shorter.
const seiBytes = 256

// seiReader walks the messages of a SEI NAL unit, without emulation prevention bytes.
type seiReader struct {
	b     []byte
	zeros int
	buf   [seiBytes]byte
}

func (s *seiReader) next() (byte, bool) {
	if len(s.b) > 0 && s.zeros >= 2 && s.b[0] == 3 {
		s.zeros, s.b = 0, s.b[1:]
	}
	if len(s.b) == 0 {
		return 0, false
	}
	v := s.b[0]
	s.b = s.b[1:]
	if v == 0 {
		s.zeros++
	} else {
		s.zeros = 0
	}
	return v, true
}

func (s *seiReader) number() (int, bool) {
	n := 0
	for {
		v, ok := s.next()
		if !ok || n > 1<<24 {
			return 0, false
		}
		n += int(v)
		if v != 0xff {
			return n, true
		}
	}
}

// message gives the next message's type and at most seiBytes of its payload.
func (s *seiReader) message() (typ int, payload []byte, ok bool) {
	if len(s.b) < 3 { // only trailing bits are left
		return 0, nil, false
	}
	typ, ok1 := s.number()
	size, ok2 := s.number()
	if !ok1 || !ok2 {
		return 0, nil, false
	}
	for i := range size {
		v, ok := s.next()
		if !ok {
			return 0, nil, false
		}
		if i < len(s.buf) {
			s.buf[i] = v
		}
	}
	return typ, s.buf[:min(size, len(s.buf))], true
}

// avc reads the messages of a H.264 SEI NAL unit behind its header.
func (r *MarkReader) avc(b []byte, m *Mark) {
	s := seiReader{b: b}
	for {
		typ, p, ok := s.message()
		switch {
		case !ok:
			return
		case typ == seiUnregistered:
			m.better(unregistered(p))
		case typ == seiPicTiming && r != nil:
			m.better(r.picTiming(p))
		}
	}
}

// hevc reads the messages of a H.265 SEI NAL unit behind its header.
func (r *MarkReader) hevc(b []byte, m *Mark) {
	s := seiReader{b: b}
	for {
		typ, p, ok := s.message()
		switch {
		case !ok:
			return
		case typ == seiUnregistered:
			m.better(unregistered(p))
		case typ == seiTimeCode && r != nil:
			m.better(r.timeCode(p))
		}
	}
}

// av1 reads a metadata OBU (AV1 5.8).
func (r *MarkReader) av1(p []byte, m *Mark) {
	typ, n := readLEB128(p)
	switch {
	case n == 0:
	case typ == av1Private:
		m.better(unregistered(p[n:]))
	case typ == av1Timecode && r != nil:
		b := bitReader{b: p[n:]}
		m.better(r.clockTimestamp(&b, 9, 1))
	}
}

// UUIDs of messages that others write.
var (
	misbAVC  = []byte("MISPmicrosectime")                                                                             // MISB ST 0604, H.264
	misbHEVC = []byte{0xa8, 0x68, 0x7d, 0xd4, 0xd7, 0x59, 0x37, 0x58, 0xa5, 0xce, 0xf0, 0x33, 0x8b, 0x65, 0x45, 0xf1} // ... H.265, microseconds
	misbNano = []byte{0xcf, 0x84, 0x82, 0x78, 0xee, 0x23, 0x30, 0x6c, 0x92, 0x65, 0xe8, 0xfe, 0xf2, 0x2f, 0xb8, 0xb8} // ... nanoseconds
	obsTimes = []byte{0x0a, 0xec, 0xff, 0xe7, 0x52, 0x72, 0x4e, 0x2f, 0xa6, 0x2f, 0xd1, 0x9c, 0xd6, 0x1a, 0x93, 0xb5} // OBS broadcast performance metrics: times
)

// unregistered reads user data by its UUID; what is not a clock (x264's settings) gives no mark.
func unregistered(p []byte) Mark {
	if len(p) < 16 {
		return Mark{}
	}
	body := p[16:]
	switch {
	case bytes.Equal(p[:16], ClockUUID[:]):
		return ourClock(body)
	case bytes.Equal(p[:16], misbAVC), bytes.Equal(p[:16], misbHEVC):
		return misbClock(body, 1)
	case bytes.Equal(p[:16], misbNano):
		return misbClock(body, 1000)
	case bytes.Equal(p[:16], obsTimes):
		return obsClock(body)
	}
	return Mark{}
}

func ourClock(b []byte) Mark {
	if len(b) < clockBodyBytes || b[0] != clockVersion {
		return Mark{}
	}
	m := Mark{UnixUs: int64(binary.BigEndian.Uint64(b[2:])), rank: rankOurs}
	m.Capture.Synchronised = b[1]&clockSynced != 0
	m.Capture.BoundUs = int64(binary.BigEndian.Uint32(b[10:]))
	if b[1]&clockDelay != 0 {
		m.Capture.DelayUs = int64(binary.BigEndian.Uint32(b[14:]))
	}
	return m
}

// misbClock reads a precision time stamp: a status byte, then 64 bits with 0xff after every 16.
func misbClock(b []byte, perUs int64) Mark {
	if len(b) < 12 {
		return Mark{}
	}
	v := uint64(0)
	for _, i := range [...]int{1, 2, 4, 5, 7, 8, 10, 11} {
		v = v<<8 | uint64(b[i])
	}
	return Mark{UnixUs: int64(v) / perUs, rank: rankForeign}
}

// obsClock reads OBS's times of composition and of sending.
func obsClock(b []byte) Mark {
	if len(b) < 1 {
		return Mark{}
	}
	const (
		text, millis, delta = 1, 2, 3
		composed, sent      = 1, 4
	)
	var at [5]int64
	last := int64(0)
	n := int(b[0]&0xf) + 1
	b = b[1:]
	for ; n > 0 && len(b) > 2; n-- {
		typ, tag := b[0], b[1]
		b = b[2:]
		switch typ {
		case text:
			end := bytes.IndexByte(b, 0)
			if end < 0 || end > 40 {
				return Mark{}
			}
			t, err := time.Parse(time.RFC3339Nano, string(b[:end]))
			if err != nil {
				return Mark{}
			}
			last, b = t.UnixMicro(), b[end+1:]
		case millis, delta:
			if len(b) < 8 {
				return Mark{}
			}
			v := int64(binary.BigEndian.Uint64(b))
			b = b[8:]
			if v < 0 || typ == millis && v > captureMaxUs/1000 {
				return Mark{}
			}
			if typ == millis {
				last = v * 1000
			} else {
				last += v / 1000
			}
		default:
			return Mark{}
		}
		if int(tag) < len(at) {
			at[tag] = last
		}
	}
	if at[composed] == 0 {
		return Mark{}
	}
	m := Mark{UnixUs: at[composed], rank: rankForeign}
	m.Capture.BoundUs = 1000
	if at[sent] > at[composed] {
		m.Capture.DelayUs = at[sent] - at[composed]
	}
	return m
}

// bitReader reads bits of a short payload; behind its end there are zeros, and over is set.
type bitReader struct {
	b    []byte
	at   int
	over bool
}

func (r *bitReader) read(n int) (v uint64) {
	for range n {
		v <<= 1
		if r.at>>3 < len(r.b) {
			v |= uint64(r.b[r.at>>3]>>(7-r.at&7)) & 1
		} else {
			r.over = true
		}
		r.at++
	}
	return v
}

func (r *bitReader) flag() bool { return r.read(1) == 1 }

// picTiming reads the first time code of a H.264 pic_timing message (D.1.3).
func (r *MarkReader) picTiming(p []byte) Mark {
	if !r.picStruct {
		return Mark{}
	}
	b := bitReader{b: p}
	if r.hasDelays {
		b.read(r.removal)
		b.read(r.output)
	}
	if b.read(4) > 8 || !b.flag() { // pic_struct, clock_timestamp_flag
		return Mark{}
	}
	b.read(2) // ct_type
	perFrame := 1 + b.read(1)
	return r.timestampFields(&b, 8, perFrame, r.offsetBits)
}

// timeCode reads the first time code of a H.265 time_code message (D.2.27).
func (r *MarkReader) timeCode(p []byte) Mark {
	b := bitReader{b: p}
	if b.read(2) == 0 || !b.flag() {
		return Mark{}
	}
	return r.clockTimestamp(&b, 9, 1+b.read(1))
}

// clockTimestamp reads fields whose time offset says its own width.
func (r *MarkReader) clockTimestamp(b *bitReader, frameBits int, perFrame uint64) Mark {
	return r.timestampFields(b, frameBits, perFrame, -1)
}

func (r *MarkReader) timestampFields(b *bitReader, frameBits int, perFrame uint64, offsetBits int) Mark {
	b.read(5) // counting_type
	full := b.flag()
	b.read(2) // discontinuity, cnt_dropped
	frames := b.read(frameBits)
	if full {
		r.seconds, r.minutes, r.hours = b.read(6), b.read(6), b.read(5)
	} else if b.flag() {
		r.seconds = b.read(6)
		if b.flag() {
			r.minutes = b.read(6)
			if b.flag() {
				r.hours = b.read(5)
			}
		}
	}
	if offsetBits < 0 {
		offsetBits = int(b.read(5))
	}
	offset := int64(0)
	if offsetBits > 0 {
		offset = int64(b.read(offsetBits)<<(64-offsetBits)) >> (64 - offsetBits)
	}
	if b.over {
		return Mark{}
	}
	return r.timeOfDay(frames, perFrame, offset)
}
