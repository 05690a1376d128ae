package cut_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/ingest/cut/cuttest"
	"github.com/spillway-live/spillway/schemas"
)

const epoch0 = int64(1_700_000_000_000_000)

// cutClip cuts a clip with timestamps of RTMP's resolution or of microseconds and
// gives each track's init segment and fragments.
func cutClip(t *testing.T, c *cuttest.Clip, grainUs int64) (map[schemas.Track][]byte, *cutcheck.Checker, []*cut.Track) {
	t.Helper()
	media := map[schemas.Track][]byte{}
	check := &cutcheck.Checker{}
	s := cut.Settings{App: "live", Stream: "test", Rendition: "src", Epoch: 1, GrainUs: grainUs}
	var tracks []*cut.Track
	var err error
	if c.VideoConfig != nil {
		if s.Video, err = cut.NewVideoTrack(c.VideoConfig, 200_000); err != nil {
			t.Fatal(err)
		}
		tracks = append(tracks, s.Video)
	}
	if c.AudioConfig != nil {
		if s.Audio, err = cut.NewAudioTrack(c.AudioConfig, 200_000); err != nil {
			t.Fatal(err)
		}
		if s.Video != nil {
			s.Audio.BesideVideo(s.Video.Info.PartTargetUs)
		}
		tracks = append(tracks, s.Audio)
	}
	open := &schemas.EpochOpen{Epoch: 1}
	for _, tr := range tracks {
		media[tr.Info.Track] = bytes.Clone(tr.Init)
		open.Tracks = append(open.Tracks, tr.Info)
	}
	if err := check.Open(open); err != nil {
		t.Fatal(err)
	}
	s.Emit = func(ch *schemas.Chunk, p []byte) {
		if err := check.Chunk(ch, p); err != nil {
			t.Fatal(err)
		}
		for _, f := range ch.Fragments {
			media[f.Track] = append(media[f.Track], p[f.Offset:f.Offset+f.Size]...)
		}
	}
	cutter, err := cut.New(s)
	if err != nil {
		t.Fatal(err)
	}
	round := func(us int64) int64 { return us / grainUs * grainUs }
	v, a := c.Video, c.Audio
	for len(v) > 0 || len(a) > 0 {
		if len(a) == 0 || len(v) > 0 && v[0].DTSUs <= a[0].DTSUs {
			f := v[0].Frame(epoch0 + v[0].DTSUs)
			u, err := cut.ParseVideo(c.VideoConfig.Codec, f.Data, 4)
			if err != nil {
				t.Fatal(err)
			}
			if u.Key != v[0].Key || !u.Picture {
				t.Fatalf("access unit %d: key %t, picture %t; the file says key %t", len(c.Video)-len(v), u.Key, u.Picture, v[0].Key)
			}
			f.Data, f.DTSUs, f.CTSUs = u.Data, round(f.DTSUs), round(f.DTSUs+f.CTSUs)-round(f.DTSUs)
			if err := cutter.Video(f); err != nil {
				t.Fatal(err)
			}
			v = v[1:]
			continue
		}
		f := a[0].Frame(epoch0 + a[0].DTSUs)
		f.DTSUs = round(f.DTSUs)
		if err := cutter.Audio(f); err != nil {
			t.Fatal(err)
		}
		a = a[1:]
	}
	cutter.Finish()
	return media, check, tracks
}

// decode has ffmpeg decode a file, and gives how many frames came out. It must have nothing to say.
func decode(t *testing.T, data []byte) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.mp4")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-i", file, "-f", "null", "-").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("ffmpeg: %v: %s", err, out)
	}
	out, err := exec.Command("ffprobe", "-loglevel", "warning", "-show_entries", "frame=pts", "-of", "csv=p=0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("ffprobe: %v: %s", err, out)
	}
	return len(strings.Fields(string(out)))
}

func TestCodecs(t *testing.T) {
	with := func(args []string, more ...string) []string { return append(append([]string(nil), args...), more...) }
	for name, tc := range map[string]struct {
		video, audio           []string
		videoCodec, audioCodec string // patterns
	}{
		"H.264 baseline":      {video: with(cuttest.H264, "-profile:v", "baseline", "-bf", "0"), videoCodec: `avc1\.42c0[0-9a-f]{2}`},
		"H.264 main, B":       {video: with(cuttest.H264, "-profile:v", "main"), audio: cuttest.AAC, videoCodec: `avc1\.4d40[0-9a-f]{2}`, audioCodec: `mp4a\.40\.2`},
		"H.264 high, B, colr": {video: with(cuttest.H264, "-profile:v", "high", "-preset", "fast", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"), videoCodec: `avc1\.6400[0-9a-f]{2}`},
		"H.264 high 10":       {video: with(cuttest.H264, "-pix_fmt", "yuv420p10le"), videoCodec: `avc1\.6e00[0-9a-f]{2}`},
		"H.264 high 4:4:4":    {video: with(cuttest.H264, "-pix_fmt", "yuv444p"), videoCodec: `avc1\.f400[0-9a-f]{2}`},
		"H.265, B, Opus":      {video: cuttest.H265, audio: cuttest.Opus, videoCodec: `hvc1\.1\.6\.L60\.90`, audioCodec: "opus"},
		"H.265, open GOP":     {video: with(cuttest.H265, "-x265-params", "log-level=error:bframes=3:keyint=25:min-keyint=25:scenecut=0:open-gop=1"), videoCodec: `hvc1\.1\.6\.L60\.90`},
		"H.265 main 10":       {video: with(cuttest.H265, "-pix_fmt", "yuv420p10le"), videoCodec: `hvc1\.2\.4\.L60\.90`},
		"AV1, Opus":           {video: cuttest.AV1, audio: cuttest.Opus, videoCodec: `av01\.0\.0\dM\.08(\..*)?`, audioCodec: "opus"},
		"AV1 10 bit":          {video: with(cuttest.AV1, "-pix_fmt", "yuv420p10le"), videoCodec: `av01\.0\.0\dM\.10(\..*)?`},
		"Opus 10 ms alone":    {audio: with(cuttest.Opus, "-frame_duration", "10"), audioCodec: "opus"},
		"Opus 60 ms alone":    {audio: with(cuttest.Opus, "-frame_duration", "60"), audioCodec: "opus"},
		"Opus 5.1":            {audio: with(cuttest.Opus, "-af", "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0", "-ac", "6", "-mapping_family", "1"), audioCodec: "opus"},
		"AAC alone":           {audio: cuttest.AAC, audioCodec: `mp4a\.40\.2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clip := cuttest.Encode(t, 3, tc.video, tc.audio)
			for _, grain := range []int64{1000, 11} {
				media, check, tracks := cutClip(t, clip, grain)
				for _, tr := range tracks {
					want, pattern, less := len(clip.Video), tc.videoCodec, 0
					if tr.Info.Track == schemas.Audio {
						want, pattern = len(clip.Audio), tc.audioCodec
						if len(clip.Video) > 0 { // what is heard before the first picture is left out
							less = int(clip.Video[0].CTSUs/20_000) + 1
						}
					}
					if !regexp.MustCompile("^" + pattern + "$").MatchString(tr.Info.Codec) {
						t.Errorf("codec string %s, want %s", tr.Info.Codec, pattern)
					}
					_, err := mp4.DecodeFile(bytes.NewReader(tr.Init))
					if err != nil {
						t.Fatalf("init segment: %v", err)
					}
					if colour := strings.HasSuffix(name, "colr"); tr.Info.Track == schemas.Video && colour {
						if !bytes.Contains(tr.Init, []byte("colrnclx\x00\x01\x00\x01\x00\x01\x00")) {
							t.Error("no colour information")
						}
					}
					if got := check.Tracks[tr.Info.Track].Samples; got < want-less || got > want {
						t.Errorf("grain %d: %d %s samples of %d came out", grain, got, tr.Info.Track, want)
					}
					if st := check.Tracks[tr.Info.Track]; st.HolesUs > 2000 || st.Short > 2 {
						t.Errorf("grain %d: %+v", grain, st)
					}
					if grain != 1000 {
						continue
					}
					if got := decode(t, media[tr.Info.Track]); got < want-less-1 || got > want {
						t.Errorf("grain %d: %d %s frames of %d are decoded", grain, got, tr.Info.Track, want)
					}
				}
			}
		})
	}
}

// BenchmarkParseVideo reads frames of 10.8 kB as publishers send them: nothing is allocated.
func BenchmarkParseVideo(b *testing.B) {
	frame := append([]byte{0, 0, 0x2a, 0x30, 0x41}, make([]byte, 0x2a2f)...)
	var marks cut.MarkReader
	b.ReportAllocs()
	for b.Loop() {
		if _, err := marks.ParseVideo(cut.H264, frame, 4); err != nil {
			b.Fatal(err)
		}
	}
}
