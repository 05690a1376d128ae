package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut"
)

// audioDemux is what is known of the audio track.
type audioDemux struct {
	cfg *cut.AudioConfig // nil until it has come
	raw []byte           // the bytes it was read from
}

func (d *demux) audioTag(b []byte, ts uint32, now time.Time) (taken, error) {
	if len(b) < 2 {
		return taken{}, nil // some encoders send empty tags
	}
	switch id := b[0] >> 4; id {
	case 10:
		if b[1] == packetConfig {
			return d.audioConfig(cut.AAC, b[2:])
		}
		return d.audioFrame(cut.AAC, b[2:], ts, 0, now)
	case 9: // with a FourCC
		return d.audioExTag(b, ts, now)
	default:
		return taken{}, notTaken(codecName(audioCodecs, "audio", id))
	}
}

func (d *demux) audioExTag(b []byte, ts uint32, now time.Time) (taken, error) {
	t, found, err := d.readEx(b, packetAudioMulti, false)
	if err != nil || !found {
		return taken{}, err
	}
	codec, ok := map[string]cut.Codec{"mp4a": cut.AAC, "Opus": cut.Opus}[t.fourCC]
	if !ok {
		return taken{}, notTaken(fourCC(t.fourCC))
	}
	switch t.packet {
	case packetConfig:
		return d.audioConfig(codec, t.body)
	case packetFrames:
		return d.audioFrame(codec, t.body, ts, t.nanos, now)
	case packetMultichan: // the codec's own configuration says how many channels there are
		d.skip(skipChannelLayout)
	}
	return taken{}, nil
}

func (d *demux) audioFrame(codec cut.Codec, data []byte, ts uint32, nanos uint32, now time.Time) (taken, error) {
	if len(data) == 0 {
		return taken{}, nil
	}
	t := taken{audio: true}
	a := &d.audio
	if a.cfg == nil && codec == cut.Opus {
		// Packets say all that stereo needs; 312 samples is what encoders put in front.
		a.cfg, a.raw = &cut.AudioConfig{Codec: cut.Opus, OpusChannels: 2, OpusPreSkip: 312}, nil
		t.config = true
	}
	if a.cfg == nil || a.cfg.Codec != codec {
		return taken{}, nil
	}
	t.frame = cut.Frame{DTSUs: d.clock.Next(true, uint64(ts)) + int64(nanos/1000), Key: true, Data: data, ArrivedUs: now.UnixMicro()}
	if d.video.cfg == nil {
		d.meta.mark(&t.frame)
	}
	return t, nil
}

func (d *demux) audioConfig(codec cut.Codec, b []byte) (taken, error) {
	a := &d.audio
	if len(b) == 0 || a.cfg != nil && a.cfg.Codec == codec && bytes.Equal(b, a.raw) {
		return taken{}, nil
	}
	c := cut.AudioConfig{Codec: codec}
	if codec == cut.AAC {
		c.AAC = &mpeg4audio.AudioSpecificConfig{}
		if err := c.AAC.Unmarshal(b); err != nil {
			return taken{}, badConfig("AAC", err)
		}
	} else if err := readOpusHead(b, &c); err != nil {
		return taken{}, badConfig("Opus", err)
	}
	same := a.cfg != nil && a.cfg.Equal(&c)
	a.cfg, a.raw = &c, bytes.Clone(b)
	return taken{config: !same}, nil
}

// readOpusHead reads an Opus identification header (RFC 7845, 5.1), with or without its magic signature.
func readOpusHead(b []byte, c *cut.AudioConfig) error {
	b = bytes.TrimPrefix(b, []byte("OpusHead"))
	if len(b) < 11 {
		return errRecord
	}
	if b[0]>>4 != 0 {
		return fmt.Errorf("version %d is not known", b[0])
	}
	c.OpusChannels = int(b[1])
	// Numbers are little-endian, but some libraries write them the other way round.
	var order binary.ByteOrder = binary.LittleEndian
	if rate := binary.BigEndian.Uint32(b[4:]); rate >= 8000 && rate <= 192_000 {
		order = binary.BigEndian
	}
	c.OpusPreSkip = int(order.Uint16(b[2:]))
	if c.OpusChannels < 1 || c.OpusChannels > 8 {
		return fmt.Errorf("%d channels: 1 to 8 are taken", c.OpusChannels)
	}
	if family := b[10]; family > 1 || family == 0 && c.OpusChannels > 2 {
		return errors.New("channel mapping: families 0 (to two channels) and 1 are taken")
	}
	return nil
}
