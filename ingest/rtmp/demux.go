package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluenviron/gortmplib/pkg/amf0"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
)

// demux reads configurations and frames out of RTMP messages (FLV tags, Adobe FLV 10.1
// annex E; Enhanced RTMP v2 for tags with a FourCC). It knows no bus.
type demux struct {
	clock cut.Unwrap

	meta               bool // onMetaData has come
	wantVideo, wantAud bool // what it announced
	fps                float64
	encoder            string

	videoCfg   *cut.VideoConfig // nil until it has come
	audioCfg   *cut.AudioConfig
	lengthSize int
	audioRaw   []byte
}

// taken is what one message held.
type taken struct {
	frame  cut.Frame
	video  bool
	audio  bool
	config bool // a configuration that differs from the one before
	end    bool // the publisher says that it is done
}

func notTaken(what string) error {
	return publish.Refuse("codec", what+" is not taken yet: publish H.264 video and AAC audio")
}

func badConfig(what string, err error) error {
	return publish.Refuse("codec", fmt.Sprintf("%s configuration: %v", what, err))
}

var fourCCs = map[string]string{
	"av01": "AV1", "vp09": "VP9", "vp08": "VP8", "hvc1": "HEVC", "vvc1": "VVC",
	"Opus": "Opus", "ac-3": "AC-3", "ec-3": "E-AC-3", ".mp3": "MP3", "fLaC": "FLAC",
}

func fourCC(f string) string {
	if n, ok := fourCCs[f]; ok {
		return n
	}
	return fmt.Sprintf("codec %q", f)
}

var (
	videoCodecs = map[byte]string{2: "Sorenson H.263", 3: "Screen video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen video 2", 12: "HEVC", 13: "AV1"}
	audioCodecs = map[byte]string{
		0: "PCM", 1: "ADPCM", 2: "MP3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser", 7: "G.711", 8: "G.711", 11: "Speex", 14: "MP3",
	}
)

func codecName(names map[byte]string, kind string, id byte) string {
	if n, ok := names[id]; ok {
		return n
	}
	return fmt.Sprintf("%s codec %d", kind, id)
}

// take reads a message that arrived at now. Errors wrap [cut.ErrBitstream] for a
// damaged tag, after which the stream may go on.
func (d *demux) take(m *rawmessage.Message, now time.Time) (taken, error) {
	switch m.Type {
	case typeVideo:
		return d.videoTag(m.Body, timestamp(m), now)
	case typeAudio:
		return d.audioTag(m.Body, timestamp(m), now)
	case typeDataAMF0, typeDataAMF3:
		if v, err := amfOf(m); err == nil { // metadata that cannot be read announces nothing
			d.metadata(v)
		}
	case typeCommandAMF0, typeCommandAMF3:
		c, err := asCommand(m)
		if err != nil {
			return taken{}, err
		}
		if c != nil && (c.name == "FCUnpublish" || c.name == "deleteStream" || c.name == "closeStream") {
			return taken{end: true}, nil
		}
	}
	return taken{}, nil
}

var errShortTag = fmt.Errorf("%w: tag is cut short", cut.ErrBitstream)

// Packet types: of AVC tags, and of tags with a FourCC.
const (
	packetConfig    = 0
	packetFrames    = 1
	packetFramesX   = 3 // without composition time
	packetMeta      = 4
	packetMultitrk  = 6
	packetModEx     = 7
	audioPacketMult = 5
)

func (d *demux) videoTag(b []byte, ts uint32, now time.Time) (taken, error) {
	if len(b) < 1 {
		return taken{}, nil
	}
	if b[0]&0x80 != 0 {
		return d.videoExTag(b, ts, now)
	}
	if b[0]>>4 == 5 { // a command frame, not a picture
		return taken{}, nil
	}
	if id := b[0] & 0x0f; id != 7 {
		return taken{}, notTaken(codecName(videoCodecs, "video", id))
	}
	if len(b) < 5 {
		return taken{}, errShortTag
	}
	switch b[1] {
	case packetConfig:
		return d.videoConfig(b[5:])
	case packetFrames:
		return d.video(b[5:], ts, int24(b[2:]), now)
	}
	return taken{}, nil
}

func (d *demux) videoExTag(b []byte, ts uint32, now time.Time) (taken, error) {
	kind := b[0] & 0x0f
	switch kind {
	case packetMultitrk:
		return taken{}, notTaken("more than one track of a kind (multitrack)")
	case packetModEx:
		return taken{}, notTaken("a video tag with modifiers (ModEx)")
	case packetMeta:
		return taken{}, nil
	}
	if len(b) < 5 {
		return taken{}, errShortTag
	}
	if cc := string(b[1:5]); cc != "avc1" {
		return taken{}, notTaken(fourCC(cc))
	}
	switch kind {
	case packetConfig:
		return d.videoConfig(b[5:])
	case packetFrames:
		if len(b) < 8 {
			return taken{}, errShortTag
		}
		return d.video(b[8:], ts, int24(b[5:]), now)
	case packetFramesX:
		return d.video(b[5:], ts, 0, now)
	}
	return taken{}, nil
}

func int24(b []byte) int32 {
	return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8
}

// videoConfig reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
func (d *demux) videoConfig(b []byte) (taken, error) {
	if len(b) == 0 { // announces nothing
		return taken{}, nil
	}
	bad := func(what string) (taken, error) { return taken{}, badConfig("H.264", errors.New(what)) }
	if len(b) < 7 || b[0] != 1 {
		return bad("not an AVC decoder configuration")
	}
	lengthSize, rest := int(b[4]&3)+1, b[5:]
	sets := func(mask byte) ([][]byte, bool) {
		if len(rest) < 1 {
			return nil, false
		}
		n := int(rest[0] & mask)
		rest = rest[1:]
		var out [][]byte
		for range n {
			if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
				return nil, false
			}
			k := int(binary.BigEndian.Uint16(rest))
			out, rest = append(out, rest[2:2+k]), rest[2+k:]
		}
		return out, true
	}
	sps, ok := sets(0x1f)
	if !ok {
		return bad("sequence parameter sets are cut short")
	}
	pps, ok := sets(0xff)
	if !ok {
		return bad("picture parameter sets are cut short")
	}
	if len(sps) != 1 || len(pps) == 0 {
		return bad(fmt.Sprintf("%d sequence and %d picture parameter sets: one sequence parameter set is taken", len(sps), len(pps)))
	}
	d.lengthSize = lengthSize
	return taken{config: d.setVideo(&cut.VideoConfig{Codec: cut.H264, SPS: sps[0], PPS: pps[0], MorePPS: pps[1:]})}, nil
}

// setVideo takes over a configuration and tells whether it differs from the one before.
func (d *demux) setVideo(c *cut.VideoConfig) bool {
	if d.videoCfg != nil && d.videoCfg.Equal(c) {
		return false
	}
	n := c.Clone()
	d.videoCfg = &n
	return true
}

func (d *demux) video(au []byte, ts uint32, cts int32, now time.Time) (taken, error) {
	if d.videoCfg == nil {
		return taken{}, nil // nothing can be made of it before its configuration
	}
	a, err := cut.ParseVideo(d.videoCfg.Codec, au, d.lengthSize)
	if err != nil {
		return taken{}, err
	}
	t := taken{frame: cut.Frame{
		DTSUs: d.clock.Next(false, uint64(ts)), CTSUs: int64(cts) * 1000, Key: a.Key, Data: a.Data, ArrivedUs: now.UnixMicro(),
	}, video: a.Picture}
	if a.Key {
		t.config = d.videoCfg.Update(&a)
	}
	return t, nil
}

func (d *demux) audioTag(b []byte, ts uint32, now time.Time) (taken, error) {
	if len(b) < 2 {
		return taken{}, nil // some encoders send empty tags
	}
	config, data := false, b[2:]
	switch id := b[0] >> 4; id {
	case 10:
		config = b[1] == packetConfig
	case 9: // with a FourCC
		kind := b[0] & 0x0f
		if kind == audioPacketMult {
			return taken{}, notTaken("more than one track of a kind (multitrack)")
		}
		if kind == packetModEx {
			return taken{}, notTaken("an audio tag with modifiers (ModEx)")
		}
		if len(b) < 5 {
			return taken{}, errShortTag
		}
		if cc := string(b[1:5]); cc != "mp4a" {
			return taken{}, notTaken(fourCC(cc))
		}
		if kind != packetConfig && kind != packetFrames {
			return taken{}, nil
		}
		config, data = kind == packetConfig, b[5:]
	default:
		return taken{}, notTaken(codecName(audioCodecs, "audio", id))
	}
	if config {
		return d.audioConfig(data)
	}
	if d.audioCfg == nil || len(data) == 0 {
		return taken{}, nil
	}
	return taken{frame: cut.Frame{DTSUs: d.clock.Next(true, uint64(ts)), Key: true, Data: data, ArrivedUs: now.UnixMicro()}, audio: true}, nil
}

func (d *demux) audioConfig(b []byte) (taken, error) {
	if len(b) == 0 || bytes.Equal(b, d.audioRaw) {
		return taken{}, nil
	}
	var c mpeg4audio.AudioSpecificConfig
	if err := c.Unmarshal(b); err != nil {
		return taken{}, badConfig("AAC", err)
	}
	d.audioCfg, d.audioRaw = &cut.AudioConfig{Codec: cut.AAC, AAC: &c}, bytes.Clone(b)
	return taken{config: true}, nil
}

// metadata reads onMetaData, sent with or without @setDataFrame before it.
func (d *demux) metadata(p amf0.Data) {
	if len(p) > 0 && p[0] == "@setDataFrame" {
		p = p[1:]
	}
	if len(p) < 2 || p[0] != "onMetaData" {
		return
	}
	o, ok := asObject(p[1])
	if !ok {
		return
	}
	d.meta = true
	announced := func(key string) bool {
		v, ok := o.Get(key)
		if !ok {
			return false
		}
		switch v := v.(type) {
		case float64:
			return v != 0
		case string:
			return v != ""
		}
		return false
	}
	d.wantVideo, d.wantAud = announced("videocodecid"), announced("audiocodecid")
	if f, ok := o.GetFloat64("framerate"); ok {
		d.fps = f
	}
	if e, ok := o.GetString("encoder"); ok {
		d.encoder = strings.ToValidUTF8(e[:min(len(e), 100)], "")
	}
}

// readError puts what is wrong with a message in the words of a refusal.
func readError(err error) error {
	if err != nil && strings.Contains(err.Error(), "body size") {
		return publish.Refuse("too_large", fmt.Sprintf("an RTMP message is too large: %v", err))
	}
	return err
}
