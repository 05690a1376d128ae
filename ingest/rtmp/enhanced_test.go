package rtmp_test

import (
	"encoding/binary"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/cut/cuttest"
	"github.com/spillway-live/spillway/schemas"
)

// clipStep is the longest distance of decode times in the clips, by track.
var clipStep = map[schemas.Track]float64{schemas.Video: 0.0421, schemas.Audio: 0.0243}

// TestEnhancedPublisher publishes with another implementation of Enhanced RTMP.
func TestEnhancedPublisher(t *testing.T) {
	for name, tc := range map[string]struct {
		video, audio []string
		want         string
	}{
		"HEVC with B-frames and Opus": {cuttest.H265, cuttest.Opus, "hvc1 opus"},
		"AV1 and Opus":                {cuttest.AV1, cuttest.Opus, "av01 opus"},
		"Opus alone":                  {nil, cuttest.Opus, "opus"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clip := cuttest.Encode(t, 5, tc.video, tc.audio)
			e := start(t, schemas.BusSettings{}, nil)
			publishEnhanced(t, e, clip)
			e.checkClip(clip, tc.want)
		})
	}
}

// checkClip looks at what came out of a clip in a single epoch.
func (e *env) checkClip(clip *cuttest.Clip, want string) {
	e.t.Helper()
	e.waitEnd(demo)
	r := e.record(demo)
	if len(r.opens) != 1 {
		e.t.Fatalf("%d epochs", len(r.opens))
	}
	got, frames := "", map[schemas.Track]int{schemas.Video: len(clip.Video), schemas.Audio: len(clip.Audio)}
	for _, tr := range r.opens[0].Tracks {
		name, _, _ := strings.Cut(tr.Codec, ".")
		got += " " + name
	}
	if strings.TrimSpace(got) != want {
		e.t.Errorf("tracks %s, want %s", got, want)
	}
	if len(clip.Video) > 0 && len(clip.Audio) > 0 { // sound before the first picture is left out
		frames[schemas.Audio] -= int(clip.Video[0].CTSUs / 20_000)
	}
	e.decode(r, r.opens[0], frames, clipStep)
}

func publishEnhanced(t *testing.T, e *env, clip *cuttest.Clip) {
	t.Helper()
	u, err := url.Parse(e.url("live#demo"))
	if err != nil {
		t.Fatal(err)
	}
	c := &gortmplib.Client{URL: u, Publish: true}
	if err := c.Initialize(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &gortmplib.Writer{Conn: c}
	var video, audio *gortmplib.Track
	if v := clip.VideoConfig; v != nil {
		video = &gortmplib.Track{Codec: &codecs.AV1{}}
		if v.Codec == cut.H265 {
			video.Codec = &codecs.H265{VPS: v.VPS, SPS: v.SPS, PPS: v.PPS}
		}
		w.Tracks = append(w.Tracks, video)
	}
	audio = &gortmplib.Track{Codec: &codecs.Opus{IDHeader: &opus.IDHeader{Version: 1, ChannelCount: 2, PreSkip: 312, InputSampleRate: 48000}}}
	w.Tracks = append(w.Tracks, audio)
	if err := w.Initialize(); err != nil {
		t.Fatal(err)
	}
	us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
	merge(clip, func(s *cuttest.Sample, isAudio bool) {
		switch {
		case isAudio:
			err = w.WriteOpus(audio, us(s.DTSUs), s.Data)
		case clip.VideoConfig.Codec == cut.H265:
			var au h264.AVCC
			if err := au.Unmarshal(s.Data); err != nil {
				t.Fatal(err)
			}
			err = w.WriteH265(video, us(s.DTSUs+s.CTSUs), us(s.DTSUs), au)
		default:
			var tu av1.Bitstream
			if err := tu.Unmarshal(s.Data); err != nil {
				t.Fatal(err)
			}
			err = w.WriteAV1(video, us(s.DTSUs), tu)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// merge gives the samples of a clip in the order of their decode times.
func merge(c *cuttest.Clip, f func(s *cuttest.Sample, audio bool)) {
	v, a := c.Video, c.Audio
	for len(v) > 0 || len(a) > 0 {
		if len(a) == 0 || len(v) > 0 && v[0].DTSUs <= a[0].DTSUs {
			f(&v[0], false)
			v = v[1:]
		} else {
			f(&a[0], true)
			a = a[1:]
		}
	}
}

// ex writes tags of Enhanced RTMP v2 by its text.
type ex struct{ b []byte }

func (x ex) u(v ...byte) ex    { return ex{append(x.b, v...)} }
func (x ex) s(v string) ex     { return ex{append(x.b, v...)} }
func (x ex) u24(v uint32) ex   { return x.u(byte(v>>16), byte(v>>8), byte(v)) }
func (x ex) data(v []byte) ex  { return ex{append(x.b, v...)} }
func videoEx(frame, p byte) ex { return ex{[]byte{0x80 | frame<<4 | p}} }
func audioEx(packet byte) ex   { return ex{[]byte{0x90 | packet}} }
func frameType(key bool) byte {
	if key {
		return 1
	}
	return 2
}

func hvcCOf(c *cut.VideoConfig) []byte {
	b := make([]byte, 23)
	b[0], b[21], b[22] = 1, 3, 3
	for i, set := range [][]byte{c.VPS, c.SPS, c.PPS} {
		b = append(b, byte(32+i), 0, 1)
		b = binary.BigEndian.AppendUint16(b, uint16(len(set)))
		b = append(b, set...)
	}
	return b
}

// TestEnhancedTags sends every kind of tag that is taken, and those that are passed over.
func TestEnhancedTags(t *testing.T) {
	clip := cuttest.Encode(t, 4, cuttest.H265, cuttest.Opus)
	head := append([]byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00"), 0) // little-endian, as RFC 7845 has it
	cts := func(x ex, s *cuttest.Sample) ex { return x.u24(uint32((s.DTSUs+s.CTSUs)/1000 - s.DTSUs/1000)) }
	for name, tc := range map[string]struct {
		videoConfig, audioConfig []byte
		video, audio             func(s *cuttest.Sample) []byte
		skipped                  bool
	}{
		"plain": {
			videoConfig: videoEx(1, 0).s("hvc1").data(hvcCOf(clip.VideoConfig)).b,
			audioConfig: audioEx(0).s("Opus").data(head).b,
			video:       func(s *cuttest.Sample) []byte { return cts(videoEx(frameType(s.Key), 1).s("hvc1"), s).data(s.Data).b },
			audio:       func(s *cuttest.Sample) []byte { return audioEx(1).s("Opus").data(s.Data).b },
		},
		"track 0 of several, each in a tag": {
			videoConfig: videoEx(1, 6).u(0x00).s("hvc1").u(0).data(hvcCOf(clip.VideoConfig)).b,
			audioConfig: audioEx(5).u(0x00).s("Opus").u(0).data(head).b,
			video: func(s *cuttest.Sample) []byte {
				return cts(videoEx(frameType(s.Key), 6).u(0x01).s("hvc1").u(0), s).data(s.Data).b
			},
			audio: func(s *cuttest.Sample) []byte { return audioEx(5).u(0x01).s("Opus").u(0).data(s.Data).b },
		},
		"track 0 of several in one tag, of several codecs": {
			videoConfig: videoEx(1, 6).u(0x20).s("vp09").u(1).u24(2).u(9, 9).s("hvc1").u(0).u24(uint32(len(hvcCOf(clip.VideoConfig)))).data(hvcCOf(clip.VideoConfig)).b,
			audioConfig: audioEx(5).u(0x10).s("Opus").u(0).u24(uint32(len(head))).data(head).u(1).u24(1).u(7).b,
			video: func(s *cuttest.Sample) []byte {
				return cts(videoEx(frameType(s.Key), 6).u(0x21).s("hvc1").u(0).u24(uint32(len(s.Data)+3)), s).data(s.Data).s("av01").u(4).u24(1).u(7).b
			},
			audio:   func(s *cuttest.Sample) []byte { return audioEx(1).s("Opus").data(s.Data).b },
			skipped: true,
		},
		"modifiers": {
			videoConfig: videoEx(1, 0).s("hvc1").data(hvcCOf(clip.VideoConfig)).b,
			audioConfig: audioEx(0).s("Opus").data(head).b,
			video: func(s *cuttest.Sample) []byte { // the timestamp's nanoseconds, and a modifier from the future
				return cts(videoEx(frameType(s.Key), 7).u(2).u24(uint32(s.DTSUs%1000)*1000).u(0x07, 0, 42, 0x51).s("hvc1"), s).data(s.Data).b
			},
			audio:   func(s *cuttest.Sample) []byte { return audioEx(7).u(2).u24(0).u(0x01).s("Opus").data(s.Data).b },
			skipped: true,
		},
		"HEVC without a FourCC": {
			videoConfig: append([]byte{0x1c, 0, 0, 0, 0}, hvcCOf(clip.VideoConfig)...),
			audioConfig: audioEx(0).s("Opus").data(head).b,
			video: func(s *cuttest.Sample) []byte {
				return cts(ex{[]byte{frameType(s.Key)<<4 | 12, 1}}, s).data(s.Data).b
			},
			audio: func(s *cuttest.Sample) []byte { return audioEx(1).s("Opus").data(s.Data).b },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, schemas.BusSettings{}, nil)
			p := e.puppet("live#demo")
			p.send(9, 0, tc.videoConfig)
			p.send(8, 0, tc.audioConfig)
			p.send(9, 0, videoEx(1, 4).u(2, 0, 9).s("colorInfo").u(3, 0, 0, 9).b)
			p.send(9, 0, []byte{0x80 | 5<<4 | 1, 0}) // a command
			merge(clip, func(s *cuttest.Sample, audio bool) {
				if ms := uint32(s.DTSUs / 1000); audio {
					p.send(8, ms, tc.audio(s))
				} else {
					p.send(9, ms, tc.video(s))
				}
			})
			p.send(9, 4000, videoEx(1, 2).s("hvc1").b) // the end of the sequence
			p.nc.Close()
			e.checkClip(clip, "hvc1 opus")
			if got := e.counter("spillway_rtmp_skipped_total"); (got > 1) != tc.skipped {
				t.Errorf("%v skipped", got)
			}
		})
	}
}

// TestOtherCodecsAreNamed: what is not taken is refused by its name.
func TestOtherCodecsAreNamed(t *testing.T) {
	e := start(t, schemas.BusSettings{}, nil)
	for _, tc := range []struct {
		typ  byte
		body []byte
		want string
	}{
		{9, videoEx(1, 0).s("vp09").u(1, 2).b, "VP9 is not taken"},
		{9, videoEx(1, 0).s("vvc1").u(1, 2).b, "VVC is not taken"},
		{8, audioEx(0).s("ac-3").u(1, 2).b, "AC-3 is not taken"},
		{8, audioEx(0).s("fLaC").u(1, 2).b, "FLAC is not taken"},
		{9, videoEx(1, 0).s("hvc1").u(1, 2).b, "HEVC configuration: "},
		{9, videoEx(1, 0).s("av01").u(1, 2).b, "AV1 configuration: "},
		{8, audioEx(0).s("Opus").u(1, 2).b, "Opus configuration: "},
		{9, videoEx(1, 0).s("zzzz").u(1, 2).b, "codec \"zzzz\" is not"},
	} {
		p := e.puppet("live#other")
		p.send(tc.typ, 0, tc.body)
		if got := p.answer(); !strings.Contains(got, tc.want) {
			t.Errorf("the publisher is told %q, want %q", got, tc.want)
		}
	}
}

// TestPublishersClock: what a publisher says of its clock is what viewers are told.
func TestPublishersClock(t *testing.T) {
	e := start(t, schemas.BusSettings{}, nil)
	p := e.puppet("live#demo")
	began := time.Now().UnixMicro()
	p.send(9, 0, avcConfig(pps360))
	for i := range uint32(100) {
		sei := cut.ClockMessage(cut.H264, began-5_000_000+int64(i)*40_000, cut.Capture{Synchronised: true, BoundUs: 3000})
		tag := picture(i%50 == 0)
		unit := append(binary.BigEndian.AppendUint32(nil, uint32(len(sei))), sei...)
		p.send(9, i*40, append(append(append([]byte(nil), tag[:5]...), unit...), tag[5:]...))
	}
	p.nc.Close()
	e.waitEnd(demo)
	r := e.record(demo)
	for _, c := range r.chunks {
		for _, f := range c.Fragments {
			want := began - 5_000_000 + int64(f.BaseTime)*1_000_000/int64(f.Timescale)
			if d := f.WallUnixUs - want; c.Clock != schemas.ClockSynced || c.ClockBoundUs > 5_000 || d > c.ClockBoundUs || -d > c.ClockBoundUs {
				t.Fatalf("chunk %d: clock %s, %d us off, bound %d", c.Seq, c.Clock, d, c.ClockBoundUs)
			}
		}
	}
}
