// Package cuttest makes real media for tests: ffmpeg encodes it, and its frames and
// configurations are handed out as a protocol would deliver them.
package cuttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/testenv/need"
)

// Clip is encoded media.
type Clip struct {
	VideoConfig *cut.VideoConfig // nil: no video
	AudioConfig *cut.AudioConfig
	Video       []Sample
	Audio       []Sample
}

// Sample is one access unit, with four-byte NAL lengths or OBU sizes.
type Sample struct {
	Data         []byte
	DTSUs, CTSUs int64
	Key          bool
}

// Frame gives the sample as a cutter takes it, from memory of its own.
func (s *Sample) Frame(arrivedUs int64) cut.Frame {
	return cut.Frame{DTSUs: s.DTSUs, CTSUs: s.CTSUs, Key: s.Key, Data: bytes.Clone(s.Data), ArrivedUs: arrivedUs}
}

// Video and audio encodings for [Encode]: ffmpeg's arguments.
var (
	H264 = []string{"-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "50", "-sc_threshold", "0", "-pix_fmt", "yuv420p"}
	H265 = []string{"-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-pix_fmt", "yuv420p", "-x265-params", "log-level=error:bframes=3:keyint=50:min-keyint=50:scenecut=0:open-gop=0"}
	AV1  = []string{"-c:v", "libsvtav1", "-preset", "12", "-g", "50", "-pix_fmt", "yuv420p", "-svtav1-params", "lookahead=0"}
	AAC  = []string{"-c:a", "aac", "-b:a", "64k"}
	Opus = []string{"-c:a", "libopus", "-b:a", "64k"}
)

// Encode makes a clip of 25 pictures a second, and sound where audio is not nil. It
// skips the test where ffmpeg or the encoder is missing.
func Encode(t testing.TB, seconds int, video, audio []string) *Clip {
	t.Helper()
	need.Program(t, "ffmpeg")
	c := &Clip{}
	if video != nil {
		args := append([]string{"-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-t", fmt.Sprint(seconds)}, video...)
		init, samples := encode(t, args)
		c.VideoConfig, c.Video = videoConfig(t, init), samples
	}
	if audio != nil {
		args := append([]string{"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-ac", "2", "-t", fmt.Sprint(seconds)}, audio...)
		init, samples := encode(t, args)
		c.AudioConfig, c.Audio = audioConfig(t, init), samples
	}
	return c
}

func encode(t testing.TB, args []string) (*mp4.StsdBox, []Sample) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clip.mp4")
	args = append([]string{"-hide_banner", "-loglevel", "error", "-nostdin"}, args...)
	args = append(args, "-threads", "1", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-strict", "-2", file)
	cmd := exec.Command("ffmpeg", args...)
	cmd.Env = append(os.Environ(), "SVT_LOG=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg %q: %v: %s", args, err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mp4.DecodeFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	trak := f.Moov.Trak
	scale := int64(trak.Mdia.Mdhd.Timescale)
	var out []Sample
	for _, s := range f.Segments {
		for _, fr := range s.Fragments {
			full, err := fr.GetFullSamples(f.Moov.Mvex.Trex)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range full {
				dts, pts := int64(s.DecodeTime), int64(s.DecodeTime)+int64(s.CompositionTimeOffset)
				out = append(out, Sample{Data: s.Data, DTSUs: dts * 1_000_000 / scale, CTSUs: pts*1_000_000/scale - dts*1_000_000/scale, Key: s.IsSync()})
			}
		}
	}
	return trak.Mdia.Minf.Stbl.Stsd, out
}

func videoConfig(t testing.TB, s *mp4.StsdBox) *cut.VideoConfig {
	c := &cut.VideoConfig{FPS: 25}
	switch {
	case s.AvcX != nil:
		c.Codec, c.SPS, c.PPS = cut.H264, s.AvcX.AvcC.SPSnalus[0], s.AvcX.AvcC.PPSnalus[0]
	case s.HvcX != nil:
		r := s.HvcX.HvcC.DecConfRec
		c.Codec = cut.H265
		c.VPS, c.SPS, c.PPS = r.GetNalusForType(hevc.NALU_VPS)[0], r.GetNalusForType(hevc.NALU_SPS)[0], r.GetNalusForType(hevc.NALU_PPS)[0]
	case s.Av01 != nil:
		a, err := cut.ParseVideo(cut.AV1, bytes.Clone(s.Av01.Av1C.ConfigOBUs), 0)
		if err != nil {
			t.Fatal(err)
		}
		c.Codec, c.SequenceHeader = cut.AV1, a.SequenceHeader
	default:
		t.Fatal("a clip without a video codec that is known")
	}
	return c
}

func audioConfig(t testing.TB, s *mp4.StsdBox) *cut.AudioConfig {
	for _, c := range s.Children {
		e, ok := c.(*mp4.AudioSampleEntryBox)
		if !ok {
			continue
		}
		if e.Dops != nil {
			return &cut.AudioConfig{Codec: cut.Opus, OpusChannels: int(e.Dops.OutputChannelCount), OpusPreSkip: int(e.Dops.PreSkip)}
		}
		a := &mpeg4audio.AudioSpecificConfig{}
		if err := a.Unmarshal(e.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig); err != nil {
			t.Fatal(err)
		}
		return &cut.AudioConfig{Codec: cut.AAC, AAC: a}
	}
	t.Fatal("a clip without an audio codec that is known")
	return nil
}
