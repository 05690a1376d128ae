package cenc

import (
	"fmt"
	"math/bits"

	"github.com/Eyevinn/mp4ff/avc"
)

// maxHeader is the longest slice header that is looked for, bytes.
const maxHeader = 4096

type h264 struct {
	sps map[uint32]*avc.SPS
	pps map[uint32]*avc.PPS
}

func newH264(sets [][]byte) (*h264, error) {
	h := &h264{sps: map[uint32]*avc.SPS{}, pps: map[uint32]*avc.PPS{}}
	for _, n := range sets {
		if len(n) > 0 && n[0]&0x1f == 7 {
			s, err := avc.ParseSPSNALUnit(n, false)
			if err != nil {
				return nil, fmt.Errorf("%w: sequence parameter set: %w", ErrUnsupported, err)
			}
			h.sps[s.ParameterID] = s
		}
	}
	for _, n := range sets {
		if len(n) > 0 && n[0]&0x1f == 8 {
			p, err := avc.ParsePPSNALUnit(n, h.sps)
			if err != nil {
				return nil, fmt.Errorf("%w: picture parameter set: %w", ErrUnsupported, err)
			}
			h.pps[p.PicParameterSetID] = p
		}
	}
	return h, nil
}

// clear gives how many bytes of a NAL unit stay readable.
func (h *h264) clear(nal []byte) (int, error) {
	switch t := nal[0] & 0x1f; t {
	case 1, 5:
		return h.header(nal)
	case 2, 3, 4, 19, 20, 21:
		return 0, fmt.Errorf("%w: NAL unit type %d of H.264 (data partitions, auxiliary and layered pictures)", ErrUnsupported, t)
	default:
		return len(nal), nil
	}
}

// header gives the length of a slice's NAL header and slice header, rounded up
// to whole bytes (ITU-T H.264, 7.3.3).
func (h *h264) header(nal []byte) (int, error) {
	r := &bitReader{b: nal[:min(len(nal), maxHeader)]}
	r.u(8)
	idr, ref := nal[0]&0x1f == 5, nal[0]>>5&3 != 0
	r.ue() // first_mb_in_slice
	kind := r.ueMax(9) % 5
	const p, b, i, sp, si = 0, 1, 2, 3, 4
	pps := h.pps[r.ueMax(255)]
	if r.bad || pps == nil || h.sps[pps.SeqParameterSetID] == nil {
		return 0, fmt.Errorf("%w: a slice names parameter sets that are not in the init segment", ErrUnsupported)
	}
	sps := h.sps[pps.SeqParameterSetID]
	if sps.SeparateColourPlaneFlag {
		r.u(2)
	}
	r.u(int(sps.Log2MaxFrameNumMinus4) + 4)
	field := false
	if !sps.FrameMbsOnlyFlag {
		if field = r.flag(); field {
			r.bit()
		}
	}
	if idr {
		r.ue()
	}
	bottom := pps.BottomFieldPicOrderInFramePresentFlag && !field
	if sps.PicOrderCntType == 0 {
		r.u(int(sps.Log2MaxPicOrderCntLsbMinus4) + 4)
		if bottom {
			r.ue()
		}
	} else if sps.PicOrderCntType == 1 && !sps.DeltaPicOrderAlwaysZeroFlag {
		r.ue()
		if bottom {
			r.ue()
		}
	}
	if pps.RedundantPicCntPresentFlag {
		r.ue()
	}
	if kind == b {
		r.bit()
	}
	refs := [2]uint32{uint32(pps.NumRefIdxI0DefaultActiveMinus1), uint32(pps.NumRefIdxI1DefaultActiveMinus1)}
	if kind == p || kind == sp || kind == b {
		if r.flag() {
			refs[0] = r.ueMax(31)
			if kind == b {
				refs[1] = r.ueMax(31)
			}
		}
	}
	lists := 0
	switch kind {
	case p, sp:
		lists = 1
	case b:
		lists = 2
	}
	for range lists {
		if r.flag() {
			r.modifications()
		}
	}
	if pps.WeightedPredFlag && (kind == p || kind == sp) || pps.WeightedBipredIDC == 1 && kind == b {
		chroma := sps.ChromaArrayType() != 0
		r.ue()
		if chroma {
			r.ue()
		}
		for l := range lists {
			for range refs[l] + 1 {
				if r.flag() {
					r.skip(2)
				}
				if chroma && r.flag() {
					r.skip(4)
				}
			}
		}
	}
	if ref {
		r.marking(idr)
	}
	if pps.EntropyCodingModeFlag && kind != i && kind != si {
		r.ue()
	}
	r.ue()
	if kind == sp {
		r.bit()
	}
	if kind == sp || kind == si {
		r.ue()
	}
	if pps.DeblockingFilterControlPresentFlag && r.ue() != 1 {
		r.skip(2)
	}
	if pps.NumSliceGroupsMinus1 > 0 && pps.SliceGroupMapType >= 3 && pps.SliceGroupMapType <= 5 {
		units := (uint64(pps.PicSizeInMapUnitsMinus1) + 1) / (uint64(pps.SliceGroupChangeRateMinus1) + 1)
		r.u(bits.Len64(units)) // Ceil(Log2(units + 1))
	}
	if r.bad {
		return 0, fmt.Errorf("%w: a slice header ends early or says what cannot be", ErrUnsupported)
	}
	return r.pos, nil
}

// modifications reads ref_pic_list_modification behind its flag (7.3.3.1).
func (r *bitReader) modifications() {
	for !r.bad {
		switch r.ueMax(5) {
		case 3:
			return
		default:
			r.ue()
		}
	}
}

// marking reads dec_ref_pic_marking (7.3.3.3).
func (r *bitReader) marking(idr bool) {
	if idr {
		r.u(2)
		return
	}
	if !r.flag() {
		return
	}
	for !r.bad {
		switch r.ueMax(6) {
		case 0:
			return
		case 3:
			r.skip(2)
		case 1, 2, 4, 6:
			r.ue()
		}
	}
}
