package camera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sort"
	"strconv"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	tscodecs "github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"
)

// Clip is a few seconds of encoded test picture and tone.
type Clip struct {
	tracks  []clipTrack
	samples []sample // of all tracks, by decode time
	length  time.Duration
}

type clipTrack struct{ format format.Format }

type sample struct {
	track    int
	pts, dts time.Duration
	units    [][]byte
}

// ClipSettings say what a clip is.
type ClipSettings struct {
	// Video is h264 (default), h265 or none; Audio is aac (default), opus, g711 or none.
	Video, Audio string
	// BFrames is the number of B-frames between reference frames.
	BFrames int
}

// clipSeconds is whole in frames, key frames, AAC frames at 48 kHz and Opus packets.
const clipSeconds = 8

// Make encodes a clip with ffmpeg.
func Make(ctx context.Context, s ClipSettings) (*Clip, error) {
	args := []string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", strconv.Itoa(clipSeconds)}
	x := fmt.Sprintf("keyint=25:min-keyint=25:scenecut=0:bframes=%d", s.BFrames)
	switch s.Video {
	case "", "h264":
		args = append(args, "-map", "0:v", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "400k", "-pix_fmt", "yuv420p", "-x264-params", x)
	case "h265":
		args = append(args, "-map", "0:v", "-c:v", "libx265", "-preset", "ultrafast", "-b:v", "400k", "-pix_fmt", "yuv420p", "-x265-params", x+":log-level=none")
	case "none":
	default:
		return nil, fmt.Errorf("clip: video %q is not known", s.Video)
	}
	switch s.Audio {
	case "", "aac":
		args = append(args, "-map", "1:a", "-c:a", "aac", "-b:a", "64k")
	case "opus":
		args = append(args, "-map", "1:a", "-c:a", "libopus", "-b:a", "64k")
	case "g711", "none":
	default:
		return nil, fmt.Errorf("clip: audio %q is not known", s.Audio)
	}
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "ffmpeg", append(args, "-f", "mpegts", "-")...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("clip: ffmpeg: %w: %s", err, errs.String())
	}
	c := &Clip{length: clipSeconds * time.Second}
	if err := c.read(out); err != nil {
		return nil, fmt.Errorf("clip: %w", err)
	}
	if s.Audio == "g711" {
		c.addG711()
	}
	return c, nil
}

func (c *Clip) read(ts []byte) error {
	r := &mpegts.Reader{R: bytes.NewReader(ts)}
	if err := r.Initialize(); err != nil {
		return err
	}
	const clock = 90_000
	at := func(v int64) time.Duration { return time.Duration(v) * time.Second / clock }
	add := func(track int, pts, dts int64, units [][]byte) {
		c.samples = append(c.samples, sample{track, at(pts), at(dts), units})
	}
	for i, t := range r.Tracks() {
		switch k := t.Codec.(type) {
		case *tscodecs.H264:
			f := &format.H264{PayloadTyp: 96, PacketizationMode: 1}
			c.tracks = append(c.tracks, clipTrack{f})
			r.OnDataH264(t, func(pts, dts int64, au [][]byte) error {
				for _, u := range au {
					switch h264.NALUType(u[0] & 0x1f) {
					case h264.NALUTypeSPS:
						f.SPS = u
					case h264.NALUTypePPS:
						f.PPS = u
					}
				}
				add(i, pts, dts, au)
				return nil
			})
		case *tscodecs.H265:
			f := &format.H265{PayloadTyp: 96}
			c.tracks = append(c.tracks, clipTrack{f})
			r.OnDataH265(t, func(pts, dts int64, au [][]byte) error {
				for _, u := range au {
					switch h265.NALUType(u[0] >> 1 & 0x3f) {
					case h265.NALUType_VPS_NUT:
						f.VPS = u
					case h265.NALUType_SPS_NUT:
						f.SPS = u
					case h265.NALUType_PPS_NUT:
						f.PPS = u
					}
				}
				add(i, pts, dts, au)
				return nil
			})
		case *tscodecs.MPEG4Audio:
			c.tracks = append(c.tracks, clipTrack{&format.MPEG4Audio{PayloadTyp: 97, Config: &k.Config, SizeLength: 13, IndexLength: 3, IndexDeltaLength: 3}})
			r.OnDataMPEG4Audio(t, func(pts int64, aus [][]byte) error {
				for j, au := range aus {
					p := pts + int64(j)*1024*clock/int64(k.Config.SampleRate)
					add(i, p, p, [][]byte{au})
				}
				return nil
			})
		case *tscodecs.Opus:
			c.tracks = append(c.tracks, clipTrack{&format.Opus{PayloadTyp: 97, ChannelCount: int(k.Desc.ChannelConfigCode)}})
			r.OnDataOpus(t, func(pts int64, packets [][]byte) error {
				for j, p := range packets {
					q := pts + int64(j)*clock/50
					add(i, q, q, [][]byte{p})
				}
				return nil
			})
		default:
			return fmt.Errorf("ffmpeg wrote a track of %T", k)
		}
	}
	for {
		if err := r.Read(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	return c.settle()
}

// settle begins the clip at zero and orders it by decode time.
func (c *Clip) settle() error {
	if len(c.samples) == 0 {
		return errors.New("ffmpeg wrote nothing")
	}
	sort.SliceStable(c.samples, func(i, j int) bool { return c.samples[i].dts < c.samples[j].dts })
	first := c.samples[0].dts
	for i := range c.samples {
		c.samples[i].pts -= first
		c.samples[i].dts -= first
	}
	// Sound that sticks out at the end would run into the next round.
	for len(c.samples) > 0 && c.samples[len(c.samples)-1].dts >= c.length {
		c.samples = c.samples[:len(c.samples)-1]
	}
	return nil
}

// addG711 adds a track of silence in G.711 µ-law, 20 ms a packet.
func (c *Clip) addG711() {
	i := len(c.tracks)
	c.tracks = append(c.tracks, clipTrack{&format.G711{PayloadTyp: 0, MULaw: true, SampleRate: 8000, ChannelCount: 1}})
	quiet := bytes.Repeat([]byte{0xff}, 160)
	for at := time.Duration(0); at < c.length; at += 20 * time.Millisecond {
		c.samples = append(c.samples, sample{i, at, at, [][]byte{quiet}})
	}
	sort.SliceStable(c.samples, func(i, j int) bool { return c.samples[i].dts < c.samples[j].dts })
}
