package cut

import (
	"encoding/binary"
	"fmt"
)

// picture is what an init segment says of a video track beside its decoder configuration.
type picture struct {
	scale         uint32
	width, height int
	colour        colour
}

// colour is the colour description of a bitstream (ITU-T H.273); present only where it has one.
type colour struct {
	present                     bool
	primaries, transfer, matrix uint8
	fullRange                   bool
}

// visualInit writes a visual sample entry (ISO/IEC 14496-12, 12.1.3) of the given
// type with its decoder configuration box.
func visualInit(entry, config string, record []byte, p picture) []byte {
	return initSegment(true, p.scale, p.width, p.height, func(w *boxWriter) {
		w.box(entry, func() {
			w.zero(6)
			w.u16(1)
			w.zero(16)
			w.u16(uint16(p.width))
			w.u16(uint16(p.height))
			w.u32(0x480000)
			w.u32(0x480000)
			w.zero(4)
			w.u16(1)
			w.zero(32)
			w.u16(0x18)
			w.u16(0xffff)
			w.box(config, func() { w.bytes(record) })
			if p.colour.present {
				w.colr(p.colour)
			}
		})
	})
}

// colr writes a colour information box (ISO/IEC 14496-12, 12.1.5).
func (w *boxWriter) colr(c colour) {
	w.box("colr", func() {
		w.str("nclx")
		w.u16(uint16(c.primaries))
		w.u16(uint16(c.transfer))
		w.u16(uint16(c.matrix))
		full := byte(0)
		if c.fullRange {
			full = 0x80
		}
		w.u8(full)
	})
}

// sampleFormat is what avcC and hvcC say of chroma and depth.
type sampleFormat struct{ chroma, luma8, chroma8 byte }

// avcC gives an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
func avcC(c *VideoConfig, f sampleFormat) []byte {
	w := &boxWriter{}
	sps := c.SPS
	w.u8(1, sps[1], sps[2], sps[3], 0xff, 0xe1)
	w.u16(uint16(len(sps)))
	w.bytes(sps)
	w.u8(byte(1 + len(c.MorePPS)))
	for _, p := range append([][]byte{c.PPS}, c.MorePPS...) {
		w.u16(uint16(len(p)))
		w.bytes(p)
	}
	switch sps[1] {
	case 100, 110, 122, 144:
		w.u8(0xfc|f.chroma&3, 0xf8|f.luma8&7, 0xf8|f.chroma8&7, 0)
	}
	return w.b
}

// hevcProfile is profile_tier_level() of a H.265 SPS, general part (ITU-T H.265,
// 7.3.3), which configuration record and codec string repeat.
type hevcProfile struct {
	general      [12]byte // profile space, tier, profile; compatibility; constraints; level
	subLayers    byte
	nestedLayers byte
}

func readHEVCProfile(sps []byte) (p hevcProfile, ok bool) {
	var head [15]byte
	if unescape(head[:], sps) < len(head) {
		return p, false
	}
	p.subLayers = head[2]>>1&7 + 1
	p.nestedLayers = head[2] & 1
	copy(p.general[:], head[3:])
	return p, true
}

// unescape copies b without emulation prevention bytes (ITU-T H.264, 7.4.1) until
// dst is full, and gives how many bytes it wrote.
func unescape(dst, b []byte) int {
	n, zeros := 0, 0
	for _, v := range b {
		if n == len(dst) {
			break
		}
		if zeros >= 2 && v == 3 {
			zeros = 0
			continue
		}
		if v == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst[n] = v
		n++
	}
	return n
}

// codecString gives the RFC 6381 string (ISO/IEC 14496-15, annex E.3), e.g. hvc1.1.6.L93.B0.
func (p *hevcProfile) codecString() string {
	g := p.general
	space := [...]string{"", "A", "B", "C"}[g[0]>>6]
	compat := uint32(0) // bit-reversed
	for i := range 32 {
		compat |= binary.BigEndian.Uint32(g[1:]) >> i & 1 << (31 - i)
	}
	tier := "L"
	if g[0]&0x20 != 0 {
		tier = "H"
	}
	s := fmt.Sprintf("hvc1.%s%d.%X.%s%d", space, g[0]&0x1f, compat, tier, g[11])
	constraints := g[5:11]
	for len(constraints) > 0 && constraints[len(constraints)-1] == 0 {
		constraints = constraints[:len(constraints)-1]
	}
	for _, b := range constraints {
		s += fmt.Sprintf(".%X", b)
	}
	return s
}

// hvcC gives an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1) whose arrays are complete.
func hvcC(c *VideoConfig, p hevcProfile, f sampleFormat) []byte {
	w := &boxWriter{}
	w.u8(1)
	w.bytes(p.general[:])
	// Unknown: least spatial segmentation, parallelism, average and constancy of the frame rate.
	w.u8(0xf0, 0, 0xfc, 0xfc|f.chroma&3, 0xf8|f.luma8&7, 0xf8|f.chroma8&7, 0, 0)
	w.u8(p.subLayers<<3|p.nestedLayers<<2|3, 3)
	array := func(typ byte, units ...[]byte) {
		w.u8(0x80 | typ)
		w.u16(uint16(len(units)))
		for _, u := range units {
			w.u16(uint16(len(u)))
			w.bytes(u)
		}
	}
	array(hevcVPS, c.VPS)
	array(hevcSPS, c.SPS)
	array(hevcPPS, append([][]byte{c.PPS}, c.MorePPS...)...)
	return w.b
}

// audioEntry writes an audio sample entry (ISO/IEC 14496-12, 12.2.3).
func audioEntry(entry string, scale uint32, channels int, config func(w *boxWriter)) []byte {
	return initSegment(false, scale, 0, 0, func(w *boxWriter) {
		w.box(entry, func() {
			w.zero(6)
			w.u16(1)
			w.zero(8)
			w.u16(uint16(channels))
			w.u16(16)
			w.zero(4)
			rate := scale
			if rate > 0xffff { // the field has 16 bits; the real rate is in the configuration
				rate = 0
			}
			w.u32(rate << 16)
			config(w)
		})
	})
}

// aacInit writes an mp4a sample entry with its esds (ISO/IEC 14496-14).
func aacInit(asc []byte, scale uint32, channels int) []byte {
	return audioEntry("mp4a", scale, channels, func(w *boxWriter) {
		w.full("esds", 0, 0, func() {
			n := byte(len(asc))
			w.u8(3, 3+(2+13+2+n)+3, 0, trackID, 0)
			w.u8(4, 13+2+n, 0x40, 0x15, 0, 0, 0)
			w.zero(8)
			w.u8(5, n)
			w.bytes(asc)
			w.u8(6, 1, 2)
		})
	})
}

// opusMappings are stream count, coupled count and mapping of channel mapping
// family 1 by channel count (RFC 7845, 5.1.1.2; the streams are libopus's).
var opusMappings = map[int][]byte{
	3: {2, 1, 0, 2, 1},
	4: {2, 2, 0, 1, 2, 3},
	5: {3, 2, 0, 4, 1, 2, 3},
	6: {4, 2, 0, 4, 1, 2, 3, 5},
	7: {4, 3, 0, 4, 1, 2, 3, 5, 6},
	8: {5, 3, 0, 6, 1, 2, 3, 4, 5, 7},
}

// opusInit writes an Opus sample entry with its dOps (Encapsulation of Opus in ISOBMFF, 4.3).
func opusInit(channels, preSkip int) []byte {
	return audioEntry("Opus", opusHz, channels, func(w *boxWriter) {
		w.box("dOps", func() {
			w.u8(0, byte(channels))
			w.u16(uint16(preSkip))
			w.u32(opusHz)
			w.u16(0)
			if m, ok := opusMappings[channels]; ok {
				w.u8(1)
				w.bytes(m)
			} else {
				w.u8(0)
			}
		})
	})
}
