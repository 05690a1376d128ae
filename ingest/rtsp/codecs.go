package rtsp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph265"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpmpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"
	"github.com/pion/rtp"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
)

// codecName is what a format carries, for people: H264, G711 and so on.
func codecName(f format.Format) string { return strings.TrimPrefix(fmt.Sprintf("%T", f), "*format.") }

// newReader gives the reader of a format; nil for one that is not taken.
func newReader(f format.Format, m *metrics) (reader, error) {
	switch f := f.(type) {
	case *format.H264:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		sps, pps := f.SPS, f.PPS
		return &videoReader{m: m, decode: d.Decode, keyNeeded: true,
			newDTS: func() dtsExtractor { d := new(h264.DTSExtractor); d.Initialize(); return d },
			cfg:    cut.VideoConfig{Codec: cut.H264, SPS: sps, PPS: pps}}, nil
	case *format.H265:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		vps, sps, pps := f.VPS, f.SPS, f.PPS
		return &videoReader{m: m, decode: d.Decode, keyNeeded: true,
			newDTS: func() dtsExtractor { d := new(h265.DTSExtractor); d.Initialize(); return d },
			cfg:    cut.VideoConfig{Codec: cut.H265, VPS: vps, SPS: sps, PPS: pps}}, nil
	case *format.MPEG4Audio:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		if f.Config == nil {
			return nil, errors.New("its configuration is missing in the description")
		}
		return &aacReader{d: d, cfg: cut.AudioConfig{Codec: cut.AAC, AAC: f.Config}}, nil
	case *format.Opus:
		return &opusReader{cfg: cut.AudioConfig{Codec: cut.Opus, OpusChannels: f.ChannelCount}}, nil
	}
	return nil, nil
}

type dtsExtractor interface {
	Extract(au [][]byte, pts int64) (int64, error)
}

// videoReader makes frames of H.264 (RFC 6184) and H.265 (RFC 7798).
type videoReader struct {
	m      *metrics
	decode func(*rtp.Packet) ([][]byte, error)
	newDTS func() dtsExtractor
	dts    dtsExtractor
	cfg    cut.VideoConfig
	// told is the configuration that the publication knows.
	told cut.VideoConfig
	// keyNeeded: what comes before the next key frame cannot be decoded.
	keyNeeded bool
}

func (r *videoReader) packet(pkt *rtp.Packet, pts int64, lost bool) ([]cut.Frame, error) {
	if lost {
		r.keyNeeded = true
	}
	units, err := r.decode(pkt)
	switch {
	case errors.Is(err, rtph264.ErrMorePacketsNeeded), errors.Is(err, rtph265.ErrMorePacketsNeeded):
		return nil, nil
	case errors.Is(err, rtph264.ErrNonStartingPacketAndNoPrevious), errors.Is(err, rtph265.ErrNonStartingPacketAndNoPrevious):
		return nil, nil // the rest of a frame whose beginning was lost, or came before us
	case err != nil:
		r.keyNeeded = true
		return nil, err
	}
	n := 0
	for _, u := range units {
		n += 4 + len(u)
	}
	data := make([]byte, 0, n)
	for _, u := range units {
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(u))), u...)
	}
	au, err := cut.ParseVideo(r.cfg.Codec, data, 4)
	if err != nil {
		r.keyNeeded = true
		return nil, err
	}
	if au.Key || !r.cfg.Complete() {
		r.cfg.Update(&au)
	}
	if !au.Picture {
		return nil, nil
	}
	if r.keyNeeded {
		if !au.Key || !r.cfg.Complete() {
			r.m.skipped.Inc()
			return nil, nil
		}
		r.keyNeeded, r.dts = false, r.newDTS()
	}
	dts, err := r.dts.Extract(r.withParameters(&au, units), pts)
	if err != nil {
		r.keyNeeded = true
		return nil, err
	}
	return []cut.Frame{{DTSUs: dts, CTSUs: pts - dts, Key: au.Key, Data: au.Data}}, nil
}

// withParameters puts the parameter sets in front of a key frame whose camera
// sends them in its description only: decode times are computed from them.
func (r *videoReader) withParameters(au *cut.AccessUnit, units [][]byte) [][]byte {
	if !au.Key || au.SPS != nil {
		return units
	}
	var all [][]byte
	if r.cfg.VPS != nil {
		all = append(all, r.cfg.VPS)
	}
	return append(append(all, r.cfg.SPS, r.cfg.PPS), units...)
}

func (r *videoReader) configure(pub *publish.Publication) error {
	if !r.cfg.Complete() || r.told.Equal(&r.cfg) {
		return nil
	}
	if err := pub.Video(&r.cfg); err != nil {
		return err
	}
	r.told = r.cfg.Clone()
	return nil
}

// aacReader makes frames of AAC (RFC 3640).
type aacReader struct {
	d    *rtpmpeg4audio.Decoder
	cfg  cut.AudioConfig
	told bool
}

func (r *aacReader) packet(pkt *rtp.Packet, pts int64, _ bool) ([]cut.Frame, error) {
	units, err := r.d.Decode(pkt)
	if errors.Is(err, rtpmpeg4audio.ErrMorePacketsNeeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]cut.Frame, len(units))
	for i, u := range units {
		out[i] = cut.Frame{DTSUs: pts + int64(i)*mpeg4audio.SamplesPerAccessUnit, Data: u}
	}
	return out, nil
}

func (r *aacReader) configure(pub *publish.Publication) error {
	return configureAudio(pub, &r.cfg, &r.told)
}

// opusReader makes frames of Opus (RFC 7587): one packet, one frame.
type opusReader struct {
	cfg  cut.AudioConfig
	told bool
}

func (r *opusReader) packet(pkt *rtp.Packet, pts int64, _ bool) ([]cut.Frame, error) {
	if len(pkt.Payload) == 0 || opus.PacketDuration2(pkt.Payload) == 0 {
		return nil, errors.New("opus packet without content")
	}
	return []cut.Frame{{DTSUs: pts, Data: append([]byte(nil), pkt.Payload...)}}, nil
}

func (r *opusReader) configure(pub *publish.Publication) error {
	return configureAudio(pub, &r.cfg, &r.told)
}

func configureAudio(pub *publish.Publication, cfg *cut.AudioConfig, told *bool) error {
	if *told {
		return nil
	}
	if err := pub.Audio(cfg); err != nil {
		return err
	}
	*told = true
	return nil
}
