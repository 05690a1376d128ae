package transcode

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
)

// The encoder is fed the source's own fragments, rewritten: decode and
// presentation times are doubled, and the lowest bit of a presentation time says
// that the frame shall become a key frame. An output frame's time then names its
// source frame exactly, and key frames can be asked for while the encoder runs.

// sample is one frame of a source fragment.
type sample struct {
	dts  uint64
	dur  uint32
	cto  int64 // presentation minus decode time
	key  bool
	data []byte
}

func (s *sample) pts() int64 { return int64(s.dts) + s.cto }

// errFragment is wrapped by errors about source fragments that cannot be read.
var errFragment = errors.New("source fragment is malformed")

// boxes calls f for each box in b (ISO/IEC 14496-12, 4.2) with its type, its
// body and its offset in b; f returns false to stop.
func boxes(b []byte, f func(kind string, body []byte, at int) bool) error {
	for at := 0; at < len(b); {
		if len(b)-at < 8 {
			return fmt.Errorf("%w: %d bytes left where a box is expected", errFragment, len(b)-at)
		}
		size, head := uint64(binary.BigEndian.Uint32(b[at:])), 8
		if size == 1 {
			if len(b)-at < 16 {
				return fmt.Errorf("%w: a box of 64-bit size is cut off", errFragment)
			}
			size, head = binary.BigEndian.Uint64(b[at+8:]), 16
		}
		if size < uint64(head) || size > uint64(len(b)-at) {
			return fmt.Errorf("%w: a box of %d bytes where %d are left", errFragment, size, len(b)-at)
		}
		if !f(string(b[at+4:at+8]), b[at+head:at+int(size)], at) {
			return nil
		}
		at += int(size)
	}
	return nil
}

// find gives the body of the first box at a path.
func find(b []byte, path ...string) []byte {
	var found []byte
	for _, want := range path {
		found = nil
		_ = boxes(b, func(kind string, body []byte, _ int) bool { // what is malformed is not found
			if kind == want {
				found = body
			}
			return found == nil
		})
		if found == nil {
			return nil
		}
		b = found
	}
	return found
}

// doubleInit gives an init segment with twice the media timescale.
func doubleInit(init []byte) ([]byte, error) {
	out := append([]byte(nil), init...)
	at, err := timescaleAt(out)
	if err != nil {
		return nil, err
	}
	scale := binary.BigEndian.Uint32(at)
	if scale == 0 || scale > 1<<29 {
		return nil, fmt.Errorf("%w: timescale %d", errFragment, scale)
	}
	binary.BigEndian.PutUint32(at, 2*scale)
	return out, nil
}

// setTimescale changes the media timescale of an init segment in place.
func setTimescale(init []byte, scale uint32) error {
	at, err := timescaleAt(init)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(at, scale)
	return nil
}

// timescaleAt gives the four bytes of the media header's timescale (ISO/IEC 14496-12, 8.4.2).
func timescaleAt(init []byte) ([]byte, error) {
	mdhd := find(init, "moov", "trak", "mdia", "mdhd")
	at := 12
	if len(mdhd) > 0 && mdhd[0] == 1 {
		at = 20
	}
	if len(mdhd) < at+4 {
		return nil, fmt.Errorf("%w: the init segment has no media header", errFragment)
	}
	return mdhd[at : at+4], nil
}

// samplesOf reads a fragment (moof and mdat of one track) and checks it against its description.
func samplesOf(f *schemas.Fragment, b []byte) ([]sample, error) {
	moof, mdat := find(b, "moof"), find(b, "mdat")
	tfhd, tfdt, trun := find(moof, "traf", "tfhd"), find(moof, "traf", "tfdt"), find(moof, "traf", "trun")
	if mdat == nil || len(tfhd) < 8 || len(tfdt) < 8 || len(trun) < 8 {
		return nil, fmt.Errorf("%w: moof or mdat is missing or too short", errFragment)
	}
	be := binary.BigEndian
	var dur, size, flags uint32
	opt := &fields32{b: tfhd[8:]}
	hf := be.Uint32(tfhd) & 0xffffff
	opt.skip(hf, 0x1, 8)
	opt.skip(hf, 0x2, 4)
	opt.read(hf, 0x8, &dur)
	opt.read(hf, 0x10, &size)
	opt.read(hf, 0x20, &flags)
	base := uint64(be.Uint32(tfdt[4:]))
	if tfdt[0] == 1 {
		if len(tfdt) < 12 {
			return nil, fmt.Errorf("%w: tfdt is too short", errFragment)
		}
		base = be.Uint64(tfdt[4:])
	}
	tf, count := be.Uint32(trun)&0xffffff, int(be.Uint32(trun[4:]))
	if base != f.BaseTime || count != f.Samples || count > len(mdat) {
		return nil, fmt.Errorf("%w: %d frames from %d on, its description says %d from %d", errFragment, count, base, f.Samples, f.BaseTime)
	}
	run := &fields32{b: trun[8:]}
	run.skip(tf, 0x1, 4)
	first := flags
	run.read(tf, 0x4, &first)
	out := make([]sample, count)
	at, dts := uint64(0), base
	for i := range out {
		d, n, fl, cto := dur, size, flags, uint32(0)
		if i == 0 {
			fl = first
		}
		run.read(tf, 0x100, &d)
		run.read(tf, 0x200, &n)
		run.read(tf, 0x400, &fl)
		run.read(tf, 0x800, &cto)
		if at+uint64(n) > uint64(len(mdat)) {
			return nil, fmt.Errorf("%w: frame %d ends beyond the data", errFragment, i)
		}
		out[i] = sample{dts: dts, dur: d, cto: int64(int32(cto)), key: fl&0x10000 == 0, data: mdat[at : at+uint64(n)]}
		at, dts = at+uint64(n), dts+uint64(d)
	}
	if run.short || opt.short || dts-base != f.Duration {
		return nil, fmt.Errorf("%w: its frames last %d units, its description says %d", errFragment, dts-base, f.Duration)
	}
	return out, nil
}

// fields32 reads optional 32-bit fields.
type fields32 struct {
	b     []byte
	short bool
}

func (f *fields32) skip(flags, flag uint32, n int) {
	if flags&flag != 0 {
		if len(f.b) < n {
			f.short, f.b = true, nil
			return
		}
		f.b = f.b[n:]
	}
}

func (f *fields32) read(flags, flag uint32, v *uint32) {
	if flags&flag != 0 && len(f.b) >= 4 {
		*v = binary.BigEndian.Uint32(f.b)
	}
	f.skip(flags, flag, 4)
}

// appendInput writes samples as the fragment that the encoder reads; force says
// which presentation times shall become key frames.
func appendInput(b []byte, samples []sample, force func(pts int64) bool) []byte {
	be := binary.BigEndian
	head := func(size int, name string) {
		b = be.AppendUint32(b, uint32(size))
		b = append(b, name...)
	}
	trun := 20 + 16*len(samples)
	moof := 8 + 16 + 8 + 16 + 20 + trun
	head(moof, "moof")
	head(16, "mfhd")
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 1)
	head(moof-24, "traf")
	head(16, "tfhd")
	b = be.AppendUint32(b, 0x020000) // default-base-is-moof
	b = be.AppendUint32(b, 1)
	head(20, "tfdt")
	b = be.AppendUint32(b, 1<<24)
	b = be.AppendUint64(b, 2*samples[0].dts)
	head(trun, "trun")
	b = be.AppendUint32(b, 1<<24|0x1|0x100|0x200|0x400|0x800)
	b = be.AppendUint32(b, uint32(len(samples)))
	b = be.AppendUint32(b, uint32(moof+8))
	body := 0
	for i := range samples {
		s := &samples[i]
		flags, mark := uint32(0x01010000), int64(0)
		if s.key {
			flags = 0x02000000
		}
		if force(s.pts()) {
			mark = 1
		}
		b = be.AppendUint32(b, 2*s.dur)
		b = be.AppendUint32(b, uint32(len(s.data)))
		b = be.AppendUint32(b, flags)
		b = be.AppendUint32(b, uint32(int32(2*s.cto+mark)))
		body += len(s.data)
	}
	head(8+body, "mdat")
	for i := range samples {
		b = append(b, samples[i].data...)
	}
	return b
}
