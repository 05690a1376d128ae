package cut

import "encoding/binary"

// Box writing (ISO/IEC 14496-12). Every init segment and fragment has one track, with id 1.

const trackID = 1

type boxWriter struct{ b []byte }

func (w *boxWriter) u8(v ...byte)   { w.b = append(w.b, v...) }
func (w *boxWriter) u16(v uint16)   { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *boxWriter) u32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *boxWriter) zero(n int)     { w.b = append(w.b, make([]byte, n)...) }
func (w *boxWriter) str(s string)   { w.b = append(w.b, s...) }
func (w *boxWriter) bytes(p []byte) { w.b = append(w.b, p...) }

func (w *boxWriter) box(name string, body func()) {
	at := len(w.b)
	w.u32(0)
	w.str(name)
	body()
	binary.BigEndian.PutUint32(w.b[at:], uint32(len(w.b)-at))
}

func (w *boxWriter) full(name string, version byte, flags uint32, body func()) {
	w.box(name, func() {
		w.u32(uint32(version)<<24 | flags)
		body()
	})
}

var identityMatrix = [9]uint32{0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000}

func (w *boxWriter) matrix() {
	for _, v := range identityMatrix {
		w.u32(v)
	}
}

func initSegment(video bool, scale uint32, width, height int, entry func(w *boxWriter)) []byte {
	w := &boxWriter{b: make([]byte, 0, 1024)}
	w.box("ftyp", func() {
		w.str("iso6")
		w.u32(0)
		for _, brand := range []string{"iso6", "cmfc", "mp41", "dash"} {
			w.str(brand)
		}
	})
	w.box("moov", func() {
		w.full("mvhd", 0, 0, func() {
			w.zero(8)
			w.u32(1000)
			w.u32(0)
			w.u32(0x10000)
			w.u16(0x0100)
			w.zero(10)
			w.matrix()
			w.zero(24)
			w.u32(trackID + 1)
		})
		w.box("trak", func() { trak(w, video, scale, width, height, entry) })
		w.box("mvex", func() {
			w.full("trex", 0, 0, func() {
				w.u32(trackID)
				w.u32(1)
				w.zero(12)
			})
		})
	})
	return w.b
}

func trak(w *boxWriter, video bool, scale uint32, width, height int, entry func(w *boxWriter)) {
	handler, name, volume := "soun", "audio", uint16(0x0100)
	if video {
		handler, name, volume = "vide", "video", 0
	}
	w.full("tkhd", 0, 3, func() {
		w.zero(8)
		w.u32(trackID)
		w.zero(4 + 4 + 8 + 2 + 2)
		w.u16(volume)
		w.zero(2)
		w.matrix()
		w.u32(uint32(width) << 16)
		w.u32(uint32(height) << 16)
	})
	w.box("mdia", func() {
		w.full("mdhd", 0, 0, func() {
			w.zero(8)
			w.u32(scale)
			w.u32(0)
			w.u16(0x55c4) // language "und"
			w.u16(0)
		})
		w.full("hdlr", 0, 0, func() {
			w.u32(0)
			w.str(handler)
			w.zero(12)
			w.str(name)
			w.u8(0)
		})
		w.box("minf", func() {
			if video {
				w.full("vmhd", 0, 1, func() { w.zero(8) })
			} else {
				w.full("smhd", 0, 0, func() { w.zero(4) })
			}
			w.box("dinf", func() {
				w.full("dref", 0, 0, func() {
					w.u32(1)
					w.full("url ", 0, 1, func() {})
				})
			})
			w.box("stbl", func() {
				w.full("stsd", 0, 0, func() {
					w.u32(1)
					entry(w)
				})
				w.full("stts", 0, 0, func() { w.u32(0) })
				w.full("stsc", 0, 0, func() { w.u32(0) })
				w.full("stsz", 0, 0, func() { w.zero(8) })
				w.full("stco", 0, 0, func() { w.u32(0) })
			})
		})
	})
}

// Sample flags (ISO/IEC 14496-12, 8.8.3.1).
const (
	flagsSync    = 0x02000000 // depends on no other sample
	flagsNonSync = 0x01010000 // depends on others, is not a sync sample
)

type sample struct {
	data    []byte
	dur     uint32
	cto     int32 // presentation minus decode time, never negative
	key     bool
	arrived int64
}

// layout says which optional fields a fragment's trun has.
type layout struct {
	flags    uint32
	perEntry int
	first    bool // first_sample_flags
	size     int  // of prft, moof and mdat
	moof     int
}

// reference is what a fragment's prft box says.
type reference struct {
	wallUs   int64  // Unix microseconds ...
	pts      uint64 // ... at this presentation time, track units
	captured bool   // wallUs is a time of capture
}

func layoutOf(samples []sample) layout {
	var l layout
	l.flags, l.perEntry = 0x1|0x200, 4
	body, keysLater := 0, false
	for i := range samples {
		s := &samples[i]
		body += len(s.data)
		if s.dur != samples[0].dur {
			l.flags |= 0x100
		}
		if s.cto != 0 {
			l.flags |= 0x800
		}
		if i > 0 && s.key != samples[len(samples)-1].key {
			keysLater = true
		}
	}
	switch {
	case keysLater:
		l.flags |= 0x400
	case samples[0].key != samples[len(samples)-1].key:
		l.flags |= 0x4
		l.first = true
	}
	for _, f := range [...]uint32{0x100, 0x400, 0x800} {
		if l.flags&f != 0 {
			l.perEntry += 4
		}
	}
	trun := 20 + l.perEntry*len(samples)
	if l.first {
		trun += 4
	}
	l.moof = 8 + 16 + 8 + 24 + 20 + trun
	l.size = prftBytes + l.moof + 8 + body
	return l
}

func flagsOf(key bool) uint32 {
	if key {
		return flagsSync
	}
	return flagsNonSync
}

// Flags of a prft box (ISO/IEC 14496-12, 8.16.5).
const (
	prftEncoderInput = 0
	prftCaptured     = 24
	prftBytes        = 32
)

// ntpUnixSeconds is the Unix epoch on the NTP scale (RFC 5905, figure 4).
const ntpUnixSeconds = 2_208_988_800

// ntp gives a Unix time in microseconds as an NTP timestamp: seconds and 1/2^32 s.
func ntp(us int64) uint64 {
	s := floorDiv(us, 1_000_000)
	return uint64(s+ntpUnixSeconds)<<32 | uint64(us-s*1_000_000)<<32/1_000_000
}

// appendFragment writes prft, moof and mdat of samples whose first is decoded at base.
func appendFragment(b []byte, l layout, samples []sample, base uint64, number uint32, ref reference) []byte {
	be := binary.BigEndian
	head := func(size uint32, name string) {
		b = be.AppendUint32(b, size)
		b = append(b, name...)
	}
	trunSize := uint32(l.moof - (8 + 16 + 8 + 24 + 20))
	head(prftBytes, "prft")
	flags := uint32(prftEncoderInput)
	if ref.captured {
		flags = prftCaptured
	}
	b = be.AppendUint32(b, 1<<24|flags)
	b = be.AppendUint32(b, trackID)
	b = be.AppendUint64(b, ntp(ref.wallUs))
	b = be.AppendUint64(b, ref.pts)
	head(uint32(l.moof), "moof")
	head(16, "mfhd")
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, number)
	head(uint32(l.moof-24), "traf")
	head(24, "tfhd")
	b = be.AppendUint32(b, 0x020028) // default-base-is-moof, default duration, default flags
	b = be.AppendUint32(b, trackID)
	b = be.AppendUint32(b, samples[0].dur)
	b = be.AppendUint32(b, flagsOf(samples[len(samples)-1].key))
	head(20, "tfdt")
	b = be.AppendUint32(b, 1<<24)
	b = be.AppendUint64(b, base)
	head(trunSize, "trun")
	b = be.AppendUint32(b, 1<<24|l.flags)
	b = be.AppendUint32(b, uint32(len(samples)))
	b = be.AppendUint32(b, uint32(l.moof+8))
	if l.first {
		b = be.AppendUint32(b, flagsOf(samples[0].key))
	}
	for i := range samples {
		s := &samples[i]
		if l.flags&0x100 != 0 {
			b = be.AppendUint32(b, s.dur)
		}
		b = be.AppendUint32(b, uint32(len(s.data)))
		if l.flags&0x400 != 0 {
			b = be.AppendUint32(b, flagsOf(s.key))
		}
		if l.flags&0x800 != 0 {
			b = be.AppendUint32(b, uint32(s.cto))
		}
	}
	head(uint32(l.size-l.moof-prftBytes), "mdat")
	for i := range samples {
		b = append(b, samples[i].data...)
	}
	return b
}
