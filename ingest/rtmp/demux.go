package rtmp

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/abema/go-mp4"
	"github.com/bluenviron/gortmplib/pkg/amf0"
	"github.com/bluenviron/gortmplib/pkg/message"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut"
)

// demux reads configurations and frames out of RTMP messages. It knows no bus.
type demux struct {
	clock cut.Unwrap

	meta               bool // onMetaData has come
	wantVideo, wantAud bool // what it announced
	fps                float64
	encoder            string

	sps, pps   []byte
	lengthSize int
	aac        *mpeg4audio.AudioSpecificConfig
	aacRaw     []byte
}

// taken is what one message held.
type taken struct {
	frame  cut.Frame
	video  bool
	audio  bool
	config bool // a configuration that differs from the one before
	end    bool // the publisher says that it is done
}

// refusedError is for what is understood but not taken.
type refusedError struct{ code, reason string }

func (e *refusedError) Error() string { return e.reason }

func notTaken(what string) error {
	return &refusedError{"codec", what + " is not taken yet: publish H.264 video and AAC audio"}
}

func fourCC(f message.FourCC) string {
	names := map[message.FourCC]string{
		message.FourCCAV1: "AV1", message.FourCCVP9: "VP9", message.FourCCHEVC: "HEVC", message.FourCCOpus: "Opus",
		message.FourCCAC3: "AC-3", message.FourCCMP3: "MP3", message.FourCCFLAC: "FLAC",
	}
	if n, ok := names[f]; ok {
		return n
	}
	return fmt.Sprintf("codec %q", string([]byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)}))
}

// take reads a message that arrived at now.
func (d *demux) take(m message.Message, now time.Time) (taken, error) {
	switch m := m.(type) {
	case *message.Video:
		if m.Codec != message.CodecH264 {
			return taken{}, notTaken("HEVC")
		}
		switch m.Type {
		case message.VideoTypeConfig:
			return d.videoConfig(m.AVCConfig)
		case message.VideoTypeAU:
			return d.video(m.AU, m.DTS, m.PTSDelta, now)
		}
	case *message.VideoExSequenceStart:
		if m.FourCC != message.FourCCAVC {
			return taken{}, notTaken(fourCC(m.FourCC))
		}
		return d.videoConfig(m.AVCConfig)
	case *message.VideoExCodedFrames:
		if m.FourCC != message.FourCCAVC {
			return taken{}, notTaken(fourCC(m.FourCC))
		}
		return d.video(m.Payload, m.DTS, m.PTSDelta, now)
	case *message.VideoExFramesX:
		if m.FourCC != message.FourCCAVC {
			return taken{}, notTaken(fourCC(m.FourCC))
		}
		return d.video(m.Payload, m.DTS, 0, now)
	case *message.VideoExMultitrack, *message.AudioExMultitrack:
		return taken{}, notTaken("more than one track of a kind (multitrack)")
	case *message.Audio:
		if m.Codec != message.CodecMPEG4Audio {
			return taken{}, notTaken(map[uint8]string{
				message.CodecMPEG1Audio: "MP3", message.CodecLPCM: "PCM", message.CodecPCMA: "G.711", message.CodecPCMU: "G.711",
			}[m.Codec])
		}
		if m.AACType == message.AudioAACTypeConfig {
			return d.audioConfig(m.AACConfig)
		}
		return d.audio(m.AU, m.DTS, now)
	case *message.AudioExSequenceStart:
		if m.FourCC != message.FourCCMP4A {
			return taken{}, notTaken(fourCC(m.FourCC))
		}
		return d.audioConfig(m.AACConfig)
	case *message.AudioExCodedFrames:
		if m.FourCC != message.FourCCMP4A {
			return taken{}, notTaken(fourCC(m.FourCC))
		}
		return d.audio(m.Payload, m.DTS, now)
	case *message.DataAMF0:
		d.metadata(m.Payload)
	case *message.CommandAMF0:
		switch m.Name {
		case "FCUnpublish", "deleteStream", "closeStream":
			return taken{end: true}, nil
		}
	}
	return taken{}, nil
}

func (d *demux) videoConfig(c *mp4.AVCDecoderConfiguration) (taken, error) {
	if c == nil { // an empty configuration announces nothing
		return taken{}, nil
	}
	sps, pps := c.SequenceParameterSets[0].NALUnit, c.PictureParameterSets[0].NALUnit
	d.lengthSize = int(c.LengthSizeMinusOne) + 1
	return taken{config: d.setVideo(sps, pps)}, nil
}

func (d *demux) setVideo(sps, pps []byte) bool {
	if bytes.Equal(sps, d.sps) && bytes.Equal(pps, d.pps) {
		return false
	}
	d.sps, d.pps = bytes.Clone(sps), bytes.Clone(pps)
	return true
}

func (d *demux) audioConfig(c *mpeg4audio.AudioSpecificConfig) (taken, error) {
	if c == nil {
		return taken{}, nil
	}
	raw, err := c.Marshal()
	if err != nil {
		return taken{}, &refusedError{"codec", fmt.Sprintf("AAC configuration: %v", err)}
	}
	if bytes.Equal(raw, d.aacRaw) {
		return taken{}, nil
	}
	d.aac, d.aacRaw = c, raw
	return taken{config: true}, nil
}

func (d *demux) video(au []byte, dts, cts time.Duration, now time.Time) (taken, error) {
	if d.sps == nil {
		return taken{}, nil // nothing can be made of it before its configuration
	}
	a, err := cut.ParseAVC(au, d.lengthSize)
	if err != nil {
		return taken{}, err
	}
	t := taken{frame: cut.Frame{
		DTSMs: d.clock.Next(false, uint32(dts/time.Millisecond)), CTSMs: int32(cts / time.Millisecond),
		Key: a.Key, Data: a.Data, ArrivedUs: now.UnixMicro(),
	}, video: a.Picture}
	if a.Key && (a.SPS != nil || a.PPS != nil) {
		sps, pps := a.SPS, a.PPS
		if sps == nil {
			sps = d.sps
		}
		if pps == nil {
			pps = d.pps
		}
		t.config = d.setVideo(sps, pps)
	}
	return t, nil
}

func (d *demux) audio(au []byte, dts time.Duration, now time.Time) (taken, error) {
	if d.aac == nil {
		return taken{}, nil
	}
	return taken{frame: cut.Frame{
		DTSMs: d.clock.Next(true, uint32(dts/time.Millisecond)), Key: true, Data: au, ArrivedUs: now.UnixMicro(),
	}, audio: true}, nil
}

// metadata reads onMetaData, sent with or without @setDataFrame before it.
func (d *demux) metadata(p amf0.Data) {
	if len(p) > 0 && p[0] == "@setDataFrame" {
		p = p[1:]
	}
	if len(p) < 2 || p[0] != "onMetaData" {
		return
	}
	var o amf0.Object
	switch v := p[1].(type) {
	case amf0.Object:
		o = v
	case amf0.ECMAArray:
		o = amf0.Object(v)
	default:
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
		d.encoder = e[:min(len(e), 100)]
	}
}

// readError turns a codec error of the RTMP library into a refusal.
func readError(err error) error {
	var r *refusedError
	if errors.As(err, &r) {
		return err
	}
	text := err.Error()
	for _, s := range []string{"unsupported video codec", "unsupported audio codec", "unsupported fourCC", "unsupported object type"} {
		if i := bytes.Index([]byte(text), []byte(s)); i >= 0 {
			return &refusedError{"codec", fmt.Sprintf("%s: publish H.264 video and AAC audio", text)}
		}
	}
	for _, s := range []string{"unable to parse H264 config", "unable to parse MPEG4 audio config", "invalid H264 configuration"} {
		if bytes.Contains([]byte(text), []byte(s)) {
			return &refusedError{"codec", text}
		}
	}
	if bytes.Contains([]byte(text), []byte("exceeds maximum")) {
		return &refusedError{"too_large", "a message is larger than 10 MiB: " + text}
	}
	return err
}
