package transcode

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
)

// reordered gives the init segment of a clip with B-frames, of H.264 or H.265,
// and its fragments of about 200 ms as chunks.
func reordered(t *testing.T, codec ...string) ([]byte, *schemas.TrackInfo, []*planned) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.mp4")
	args := append([]string{"-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=4", "-pix_fmt", "yuv420p"}, codec...)
	args = append(args, "-movflags", "empty_moov+default_base_moof+frag_keyframe", "-frag_duration", "200000", "-use_editlist", "0", "-video_track_timescale", "90000", file)
	if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
		need.Missing(t, "ffmpeg cannot encode it: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	track := &schemas.TrackInfo{Track: schemas.Video, Codec: "avc1", Timescale: 90000, Width: 320, Height: 180, FPS: 30, PartTargetUs: 200_000}
	var init []byte
	var out []*planned
	moof := 0
	msn, part := uint64(0), uint32(0)
	err = boxes(b, func(kind string, body []byte, at int) bool {
		switch kind {
		case "moof":
			moof = at
			if init == nil {
				init = b[:at]
			}
		case "mdat":
			data := b[moof : at+8+len(body)]
			f := schemas.Fragment{Track: schemas.Video, Timescale: 90000, Size: len(data)}
			trun, tfdt := find(data, "moof", "traf", "trun"), find(data, "moof", "traf", "tfdt")
			f.Samples, f.BaseTime = int(binary.BigEndian.Uint32(trun[4:])), binary.BigEndian.Uint64(tfdt[4:])
			f.Duration = uint64(f.Samples) * 3000
			s, err := samplesOf(&f, data)
			if err != nil {
				t.Fatal(err)
			}
			if s[0].key && len(out) > 0 {
				msn, part = msn+1, 0
			}
			f.MSN, f.Part, f.Independent, f.SegmentStart = msn, part, s[0].key, part == 0
			part++
			out = append(out, &planned{
				chunk:   &schemas.Chunk{App: "live", Stream: "one", Epoch: 1, Seq: uint64(len(out)), Fragments: []schemas.Fragment{f}},
				parts:   []plannedPart{{frag: f, samples: s}},
				arrived: time.Now(),
			})
		}
		return true
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("%d fragments: %v", len(out), err)
	}
	return init, track, out
}

// Sources whose frames are decoded in another order than they are shown keep
// their parts, through a real decoder and encoder.
func TestReorderedSources(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string][]string{
		"H.264": {"-c:v", "libx264", "-preset", "fast", "-bf", "3", "-g", "60", "-sc_threshold", "0"},
		"H.265": {"-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", "log-level=error:keyint=60:min-keyint=60:scenecut=0:bframes=3:open-gop=0"},
	} {
		t.Run(name, func(t *testing.T) {
			init, track, chunks := reordered(t, codec...)
			moved := false
			for _, p := range chunks {
				for _, s := range p.parts[0].samples {
					moved = moved || s.cto != p.parts[0].samples[0].cto
				}
			}
			if !moved {
				t.Fatal("the clip has no B-frames")
			}
			e := &Encoder{Path: "ffmpeg", Preset: "veryfast", MaxMemoryBytes: 4 << 30}
			p, err := e.start(t.Context(), init, track, []rung{{"90p", 160, 90, 100_000}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.kill()
			var c cutter
			var m marker
			for _, pl := range chunks {
				m.plan(pl, false)
				if err := c.expect(pl); err != nil {
					t.Fatal(err)
				}
			}
			go func() {
				defer p.in.Close()
				for _, pl := range chunks {
					if _, err := p.in.Write(appendInput(nil, pl.parts[0].samples, func(pts int64) bool { return m.force[pts] })); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			src := p.source(0)
			var file []byte
			made, frames := 0, 0
			for {
				f, err := src.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err, p.failure())
				}
				info, start, err := src.track(track)
				if err != nil {
					t.Fatal(err)
				}
				if file == nil {
					file = start
				}
				done, err := c.frame(f)
				if err != nil {
					t.Fatal(err)
				}
				for i := range done {
					want := done[i].planned.parts[0].frag
					ch, b, err := done[i].chunk("90p", info.InitID)
					if err != nil {
						t.Fatal(err)
					}
					got := ch.Fragments[0]
					if got.BaseTime != want.BaseTime || got.Duration != want.Duration || got.Samples != want.Samples || got.Independent != want.SegmentStart {
						t.Errorf("part %d: %+v, want %+v", made, got, want)
					}
					file = append(file, b...)
					made, frames = made+1, frames+got.Samples
				}
			}
			if made != len(chunks) {
				t.Errorf("%d parts of %d: %v", made, len(chunks), p.failure())
			}
			if n := decode(t, file); n != frames || n != 120 {
				t.Errorf("%d frames decode, there are %d of 120", n, frames)
			}
		})
	}
}
