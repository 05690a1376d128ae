package cmaf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/Eyevinn/mp4ff/mp4"
)

// Init is what an init segment says of its track.
type Init struct {
	// Codec is the RFC 6381 string; empty where it cannot be told.
	Codec         string
	Timescale     uint32
	Width, Height int
	SampleRate    int
	Channels      int
	// Params are the parameter sets (H.264: SPS, PPS; H.265: VPS, SPS, PPS) without lengths.
	Params [][]byte
	// ConfigOBUs are what av1C holds of AV1: the sequence header.
	ConfigOBUs []byte
	// ASC is the AudioSpecificConfig of AAC.
	ASC []byte
	// Encrypted: samples are (ISO/IEC 23001-7), with the key that KID names, 32 hexadecimal digits.
	Encrypted bool
	KID       string
}

// AVC, HEVC and AAC tell the codec, by its sample entry.
func (i *Init) AVC() bool  { return hasPrefix(i.Codec, "avc1", "avc3") }
func (i *Init) HEVC() bool { return hasPrefix(i.Codec, "hvc1", "hev1") }
func (i *Init) AAC() bool  { return hasPrefix(i.Codec, "mp4a") }

func hasPrefix(s string, p ...string) bool {
	for _, p := range p {
		if len(s) >= len(p) && s[:len(p)] == p {
			return true
		}
	}
	return false
}

// MaxInitBytes is the longest init segment that is read.
const MaxInitBytes = 1 << 20

// ParseInit reads an init segment of one track.
func ParseInit(b []byte) (init *Init, err error) {
	if len(b) > MaxInitBytes {
		return nil, fmt.Errorf("init segment has %d bytes: at most %d are read", len(b), MaxInitBytes)
	}
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read init segment: %w", err)
	}
	if f.Init == nil || f.Init.Moov == nil || f.Init.Moov.Trak == nil {
		return nil, errors.New("read init segment: it has no track")
	}
	mdia := f.Init.Moov.Trak.Mdia
	if mdia == nil || mdia.Mdhd == nil || mdia.Mdhd.Timescale == 0 || mdia.Minf == nil || mdia.Minf.Stbl == nil || mdia.Minf.Stbl.Stsd == nil {
		return nil, errors.New("read init segment: its track has no timescale or no sample description")
	}
	i := &Init{Timescale: mdia.Mdhd.Timescale}
	d := mdia.Minf.Stbl.Stsd
	for _, v := range []*mp4.VisualSampleEntryBox{d.AvcX, d.HvcX, d.Av01, d.Encv} {
		if v != nil {
			i.video(v)
		}
	}
	for _, child := range d.Children {
		if a, ok := child.(*mp4.AudioSampleEntryBox); ok {
			i.audio(a)
		}
	}
	i.Encrypted = d.Encv != nil || d.Enca != nil
	for _, s := range sinfs(d) {
		if s != nil && s.Schi != nil && s.Schi.Tenc != nil && len(s.Schi.Tenc.DefaultKID) == 16 {
			i.KID = hex.EncodeToString(s.Schi.Tenc.DefaultKID)
		}
	}
	return i, nil
}

func sinfs(d *mp4.StsdBox) []*mp4.SinfBox {
	var out []*mp4.SinfBox
	if d.Encv != nil {
		out = append(out, d.Encv.Sinf)
	}
	if d.Enca != nil {
		out = append(out, d.Enca.Sinf)
	}
	return out
}

func (i *Init) video(v *mp4.VisualSampleEntryBox) {
	i.Width, i.Height = int(v.Width), int(v.Height)
	switch {
	case v.AvcC != nil:
		a := &v.AvcC.DecConfRec
		i.Codec = fmt.Sprintf("avc1.%02x%02x%02x", a.AVCProfileIndication, a.ProfileCompatibility, a.AVCLevelIndication)
		i.Params = append(append(i.Params, a.SPSnalus...), a.PPSnalus...)
	case v.HvcC != nil:
		for _, t := range []hevc.NaluType{hevc.NALU_VPS, hevc.NALU_SPS, hevc.NALU_PPS} {
			for _, n := range v.HvcC.GetNalusForType(t) {
				i.Params = append(i.Params, n)
				if t != hevc.NALU_SPS {
					continue
				}
				if sps, err := hevc.ParseSPSNALUnit(n); err == nil {
					i.Codec = hevc.CodecString("hvc1", sps)
				}
			}
		}
	case v.Av1C != nil:
		i.Codec = v.Av1C.CodecConfRec.CodecString("av01")
		i.ConfigOBUs = v.Av1C.CodecConfRec.ConfigOBUs
	}
}

func (i *Init) audio(a *mp4.AudioSampleEntryBox) {
	i.Channels, i.SampleRate = int(a.ChannelCount), int(i.Timescale)
	switch {
	case a.Esds != nil && a.Esds.DecConfigDescriptor != nil && a.Esds.DecConfigDescriptor.DecSpecificInfo != nil:
		i.ASC = a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig
		i.Codec = "mp4a.40.2"
		if len(i.ASC) > 0 && i.ASC[0]>>3 != 31 {
			i.Codec = fmt.Sprintf("mp4a.40.%d", i.ASC[0]>>3)
		}
	case a.Dops != nil:
		i.Codec = "opus"
	}
}
