package screenshot

import "errors"

// A decoder holds pictures back that may have to be shown later than ones that
// follow, as many as the sequence parameter set says. Single key frames have
// none that follow, so their parameter sets are made to say none: a decoder
// then gives each picture at once, and never one after another's. What cannot be
// read is left as it is; its pictures are then late, and dropped.

// withoutReordering gives a parameter set, rewritten where it is an SPS.
func withoutReordering(c codec, nal []byte) []byte {
	var out []byte
	var err error
	switch {
	case c == avc && len(nal) > 4 && nal[0]&0x1f == 7:
		out, err = avcNoReorder(nal)
	case c == hevc && len(nal) > 4 && nal[0]>>1&0x3f == 33:
		out, err = hevcNoReorder(nal)
	default:
		return nal
	}
	if err != nil {
		return nal
	}
	return out
}

// avcNoReorder keeps an SPS (ISO/IEC 14496-10, 7.3.2.1.1) up to its VUI, and of
// the VUI (E.1.1) the colours; it says that no picture is reordered.
func avcNoReorder(nal []byte) ([]byte, error) {
	b := bits{in: unescaped(nal[1:])}
	profile := b.copy(8)
	b.copy(16)
	b.copyUE() // id
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if b.avcChroma(); b.bad {
			return nil, errSPS
		}
	}
	b.copyUE() // log2_max_frame_num
	switch b.copyUE() {
	case 0:
		b.copyUE()
	case 1:
		b.copy(1)
		b.copyUE()
		b.copyUE()
		n := b.copyUE()
		if n > 255 {
			return nil, errSPS
		}
		for range n {
			b.copyUE()
		}
	}
	b.copyUE() // max_num_ref_frames
	b.copy(1)
	b.copyUE()
	b.copyUE()
	if b.copy(1) == 0 { // frame_mbs_only
		b.copy(1)
	}
	b.copy(1)
	if b.copy(1) == 1 { // cropping
		for range 4 {
			b.copyUE()
		}
	}
	vui := b.read(1) == 1
	b.put(1, 1)
	b.avcVUI(vui)
	if b.bad {
		return nil, errSPS
	}
	return append(nal[:1:1], escaped(b.end())...), nil
}

var errSPS = errors.New("sequence parameter set ends early or is damaged")

func (b *bits) avcChroma() {
	if b.copyUE() == 3 {
		b.copy(1)
	}
	b.copyUE()
	b.copyUE()
	b.copy(1)
	if b.copy(1) == 1 {
		b.bad = true // scaling lists: rare in live streams, left as they are
	}
}

// avcVUI copies the colours of the VUI, if there is one, and puts nothing else but the absence of reordering.
func (b *bits) avcVUI(present bool) {
	b.put(0, 2) // aspect ratio, overscan
	if present {
		if b.read(1) == 1 && b.read(8) == 255 {
			b.read(32)
		}
		if b.read(1) == 1 {
			b.read(1)
		}
		if b.copy(1) == 1 {
			b.copy(4)
			if b.copy(1) == 1 {
				b.copy(24)
			}
		}
	} else {
		b.put(0, 1)
	}
	b.put(0, 5) // chroma location, timing, NAL HRD, VCL HRD, pic_struct
	b.put(3, 2) // bitstream restriction; motion vectors over boundaries
	// Bytes, bits, vector lengths as by default, no reordering, one frame buffered.
	for _, v := range []uint32{2, 1, 15, 15, 0, 1} {
		b.putUE(v)
	}
}

// hevcNoReorder sets sps_max_num_reorder_pics to 0 (ISO/IEC 23008-2, 7.3.2.2).
func hevcNoReorder(nal []byte) ([]byte, error) {
	b := bits{in: unescaped(nal[2:])}
	b.copy(4)
	layers := b.copy(3)
	b.copy(1)
	b.hevcProfile(layers)
	b.copyUE() // id
	if b.copyUE() == 3 {
		b.copy(1)
	}
	b.copyUE()
	b.copyUE()
	if b.copy(1) == 1 {
		for range 4 {
			b.copyUE()
		}
	}
	for range 3 { // bit depths, log2_max_pic_order_cnt
		b.copyUE()
	}
	from := layers
	if b.copy(1) == 1 {
		from = 0
	}
	for i := from; i <= layers; i++ {
		b.copyUE()
		b.readUE()
		b.putUE(0)
		b.copyUE()
	}
	if b.bad {
		return nil, errSPS
	}
	b.rest()
	return append(nal[:2:2], escaped(b.out)...), nil
}

// hevcProfile copies profile_tier_level(1, layers) (7.3.3).
func (b *bits) hevcProfile(layers uint32) {
	b.copy(32)
	b.copy(32)
	b.copy(32)
	if layers == 0 {
		return
	}
	var profile, level [8]bool
	for i := range layers {
		profile[i], level[i] = b.copy(1) == 1, b.copy(1) == 1
	}
	for i := layers; i < 8; i++ {
		b.copy(2)
	}
	for i := range layers {
		if profile[i] {
			b.copy(32)
			b.copy(32)
			b.copy(24)
		}
		if level[i] {
			b.copy(8)
		}
	}
}
