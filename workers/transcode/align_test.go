package transcode

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func TestProbe(t *testing.T) {
	clip := media.Load(t)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	open := p.Open()
	src := &open.Tracks[0]
	rungs := []rung{{"144p", 256, 144, 200_000}, {"90p", 160, 90, 100_000}}
	e := &Encoder{Path: "ffmpeg", Preset: "veryfast", Nice: 5, MaxMemoryBytes: 4 << 30}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	pr, err := e.start(ctx, clip.Init(schemas.Video), src, rungs)
	if err != nil {
		t.Fatal(err)
	}
	defer pr.kill()
	cutters := []*cutter{{}, {}}
	fed := time.Now()
	go func() {
		for i := range 30 {
			c, b := p.Chunk()
			pl, err := plan(c, b, time.Now())
			if err != nil {
				t.Error(err)
			}
			for _, c := range cutters {
				if err := c.expect(pl); err != nil {
					t.Error(err)
				}
			}
			for _, part := range pl.parts {
				b := appendInput(nil, part.samples, func(pts int64) bool {
					return i > 0 && (part.frag.SegmentStart || i == 13) && pts == part.samples[0].pts()
				})
				if _, err := pr.in.Write(b); err != nil {
					t.Error(err)
				}
			}
			fed = time.Now()
			time.Sleep(100 * time.Millisecond)
		}
		pr.in.Close()
	}()
	done := make(chan struct{})
	for i := range rungs {
		go func() {
			defer func() { done <- struct{}{} }()
			s := pr.source(i)
			var init []byte
			var info schemas.TrackInfo
			var all []byte
			for {
				f, err := s.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err, pr.failure())
					return
				}
				if init == nil {
					info, init, err = s.track(src)
					if err != nil {
						t.Error(err)
						return
					}
					t.Logf("%+v", info)
					all = append(all, init...)
				}
				rs, err := cutters[i].frame(f)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range rs {
					c, b, err := r.chunk(rungs[i].name, info.InitID)
					if err != nil {
						t.Error(err)
						return
					}
					t.Logf("%s seq %d %d bytes key %v after %v", rungs[i].name, c.Seq, len(b), c.Fragments[0].Independent, time.Since(fed))
					all = append(all, b...)
				}
			}
			file := filepath.Join(t.TempDir(), "x.mp4")
			os.WriteFile(file, all, 0o644)
			out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames,width,height,time_base,start_pts", file).CombinedOutput()
			t.Logf("%s %v", out, err)
		}()
	}
	<-done
	<-done
	t.Log(pr.failure())
}
