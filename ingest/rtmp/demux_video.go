package rtmp

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
)

// videoDemux is what is known of the video track.
type videoDemux struct {
	cfg        *cut.VideoConfig // nil until it is complete
	partial    cut.VideoConfig  // what has come of it
	lengthSize int
	marks      cut.MarkReader
}

func (d *demux) videoTag(b []byte, ts uint32, now time.Time) (taken, error) {
	if len(b) < 1 {
		return taken{}, nil
	}
	if b[0]&0x80 != 0 {
		return d.videoExTag(b, ts, now)
	}
	if b[0]>>4 == frameTypeCommand { // not a picture
		return taken{}, nil
	}
	codec := cut.H264
	switch id := b[0] & 0x0f; id {
	case 7:
	case 12: // of some vendors, from before there were FourCCs
		codec = cut.H265
	default:
		return taken{}, notTaken(codecName(videoCodecs, "video", id))
	}
	if len(b) < 5 {
		return taken{}, errShortTag
	}
	switch b[1] {
	case packetConfig:
		return d.videoConfig(codec, b[5:])
	case packetFrames:
		return d.videoFrame(codec, b[5:], ts, int24(b[2:]), 0, now)
	}
	return taken{}, nil
}

var videoFourCCs = map[string]cut.Codec{"avc1": cut.H264, "hvc1": cut.H265, "av01": cut.AV1}

func (d *demux) videoExTag(b []byte, ts uint32, now time.Time) (taken, error) {
	if b[0]>>4&7 == frameTypeCommand && b[0]&0x0f != packetMeta {
		return taken{}, nil
	}
	t, found, err := d.readEx(b, packetVideoMulti, true)
	if err != nil || !found {
		return taken{}, err
	}
	if t.packet == packetMeta { // colorInfo: the bitstream says it too
		d.skip(skipColourInfo)
		return taken{}, nil
	}
	codec, ok := videoFourCCs[t.fourCC]
	if !ok {
		return taken{}, notTaken(fourCC(t.fourCC))
	}
	switch t.packet {
	case packetConfig:
		return d.videoConfig(codec, t.body)
	case packetFrames:
		if codec == cut.AV1 { // has no composition times
			return d.videoFrame(codec, t.body, ts, 0, t.nanos, now)
		}
		if len(t.body) < 3 {
			return taken{}, errShortTag
		}
		return d.videoFrame(codec, t.body[3:], ts, int24(t.body), t.nanos, now)
	case packetFramesX:
		return d.videoFrame(codec, t.body, ts, 0, t.nanos, now)
	}
	return taken{}, nil // packetEnd, packetTSConfig (the sequence header comes in band), and what is not known
}

func int24(b []byte) int32 {
	return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8
}

func (d *demux) videoConfig(codec cut.Codec, b []byte) (taken, error) {
	if len(b) == 0 { // announces nothing
		return taken{}, nil
	}
	var c cut.VideoConfig
	var size int
	var err error
	switch codec {
	case cut.H264:
		c, size, err = readAVCC(b)
	case cut.H265:
		c, size, err = readHVCC(b)
	default:
		c, err = readAV1C(b)
	}
	if err != nil {
		return taken{}, badConfig(map[cut.Codec]string{cut.H264: "H.264", cut.H265: "HEVC", cut.AV1: "AV1"}[codec], err)
	}
	d.video.lengthSize = size
	return taken{config: d.setVideo(c.Clone())}, nil
}

// setVideo takes over a configuration and tells whether it is complete and differs from the one before.
func (d *demux) setVideo(c cut.VideoConfig) bool {
	v := &d.video
	if v.cfg != nil && v.cfg.Equal(&c) {
		return false
	}
	v.partial = c
	if !c.Complete() { // the rest comes in band
		return false
	}
	v.cfg = &c
	v.marks.Configure(&c)
	return true
}

func (d *demux) videoFrame(codec cut.Codec, au []byte, ts uint32, cts int32, nanos uint32, now time.Time) (taken, error) {
	v := &d.video
	if v.partial.Codec != codec {
		if codec != cut.AV1 {
			return taken{}, nil // nothing can be made of it before its configuration
		}
		v.partial = cut.VideoConfig{Codec: codec} // says everything in band
	}
	a, err := v.marks.ParseVideo(codec, au, v.lengthSize)
	if err != nil {
		return taken{}, err
	}
	t := taken{frame: cut.Frame{
		DTSUs: d.clock.Next(false, uint64(ts)), CTSUs: int64(cts) * 1000, Key: a.Key, Data: a.Data, ArrivedUs: now.UnixMicro(),
	}, video: a.Picture}
	if cts == 0 {
		t.frame.DTSUs += int64(nanos / 1000)
	} else {
		t.frame.CTSUs += int64(nanos / 1000)
	}
	if a.Key {
		c := v.partial
		if c.Update(&a) {
			t.config = d.setVideo(c)
		}
	}
	if v.cfg == nil {
		return taken{}, nil
	}
	if a.Mark.Known() {
		a.Mark.Apply(&t.frame)
	} else {
		d.meta.mark(&t.frame)
	}
	return t, nil
}

// sets reads n parameter sets with 16-bit lengths and gives what follows them.
func sets(b []byte, n int) (out [][]byte, rest []byte, err error) {
	for range n {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, nil, errRecord
		}
		k := int(binary.BigEndian.Uint16(b))
		if k > 0 {
			out = append(out, b[2:2+k])
		}
		b = b[2+k:]
	}
	return out, b, nil
}

// readAVCC reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
func readAVCC(b []byte) (c cut.VideoConfig, lengthSize int, err error) {
	if len(b) < 7 || b[0] != 1 {
		return c, 0, fmt.Errorf("not an AVC decoder configuration")
	}
	sps, rest, err := sets(b[6:], int(b[5]&0x1f))
	if err != nil || len(rest) < 1 {
		return c, 0, errRecord
	}
	pps, _, err := sets(rest[1:], int(rest[0]))
	if err != nil {
		return c, 0, err
	}
	if len(sps) > 1 {
		return c, 0, fmt.Errorf("%d sequence parameter sets: one is taken", len(sps))
	}
	c.Codec = cut.H264
	if len(sps) > 0 {
		c.SPS = sps[0]
	}
	if len(pps) > 0 {
		c.PPS, c.MorePPS = pps[0], pps[1:]
	}
	return c, int(b[4]&3) + 1, nil
}

// readHVCC reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1).
func readHVCC(b []byte) (c cut.VideoConfig, lengthSize int, err error) {
	if len(b) < 23 || b[0] > 1 { // some write version 0
		return c, 0, fmt.Errorf("not an HEVC decoder configuration")
	}
	c.Codec, lengthSize = cut.H265, int(b[21]&3)+1
	arrays, rest := int(b[22]), b[23:]
	for range arrays {
		if len(rest) < 3 {
			return c, 0, errRecord
		}
		typ, n := rest[0]&0x3f, int(binary.BigEndian.Uint16(rest[1:]))
		var units [][]byte
		if units, rest, err = sets(rest[3:], n); err != nil {
			return c, 0, err
		}
		if len(units) == 0 {
			continue
		}
		switch typ {
		case 32:
			c.VPS = units[0]
		case 33:
			c.SPS = units[0]
		case 34:
			c.PPS, c.MorePPS = units[0], units[1:]
		}
		if len(units) > 1 && (typ == 32 || typ == 33) {
			return c, 0, fmt.Errorf("%d parameter sets of type %d: one is taken", len(units), typ)
		}
	}
	return c, lengthSize, nil
}

// readAV1C reads an AV1CodecConfigurationRecord (AV1 in ISOBMFF, 2.3.3); the sequence header may be missing.
func readAV1C(b []byte) (c cut.VideoConfig, err error) {
	if len(b) < 4 || b[0] != 0x81 {
		return c, fmt.Errorf("not an AV1 codec configuration")
	}
	c.Codec = cut.AV1
	a, err := cut.ParseVideo(cut.AV1, append([]byte(nil), b[4:]...), 0)
	if err != nil {
		return c, err
	}
	c.SequenceHeader = a.SequenceHeader
	return c, nil
}
