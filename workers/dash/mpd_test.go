package dash_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/dash"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

const zero = 1_790_000_000_123_456

// presentation is a stream whose publisher came back, after 3 s, with NTSC's rate and then a second picture.
func presentation() dash.MPD {
	video := dash.Representation{
		Rendition: "src", Track: schemas.Video, Epoch: 1, InitID: strings.Repeat("a", 32), Codec: "avc1.64001f", BandwidthBps: 2_600_000,
		Width: 1280, Height: 720, FPS: 29.97, Timescale: 90000, FirstMSN: 100,
		Reference: cmaf.ReferenceEncoder,
		Segments:  []dash.Segment{{102, 360000, 180000}, {103, 540000, 180000}, {104, 720000, 90000}},
	}
	audio := dash.Representation{
		Rendition: "src", Track: schemas.Audio, Epoch: 1, InitID: strings.Repeat("b", 32), Codec: "mp4a.40.2", BandwidthBps: 128_000,
		SampleRate: 44100, Channels: 2, Timescale: 44100, FirstMSN: 99,
		Reference: cmaf.ReferenceEncoder,
		Segments:  []dash.Segment{{101, 176128, 88064}, {102, 264192, 90000}, {103, 360000, 44100}},
	}
	m := dash.MPD{WindowUs: 16_000_000}
	m.Periods = append(m.Periods, dash.Period{Epoch: 1, Line: schemas.Line{FirstMSN: 100, ZeroUnixUs: zero}, Ended: true, EndUs: 9_000_000, Sets: []dash.Representation{video, audio}})
	video.Epoch, video.FirstMSN, video.Segments, video.Reference = 2, 107, nil, cmaf.ReferenceCaptured
	audio.Epoch, audio.FirstMSN, audio.Segments, audio.Reference = 2, 106, nil, ""
	low := video
	low.Rendition, low.Width, low.Height, low.BandwidthBps = "360p", 640, 360, 800_000
	m.Periods = append(m.Periods, dash.Period{Epoch: 2, Line: schemas.Line{ID: 3, FirstMSN: 107, StartUs: 4_004_000, ZeroUnixUs: zero + 12_000_000, SegmentUs: 2_002_000},
		Sets: []dash.Representation{video, low, audio}})
	return m
}

func TestGolden(t *testing.T) {
	m := presentation()
	plain := m.Append(nil)
	golden(t, "two_periods.mpd", plain)
	m.Periods = m.Periods[:1]
	golden(t, "timeline.mpd", m.Append(nil))

	s := &dash.Session{
		Location: "http://127.0.0.1:9000/v1/play/live/one/manifest.mpd?s=tok&x=1", SteeringURI: "http://127.0.0.1:9000/v1/steering?s=tok",
		Bases: []dash.Base{{"b", "http://127.0.0.1:9002/t/tok/live/one/"}, {"a", "http://127.0.0.1:9001/t/tok/live/one/"}},
	}
	with, err := dash.WithSession(plain, s, "http://127.0.0.1:9004/v1/clock?form=xsdate")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "session.mpd", with)
	m = presentation()
	m.Session, m.ClockURL = s, "http://127.0.0.1:9004/v1/clock?form=xsdate"
	if direct := m.Append(nil); !bytes.Equal(direct, with) {
		t.Errorf("written at once it is another one:\n%s", direct)
	}
	for _, bad := range []string{"", "<MPD>", string(with)} {
		if _, err := dash.WithSession([]byte(bad), s, ""); err == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
}

// What comes from outside cannot break out of its attribute.
func TestEscapes(t *testing.T) {
	m := presentation()
	m.Periods[0].Sets[0].Codec = `avc1"/><Evil`
	if b := m.Append(nil); bytes.Contains(b, []byte("<Evil")) {
		t.Errorf("%s", b)
	}
}

func BenchmarkAppend(b *testing.B) {
	m := presentation()
	var buf []byte
	for b.Loop() {
		buf = m.Append(buf[:0])
	}
}
