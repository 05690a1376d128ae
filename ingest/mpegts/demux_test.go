package mpegts_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/mpegts"
)

// clip is four seconds of H.264 and AAC or Opus as ffmpeg writes them.
func clip(t testing.TB, audio ...string) []byte {
	t.Helper()
	args := []string{"-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000",
		"-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2", "-threads", "1"}
	cmd := exec.Command("ffmpeg", append(append(args, audio...), "-f", "mpegts", "-")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, &stderr)
	}
	return b
}

type result struct {
	programs [][]*mpegts.Stream
	units    map[cut.Codec][]*mpegts.Unit
	counters mpegts.Counters
}

// demux feeds b in pieces of n bytes.
func demux(t testing.TB, b []byte, n int) *result {
	t.Helper()
	r := &result{units: map[cut.Codec][]*mpegts.Unit{}}
	d := &mpegts.Demuxer{
		Program: func(s []*mpegts.Stream) error { r.programs = append(r.programs, s); return nil },
		Unit: func(u *mpegts.Unit) error {
			r.units[u.Stream.Codec] = append(r.units[u.Stream.Codec], u)
			return nil
		},
	}
	for len(b) > 0 {
		k := min(n, len(b))
		if err := d.Write(b[:k]); err != nil {
			t.Fatal(err)
		}
		b = b[k:]
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	r.counters = d.Counters()
	return r
}

func TestClip(t *testing.T) {
	b := clip(t, "-c:a", "aac")
	for _, n := range []int{1316, 188, 1000, 7, len(b)} {
		r := demux(t, b, n)
		if len(r.programs) != 1 || len(r.programs[0]) != 2 {
			t.Fatalf("pieces of %d: programs %v", n, r.programs)
		}
		if c := r.counters; c.Lost+c.Broken+c.Skipped > 0 || c.Packets != uint64(len(b)/188) {
			t.Errorf("pieces of %d: %+v", n, c)
		}
		if got := len(r.units[cut.H264]); got != 100 {
			t.Errorf("pieces of %d: %d pictures, want 100", n, got)
		}
		var adts mpegts.ADTS
		frames := 0
		for _, u := range r.units[cut.AAC] {
			f, carried := adts.Next(u.Data)
			if frames += len(f); carried {
				t.Error("ffmpeg's frames do not cross units")
			}
		}
		if want := 4 * 48000 / 1024; frames < want || frames > want+3 || adts.Skipped > 0 {
			t.Errorf("pieces of %d: %d audio frames and %d bytes skipped, want %d", n, frames, adts.Skipped, want)
		}
		for i, u := range r.units[cut.H264] {
			au, err := cut.ParseVideo(cut.H264, u.Data, 0)
			if err != nil || !au.Picture || au.Key != (i%25 == 0) {
				t.Errorf("picture %d: key %v, %v", i, au.Key, err)
			}
		}
	}
}

func TestOpus(t *testing.T) {
	r := demux(t, clip(t, "-c:a", "libopus", "-ac", "2"), 1316)
	if s := r.programs[0][1]; s.Codec != cut.Opus || s.OpusChannels != 2 {
		t.Fatalf("%+v", s)
	}
	us := 0
	for _, u := range r.units[cut.Opus] {
		p, err := mpegts.OpusPackets(u.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range p {
			us += cut.OpusDuration(p) * 1000 / 48
		}
	}
	if us < 3_980_000 || us > 4_040_000 {
		t.Errorf("packets of %d us in all", us)
	}
}

func TestNames(t *testing.T) {
	for args, want := range map[string]string{"mp2": "MPEG-1 audio (MP2 or MP3)", "ac3": "AC-3"} {
		r := demux(t, clip(t, "-c:a", args), 1316)
		if s := r.programs[0][1]; s.Kind != mpegts.Audio || s.Codec != "" || s.Name != want {
			t.Errorf("%s is %+v", args, s)
		}
	}
}

// TestLoss removes packets, and garbles and inserts bytes: every unit that is given is
// one of the original's, and whatever follows a gap says so.
func TestLoss(t *testing.T) {
	b := clip(t, "-c:a", "aac")
	whole := map[string]bool{}
	for _, units := range demux(t, b, 1316).units {
		for _, u := range units {
			whole[fmt.Sprint(u.Stream.PID, u.DTS, u.Data)] = true
		}
	}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var in []byte
		for at := 0; at+188 <= len(b); at += 188 {
			p := bytes.Clone(b[at : at+188])
			switch {
			case at < 188*4: // the tables
			case rnd.IntN(60) == 0:
				continue
			case rnd.IntN(100) == 0:
				p[1] |= 0x80 // damaged, says the receiver
				p[50] ^= 0xff
			case rnd.IntN(100) == 0:
				in = append(in, make([]byte, rnd.IntN(300))...)
			}
			in = append(in, p...)
		}
		r := demux(t, in, 1+rnd.IntN(2000))
		given, marked := 0, 0
		for _, units := range r.units {
			next := uint64(0)
			for _, u := range units {
				given++
				if !whole[fmt.Sprint(u.Stream.PID, u.DTS, u.Data)] {
					t.Errorf("seed %d: a unit of PID %d at %d is none of the original's", seed, u.Stream.PID, u.DTS)
				}
				if u.Lost {
					marked++
				}
				if next != 0 && u.Stream.Codec == cut.H264 && u.DTS != next && !u.Lost {
					t.Errorf("seed %d: a picture is missing before %d, and nothing says so", seed, u.DTS)
				}
				next = u.DTS + 3600
			}
		}
		if given < 20 || marked < 5 || r.counters.Lost == 0 {
			t.Errorf("seed %d: %d units, %d marked, %+v", seed, given, marked, r.counters)
		}
	}
}

// TestProgramChanges: another programme on other PIDs takes over in the middle.
func TestProgramChanges(t *testing.T) {
	a, b := clip(t, "-c:a", "aac"), clip(t, "-c:a", "libopus", "-mpegts_start_pid", "0x200", "-mpegts_pmt_start_pid", "0x1100", "-mpegts_service_id", "7")
	r := demux(t, append(bytes.Clone(a), b...), 1316)
	if len(r.programs) != 2 || r.programs[1][0].PID != 0x200 || r.programs[1][1].Codec != cut.Opus {
		t.Fatalf("programs %v", r.programs)
	}
	if got := len(r.units[cut.H264]); got != 200 {
		t.Errorf("%d pictures, want 200", got)
	}
}

func TestADTSCrossesUnits(t *testing.T) {
	var all []byte
	var starts []int
	for i := range 40 {
		n := 20 + i*7
		starts = append(starts, len(all))
		all = append(all, 0xff, 0xf1, 0x4c, 0x80|byte((7+n)>>11), byte((7+n)>>3), byte((7+n)<<5)|0x1f, 0xfc)
		all = append(all, bytes.Repeat([]byte{byte(i)}, n)...)
	}
	for _, size := range []int{1, 5, 100, 1000} {
		var a mpegts.ADTS
		got := 0
		for at := 0; at < len(all); at += size {
			end := min(at+size, len(all))
			frames, carried := a.Next(all[at:end])
			if len(frames) > 0 && carried != (starts[got] < at) {
				t.Errorf("size %d, frame %d: carried %v", size, got, carried)
			}
			for _, f := range frames {
				if f.Rate != 48000 || f.Channels != 2 || len(f.Data) != 20+got*7 || f.Data[0] != byte(got) {
					t.Fatalf("size %d, frame %d: %+v", size, got, f)
				}
				got++
			}
		}
		if got != 40 || a.Skipped > 0 {
			t.Errorf("size %d: %d frames, %d bytes skipped", size, got, a.Skipped)
		}
	}
}

func FuzzDemux(f *testing.F) {
	if b, err := exec.Command("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=32x32:rate=10", "-f", "lavfi", "-i", "sine=sample_rate=48000",
		"-t", "1", "-c:v", "libx264", "-c:a", "libopus", "-f", "mpegts", "-").Output(); err == nil {
		f.Add(b[:min(len(b), 188*60)], 188)
	}
	f.Add(bytes.Repeat([]byte{0x47, 0x40, 0, 0x10, 0}, 200), 7)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		size := 0
		var adts mpegts.ADTS
		d := &mpegts.Demuxer{Unit: func(u *mpegts.Unit) error {
			size += len(u.Data)
			for _, c := range []cut.Codec{cut.H264, cut.H265} {
				_, _ = cut.ParseVideo(c, bytes.Clone(u.Data), 0)
			}
			frames, _ := adts.Next(u.Data)
			for _, fr := range frames {
				size += len(fr.Data)
			}
			_, _ = mpegts.OpusPackets(u.Data)
			return nil
		}}
		n = 1 + (n%4096+4096)%4096
		total := len(b)
		for len(b) > 0 {
			k := min(n, len(b))
			if err := d.Write(b[:k]); err != nil {
				t.Fatal(err)
			}
			b = b[k:]
		}
		_ = d.Flush()
		if size > 2*total {
			t.Errorf("%d bytes out of %d", size, total)
		}
	})
}
