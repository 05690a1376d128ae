package cenc

import (
	"fmt"
	"math/bits"

	"github.com/Eyevinn/mp4ff/hevc"
)

type h265 struct {
	sps map[uint32]*hevc.SPS
	pps map[uint32]*hevc.PPS
}

func newH265(sets [][]byte) (*h265, error) {
	h := &h265{sps: map[uint32]*hevc.SPS{}, pps: map[uint32]*hevc.PPS{}}
	for _, n := range sets {
		if len(n) > 2 && hevc.GetNaluType(n[0]) == hevc.NALU_SPS {
			s, err := hevc.ParseSPSNALUnit(n)
			if err != nil {
				return nil, fmt.Errorf("%w: sequence parameter set: %w", ErrUnsupported, err)
			}
			h.sps[uint32(s.SpsID)] = s
		}
	}
	for _, n := range sets {
		if len(n) > 2 && hevc.GetNaluType(n[0]) == hevc.NALU_PPS {
			p, err := hevc.ParsePPSNALUnit(n, h.sps)
			if err != nil {
				return nil, fmt.Errorf("%w: picture parameter set: %w", ErrUnsupported, err)
			}
			h.pps[p.PicParameterSetID] = p
		}
	}
	return h, nil
}

// clear gives how many bytes of a NAL unit stay readable.
func (h *h265) clear(nal []byte) (int, error) {
	if hevc.GetNaluType(nal[0]) > 31 {
		return len(nal), nil
	}
	return h.header(nal)
}

var errSlice = fmt.Errorf("%w: a slice header ends early or says what cannot be", ErrUnsupported)

// header gives the length of a slice segment's NAL header and header with its
// alignment (ITU-T H.265, 7.3.6.1).
func (h *h265) header(nal []byte) (int, error) {
	s := h265Slice{bitReader: bitReader{b: nal[:min(len(nal), maxHeader)]}, nal: byte(hevc.GetNaluType(nal[0]))}
	s.u(16)
	first := s.flag()
	if s.nal >= 16 && s.nal <= 23 {
		s.bit()
	}
	s.pps = h.pps[s.ueMax(63)]
	if s.bad || s.pps == nil || h.sps[s.pps.SeqParameterSetID] == nil {
		return 0, fmt.Errorf("%w: a slice names parameter sets that are not in the init segment", ErrUnsupported)
	}
	s.sps = h.sps[s.pps.SeqParameterSetID]
	dependent := false
	if !first {
		if s.pps.DependentSliceSegmentsEnabledFlag {
			dependent = s.flag()
		}
		s.u(s.addressBits())
	}
	if !dependent {
		if err := s.independent(); err != nil {
			return 0, err
		}
	}
	if s.pps.TilesEnabledFlag || s.pps.EntropyCodingSyncEnabledFlag {
		if n := s.ue(); n > 0 {
			size := int(s.ueMax(31)) + 1
			for i := uint32(0); i < n && !s.bad; i++ {
				s.u(size)
			}
		}
	}
	if s.pps.SliceSegmentHeaderExtensionPresentFlag {
		for range s.ueMax(256) {
			s.u(8)
		}
	}
	if !s.flag() { // byte_alignment
		return 0, errSlice
	}
	for s.left > 0 {
		if s.flag() {
			return 0, errSlice
		}
	}
	if s.bad {
		return 0, errSlice
	}
	return s.pos, nil
}

type h265Slice struct {
	bitReader
	nal byte
	sps *hevc.SPS
	pps *hevc.PPS
}

func (s *h265Slice) addressBits() int {
	log2 := uint(s.sps.Log2MinLumaCodingBlockSizeMinus3) + 3 + uint(s.sps.Log2DiffMaxMinLumaCodingBlockSize)
	ctb := uint64(1) << min(log2, 16)
	n := ((uint64(s.sps.PicWidthInLumaSamples) + ctb - 1) / ctb) * ((uint64(s.sps.PicHeightInLumaSamples) + ctb - 1) / ctb)
	if n == 0 {
		return 0
	}
	return bits.Len64(n - 1)
}

// independent reads what a dependent slice segment takes from the one before it.
func (s *h265Slice) independent() error {
	sps, pps := s.sps, s.pps
	chroma := sps.ChromaFormatIDC != 0 && !(sps.SeparateColourPlaneFlag && sps.ChromaFormatIDC == 3)
	s.u(int(pps.NumExtraSliceHeaderBits))
	kind := s.ueMax(2)
	const b, i = 0, 2
	if pps.OutputFlagPresentFlag {
		s.bit()
	}
	if sps.SeparateColourPlaneFlag {
		s.u(2)
	}
	pictures, known, temporal := 0, true, false
	if s.nal != 19 && s.nal != 20 { // IDR
		s.u(int(sps.Log2MaxPicOrderCntLsbMinus4) + 4)
		pictures, known = s.shortTerm()
		if sps.LongTermRefPicsPresentFlag {
			pictures += s.longTerm()
		}
		if sps.SpsTemporalMvpEnabledFlag {
			temporal = s.flag()
		}
	}
	sao := false
	if sps.SampleAdaptiveOffsetEnabledFlag {
		sao = s.flag()
		if chroma {
			sao = s.flag() || sao
		}
	}
	if kind != i {
		if pps.SccExtension != nil || sps.SccExtension != nil {
			return fmt.Errorf("%w: screen content coding of H.265", ErrUnsupported)
		}
		refs := [2]uint32{uint32(pps.NumRefIdxL0DefaultActiveMinus1), uint32(pps.NumRefIdxL1DefaultActiveMinus1)}
		lists := 1
		if kind == b {
			lists = 2
		}
		if s.flag() {
			for l := range lists {
				refs[l] = s.ueMax(14)
			}
		}
		if pps.ListsModificationPresentFlag {
			if !known {
				return fmt.Errorf("%w: lists of reference pictures of H.265 that are modified and predicted", ErrUnsupported)
			}
			if pictures > 1 {
				s.listModifications(lists, refs, bits.Len(uint(pictures-1)))
			}
		}
		s.prediction(kind == b, lists, refs, temporal, chroma)
	}
	s.ue()
	if pps.SliceChromaQpOffsetsPresentFlag {
		s.skip(2)
	}
	if pps.SccExtension != nil && pps.SccExtension.SliceActQpOffsetsPresentFlag {
		s.skip(3)
	}
	if pps.RangeExtension != nil && pps.RangeExtension.ChromaQpOffsetListEnabledFlag {
		s.bit()
	}
	s.deblocking(sao)
	if s.bad {
		return errSlice
	}
	return nil
}

// shortTerm reads the short-term reference picture set; known is false where
// mp4ff keeps too little of the set to tell how many pictures are used.
func (s *h265Slice) shortTerm() (used int, known bool) {
	sets := s.sps.ShortTermRefPicSets
	n := int(s.sps.NumShortTermRefPicSets)
	if n > len(sets) {
		s.bad = true
		return 0, false
	}
	if s.flag() { // short_term_ref_pic_set_sps_flag
		at := 0
		if n > 1 {
			at = int(s.u(bits.Len(uint(n - 1))))
		}
		if at >= n {
			s.bad = true
			return 0, false
		}
		set := &sets[at]
		for _, list := range [][]bool{set.UsedByCurrPicS0, set.UsedByCurrPicS1} {
			for _, u := range list {
				if u {
					used++
				}
			}
		}
		return used, set.NumDeltaPocs == set.NumNegativePics+set.NumPositivePics
	}
	if n > 0 && s.flag() { // inter_ref_pic_set_prediction_flag
		back := int(s.ueMax(63)) + 1
		s.bit()
		s.ue()
		if back > n {
			s.bad = true
			return 0, false
		}
		for range int(sets[n-back].NumDeltaPocs) + 1 {
			if !s.flag() {
				s.bit()
			}
		}
		return 0, false
	}
	pics := s.ueMax(16) + s.ueMax(16)
	for range pics {
		s.ue()
		if s.flag() {
			used++
		}
	}
	return used, true
}

func (s *h265Slice) longTerm() (used int) {
	inSPS := uint32(0)
	if s.sps.NumLongTermRefPics > 0 {
		inSPS = s.ueMax(uint32(s.sps.NumLongTermRefPics))
	}
	for i := range inSPS + s.ueMax(33) {
		if i < inSPS {
			at := 0
			if s.sps.NumLongTermRefPics > 1 {
				at = int(s.u(bits.Len(uint(s.sps.NumLongTermRefPics) - 1)))
			}
			if at >= len(s.sps.LongTermRefPicSets) {
				s.bad = true
				return used
			}
			if s.sps.LongTermRefPicSets[at].UsedByCurrPicLtFlag {
				used++
			}
		} else {
			s.u(int(s.sps.Log2MaxPicOrderCntLsbMinus4) + 4)
			if s.flag() {
				used++
			}
		}
		if s.flag() {
			s.ue()
		}
	}
	return used
}

func (s *h265Slice) listModifications(lists int, refs [2]uint32, size int) {
	for l := range lists {
		if s.flag() {
			for range refs[l] + 1 {
				s.u(size)
			}
		}
	}
}

// prediction reads what only P and B slices have behind their lists.
func (s *h265Slice) prediction(isB bool, lists int, refs [2]uint32, temporal, chroma bool) {
	pps := s.pps
	if isB {
		s.bit()
	}
	if pps.CabacInitPresentFlag {
		s.bit()
	}
	if temporal {
		from := 0
		if isB && !s.flag() {
			from = 1
		}
		if refs[from] > 0 {
			s.ue()
		}
	}
	if pps.WeightedPredFlag && !isB || pps.WeightedBipredFlag && isB {
		s.ue()
		if chroma {
			s.ue()
		}
		for l := range lists {
			var luma, col uint32
			for range refs[l] + 1 {
				luma = luma<<1 | s.bit()
			}
			if chroma {
				for range refs[l] + 1 {
					col = col<<1 | s.bit()
				}
			}
			s.skip(2*bits.OnesCount32(luma) + 4*bits.OnesCount32(col))
		}
	}
	s.ue()
}

func (s *h265Slice) deblocking(sao bool) {
	pps := s.pps
	disabled := pps.DeblockingFilterDisabledFlag
	if pps.DeblockingFilterOverrideEnabledFlag && s.flag() {
		if disabled = s.flag(); !disabled {
			s.skip(2)
		}
	}
	if pps.LoopFilterAcrossSlicesEnabledFlag && (sao || !disabled) {
		s.bit()
	}
}
