package ts_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/ts"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// segments gives the tracks of n segments.
func segments(t testing.TB, n int) (video, audio []ts.Track) {
	t.Helper()
	clip := media.Load(t)
	init := func(k schemas.Track) *cmaf.Init {
		i, err := cmaf.ParseInit(clip.Init(k))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	video, audio = make([]ts.Track, n), make([]ts.Track, n)
	for i := range n {
		video[i].Init, audio[i].Init = init(schemas.Video), init(schemas.Audio)
	}
	for range (n + 1) * media.SegmentParts {
		c, payload := p.Chunk()
		for _, f := range c.Fragments {
			if f.MSN >= uint64(n) {
				continue
			}
			to := &video[f.MSN]
			if f.Track == schemas.Audio {
				to = &audio[f.MSN]
			}
			to.Data = append(to.Data, payload[f.Offset:f.Offset+f.Size]...)
		}
	}
	return video, audio
}

// Segments made each by itself make one stream: counters go on, times too, and
// ffmpeg decodes it without a word.
func TestSegmentsJoin(t *testing.T) {
	video, audio := segments(t, 4)
	var all bytes.Buffer
	for i := range video {
		a, err := ts.Mux(&video[i], &audio[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := ts.Mux(&video[i], &audio[i])
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("made twice, segment %d is another one: %v", i, err)
		}
		all.Write(a)
	}
	last := map[int]int{}
	var lastPCR int64
	for b := all.Bytes(); len(b) > 0; b = b[188:] {
		if b[0] != 0x47 {
			t.Fatal("no sync byte")
		}
		id, cc := int(b[1]&0x1f)<<8|int(b[2]), int(b[3]&0xf)
		if b[3]&0x10 != 0 {
			if n, seen := last[id]; seen && cc != (n+1)%16 {
				t.Fatalf("PID %d: counter %d after %d", id, cc, n)
			}
			last[id] = cc
		}
		if b[3]&0x20 != 0 && b[4] > 6 && b[5]&0x10 != 0 {
			pcr := int64(b[6])<<25 | int64(b[7])<<17 | int64(b[8])<<9 | int64(b[9])<<1 | int64(b[10])>>7
			if pcr <= lastPCR || lastPCR > 0 && pcr-lastPCR > 9000 {
				t.Fatalf("PCR %d after %d: not 1 to 100 ms on", pcr, lastPCR)
			}
			lastPCR = pcr
		}
	}
	if len(last) != 4 {
		t.Errorf("PIDs %v", last)
	}
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-hide_banner", "-v", "warning", "-xerror", "-f", "mpegts", "-i", "-", "-f", "null", "-")
	cmd.Stdin = &all
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("ffmpeg: %v\n%s", err, out)
	}
}

func TestOneTrack(t *testing.T) {
	video, audio := segments(t, 1)
	for name, f := range map[string]func() ([]byte, error){
		"picture": func() ([]byte, error) { return ts.Mux(&video[0], nil) },
		"sound":   func() ([]byte, error) { return ts.Mux(nil, &audio[0]) },
	} {
		b, err := f()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "ffmpeg", "-hide_banner", "-v", "warning", "-xerror", "-f", "mpegts", "-i", "-", "-f", "null", "-")
		cmd.Stdin = bytes.NewReader(b)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	video, audio := segments(t, 1)
	for _, i := range []cmaf.Init{{Codec: "av01.0.04M.08"}, {Codec: "opus"}, {Codec: "avc1.64001f", Encrypted: true}, {}} {
		if _, err := ts.Mux(&ts.Track{Init: &i, Data: video[0].Data}, &audio[0]); err == nil || !strings.Contains(err.Error(), "not available as MPEG-TS") {
			t.Errorf("%+v: %v", i, err)
		}
	}
	if _, err := ts.Mux(&ts.Track{Init: video[0].Init, Data: video[0].Data[:1000]}, nil); err == nil {
		t.Error("a broken segment was taken")
	}
	if _, err := ts.Mux(nil, nil); err == nil {
		t.Error("nothing was taken")
	}
}

func BenchmarkMux(b *testing.B) {
	video, audio := segments(b, 1)
	b.SetBytes(int64(len(video[0].Data) + len(audio[0].Data)))
	for b.Loop() {
		if _, err := ts.Mux(&video[0], &audio[0]); err != nil {
			b.Fatal(err)
		}
	}
}
