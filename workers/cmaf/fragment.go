// Package cmaf reads what the pipeline's own parts, segments and init segments
// hold (ISO/IEC 14496-12, ISO/IEC 23000-19): one track a fragment, samples with
// their times, and a track's codec. Pure: no I/O. It promises to refuse damaged
// bytes with a reason; it leaves out everything that does not change how a
// sample is found, and decrypts nothing.
package cmaf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sample is one access unit. Data is a slice of what was read.
type Sample struct {
	// DTS is the decode time, in units of the track's timescale; PTSOffset presentation minus decode time.
	DTS       uint64
	Duration  uint32
	PTSOffset int32
	// Sync: decoding can start here.
	Sync bool
	Data []byte
}

// PTS is the presentation time.
func (s *Sample) PTS() int64 { return int64(s.DTS) + int64(s.PTSOffset) }

// ErrDamaged is wrapped by errors about bytes that are no fragments.
var ErrDamaged = errors.New("fragment is damaged")

// maxSamples bounds the samples of one fragment: 60 s at 1000 a second.
const maxSamples = 60_000

// Samples appends the samples of all fragments in data, in order, to dst.
func Samples(dst []Sample, data []byte) ([]Sample, error) {
	err := boxes(data, 0, func(name string, at int, body []byte) error {
		if name != "moof" {
			return nil // prft, styp, mdat: samples are found by their offsets
		}
		r := reader{all: data, moof: at - 8, samples: dst}
		err := boxes(body, at, r.moofBox)
		dst = r.samples
		return err
	})
	return dst, err
}

// Span gives the decode time of the first sample and the end of the last.
func Span(data []byte) (start, end uint64, err error) {
	s, err := Samples(nil, data)
	if err != nil {
		return 0, 0, err
	}
	if len(s) == 0 {
		return 0, 0, fmt.Errorf("%w: it has no sample", ErrDamaged)
	}
	last := &s[len(s)-1]
	return s[0].DTS, last.DTS + uint64(last.Duration), nil
}

// boxes calls f for each box of b; at is b's place in the whole.
func boxes(b []byte, at int, f func(name string, at int, body []byte) error) error {
	for len(b) > 0 {
		if len(b) < 8 {
			return fmt.Errorf("%w: %d bytes left where a box is expected", ErrDamaged, len(b))
		}
		n := int(binary.BigEndian.Uint32(b))
		if n < 8 || n > len(b) {
			return fmt.Errorf("%w: box of %d bytes where %d are left", ErrDamaged, n, len(b))
		}
		if err := f(string(b[4:8]), at+8, b[8:n]); err != nil {
			return err
		}
		b, at = b[n:], at+n
	}
	return nil
}

type reader struct {
	all     []byte
	moof    int // where the moof begins
	samples []Sample

	base             uint64 // where data offsets count from
	dur, size, flags uint32 // defaults
	dts              uint64
}

func (r *reader) moofBox(name string, at int, body []byte) error {
	if name != "traf" {
		return nil
	}
	return boxes(body, at, r.trafBox)
}

func (r *reader) trafBox(name string, _ int, b []byte) error {
	switch name {
	case "tfhd":
		return r.tfhd(b)
	case "tfdt":
		if len(b) >= 12 && b[0] == 1 {
			r.dts = binary.BigEndian.Uint64(b[4:])
		} else if len(b) >= 8 && b[0] == 0 {
			r.dts = uint64(binary.BigEndian.Uint32(b[4:]))
		} else {
			return fmt.Errorf("%w: tfdt of %d bytes", ErrDamaged, len(b))
		}
		if r.dts > 1<<62 {
			return fmt.Errorf("%w: decode time %d", ErrDamaged, r.dts)
		}
	case "trun":
		return r.trun(b)
	}
	return nil
}

// fields reads 32-bit fields.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) next() uint32 {
	if len(f.b) < 4 {
		f.bad = true
		return 0
	}
	v := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return v
}

func (r *reader) tfhd(b []byte) error {
	f := fields{b: b}
	flags := f.next() & 0xffffff
	f.next() // track
	r.base = uint64(r.moof)
	if flags&0x1 != 0 {
		r.base = uint64(f.next())<<32 | uint64(f.next())
	}
	if flags&0x2 != 0 {
		f.next()
	}
	for _, d := range []struct {
		bit uint32
		to  *uint32
	}{{0x8, &r.dur}, {0x10, &r.size}, {0x20, &r.flags}} {
		if flags&d.bit != 0 {
			*d.to = f.next()
		}
	}
	if f.bad {
		return fmt.Errorf("%w: tfhd is too short", ErrDamaged)
	}
	return nil
}

const notSync = 0x10000 // sample_is_non_sync_sample

func (r *reader) trun(b []byte) error {
	f := fields{b: b}
	head := f.next()
	flags, n := head&0xffffff, f.next()
	if n > maxSamples {
		return fmt.Errorf("%w: trun of %d samples", ErrDamaged, n)
	}
	at := r.base
	if flags&0x1 != 0 {
		at += uint64(int64(int32(f.next())))
	}
	first, hasFirst := uint32(0), flags&0x4 != 0
	if hasFirst {
		first = f.next()
	}
	for i := range n {
		s := Sample{DTS: r.dts, Duration: r.dur}
		size, sf := r.size, r.flags
		if hasFirst && i == 0 {
			sf = first
		}
		if flags&0x100 != 0 {
			s.Duration = f.next()
		}
		if flags&0x200 != 0 {
			size = f.next()
		}
		if flags&0x400 != 0 {
			sf = f.next()
		}
		if flags&0x800 != 0 {
			s.PTSOffset = int32(f.next())
		}
		if f.bad {
			return fmt.Errorf("%w: trun is too short for %d samples", ErrDamaged, n)
		}
		if at > uint64(len(r.all)) || uint64(size) > uint64(len(r.all))-at {
			return fmt.Errorf("%w: a sample ends beyond the data", ErrDamaged)
		}
		s.Sync, s.Data = sf&notSync == 0, r.all[at:at+uint64(size):at+uint64(size)]
		at += uint64(size)
		r.dts += uint64(s.Duration)
		r.samples = append(r.samples, s)
	}
	return nil
}
