package screenshot

import (
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/workers/cmaf"
)

// codec is what one decoder process decodes.
type codec int

// The codecs of key frames.
const (
	avc codec = iota
	hevc
	av1
	codecs
)

// ffmpegNames are the decoders by codec; empty: ffmpeg's choice.
var ffmpegNames = [codecs]string{"h264", "hevc", ""}

// fourCC names the codec in an IVF header. There is none for H.265 that every
// version of ffmpeg knows: the decoder is named instead.
var fourCC = [codecs]string{"H264", "H264", "AV01"}

// keyFrame is one access unit that a decoder needs nothing else for: parameter
// sets in front of slices (ISO/IEC 14496-10 and 23008-2, annex B), or an AV1
// temporal unit with its sequence header.
type keyFrame struct {
	codec         codec
	width, height int // as the init segment says; 0: unknown
	data          []byte
}

// maxKeyFrame bounds a key frame, bytes: the bus carries no larger chunk.
const maxKeyFrame = 8 << 20

// readKeyFrame takes the first sample out of a fragment. Everything but
// parameter sets and slices is left out: nothing else makes a picture.
func readKeyFrame(init, fragment []byte) (*keyFrame, error) {
	i, err := cmaf.ParseInit(init)
	if err != nil {
		return nil, err
	}
	samples, err := cmaf.Samples(nil, fragment)
	if err != nil {
		return nil, err
	}
	if len(samples) == 0 || !samples[0].Sync || len(samples[0].Data) == 0 {
		return nil, errors.New("the fragment begins with no key frame")
	}
	sample := samples[0].Data
	if len(sample) > maxKeyFrame {
		return nil, fmt.Errorf("the key frame has %d bytes: at most %d are decoded", len(sample), maxKeyFrame)
	}
	k := &keyFrame{width: i.Width, height: i.Height, data: make([]byte, 0, len(sample)+512)}
	switch {
	case i.Encrypted:
		return nil, errors.New("the fragment is encrypted")
	case i.AVC():
		k.codec = avc
	case i.HEVC():
		k.codec = hevc
	case i.Codec != "":
		k.codec = av1
		k.data = append(k.data, 0x12, 0) // temporal delimiter, with a size of 0
		k.data = append(append(k.data, i.ConfigOBUs...), sample...)
		return k, nil
	default:
		return nil, errors.New("the init segment names no codec that is known")
	}
	for _, p := range i.Params {
		k.unit(withoutReordering(k.codec, p))
	}
	for b := sample; len(b) > 0; {
		if len(b) < 4 {
			return nil, fmt.Errorf("%d bytes left where a NAL length is expected", len(b))
		}
		n := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if n > len(b)-4 {
			return nil, fmt.Errorf("NAL of %d bytes where %d are left", n, len(b)-4)
		}
		if u := b[4 : 4+n]; isSlice(k.codec, u) {
			k.unit(u)
		}
		b = b[4+n:]
	}
	return k, nil
}

func (k *keyFrame) unit(n []byte) { k.data = append(append(k.data, 0, 0, 0, 1), n...) }

func isSlice(c codec, nal []byte) bool {
	if len(nal) < 3 {
		return false
	}
	if c == hevc {
		return nal[0]>>1&0x3f < 32 // VCL, 7.4.2.2
	}
	t := nal[0] & 0x1f
	return t >= 1 && t <= 5
}

// size gives the picture's dimensions for a width that is aimed at: even, not
// larger than the source, in its shape.
func (k *keyFrame) size(width int) (w, h int) {
	sw, sh := k.width, k.height
	if sw <= 0 || sh <= 0 {
		sw, sh = 16, 9
	} else {
		width = min(width, sw)
	}
	w = min(max(width&^1, 2), maxSide)
	return w, min(max((w*sh/sw+1)&^1, 2), maxSide)
}

// maxSide bounds a picture's width and height, pixels; tags have 13 bits for each.
const maxSide = 2048
