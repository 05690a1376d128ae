package rtmp

import "encoding/binary"

// Packet types of tags with a FourCC (Enhanced RTMP v2, ExVideoTagHeader and
// ExAudioTagHeader). The first two are also those of H.264 and AAC tags without one.
const (
	packetConfig      = 0
	packetFrames      = 1
	packetEnd         = 2
	packetFramesX     = 3 // video: without composition time
	packetMeta        = 4 // video
	packetMultichan   = 4 // audio
	packetTSConfig    = 5 // video: AV1 descriptor of MPEG-2 TS
	packetAudioMulti  = 5
	packetVideoMulti  = 6
	packetModEx       = 7
	frameTypeCommand  = 5
	modExNanoseconds  = 0
	maxNanoseconds    = 999_999
	trackOne          = 0
	tracksManyCodecs  = 2
	skipTrack         = "track"      // a track other than 0
	skipModEx         = "modex"      // a modifier that is not known
	skipColourInfo    = "color_info" // metadata of the picture
	skipChannelLayout = "channel_layout"
)

// exTag is one track's part of a tag with a FourCC.
type exTag struct {
	packet byte
	fourCC string
	body   []byte
	nanos  uint32 // added to the timestamp
}

// readEx reads the header of a tag behind its first byte's upper half. multi is
// the packet type that says several tracks. Of those track 0 is taken; found is
// false if it is not there or nothing is left to take.
func (d *demux) readEx(b []byte, multi byte, video bool) (t exTag, found bool, err error) {
	t.packet, b = b[0]&0x0f, b[1:]
	for t.packet == packetModEx {
		if b, err = d.modEx(b, &t); err != nil {
			return t, false, err
		}
	}
	if t.packet == multi {
		return d.trackZero(b, t)
	}
	if len(b) < 4 {
		if video && t.packet == packetMeta {
			return t, false, nil
		}
		return t, false, errShortTag
	}
	t.fourCC, t.body = string(b[:4]), b[4:]
	return t, true, nil
}

// modEx reads one modifier and the packet type behind it.
func (d *demux) modEx(b []byte, t *exTag) ([]byte, error) {
	if len(b) < 1 {
		return nil, errShortTag
	}
	size := int(b[0]) + 1
	b = b[1:]
	if size == 256 {
		if len(b) < 2 {
			return nil, errShortTag
		}
		size = int(binary.BigEndian.Uint16(b)) + 1
		b = b[2:]
	}
	if len(b) < size+1 {
		return nil, errShortTag
	}
	data, kind := b[:size], b[size]>>4
	t.packet = b[size] & 0x0f
	switch {
	case kind != modExNanoseconds:
		d.skip(skipModEx)
	case size < 3:
		return nil, errShortTag
	default:
		t.nanos = min(uint32(data[0])<<16|uint32(data[1])<<8|uint32(data[2]), maxNanoseconds)
	}
	return b[size+1:], nil
}

// trackZero finds track 0 among the tracks of a tag; the others are passed over.
func (d *demux) trackZero(b []byte, t exTag) (exTag, bool, error) {
	if len(b) < 1 {
		return t, false, errShortTag
	}
	kind := b[0] >> 4
	t.packet, b = b[0]&0x0f, b[1:]
	if kind > tracksManyCodecs {
		d.skip(skipTrack)
		return t, false, nil
	}
	if kind != tracksManyCodecs {
		if len(b) < 4 {
			return t, false, errShortTag
		}
		t.fourCC, b = string(b[:4]), b[4:]
	}
	found, fourCC := false, t.fourCC
	for len(b) > 0 {
		if kind == tracksManyCodecs {
			if len(b) < 4 {
				return t, false, errShortTag
			}
			fourCC, b = string(b[:4]), b[4:]
		}
		if len(b) < 1 {
			return t, false, errShortTag
		}
		id, size := b[0], len(b)-1
		b = b[1:]
		if kind != trackOne {
			if len(b) < 3 {
				return t, false, errShortTag
			}
			size = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
			b = b[3:]
			if size > len(b) {
				return t, false, errShortTag
			}
		}
		if id == 0 && !found {
			t.body, t.fourCC, found = b[:size:size], fourCC, true
		} else {
			d.skip(skipTrack)
		}
		b = b[size:]
	}
	return t, found, nil
}
