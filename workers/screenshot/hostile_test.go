package screenshot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/spillway-live/spillway/testenv/await"
)

// giant gives the init segment of s with an SPS that says it has side x side
// pixels: the smallest of key frames then asks for hundreds of megabytes.
func giant(t *testing.T, s shot, side uint32) []byte {
	t.Helper()
	b := bits{}
	for _, v := range []struct {
		value uint32
		n     int // 0: Exp-Golomb
	}{
		{66, 8}, {0xc0, 8}, {62, 8}, // baseline, level 6.2
		{0, 0}, {0, 0}, {2, 0}, {1, 0}, {0, 1}, // id, frame_num, pic_order_cnt_type, references, gaps
		{side/16 - 1, 0}, {side/16 - 1, 0}, {1, 1}, {1, 1}, {0, 1}, {0, 1}, // macroblocks, frame_mbs_only, direct_8x8, cropping, VUI
	} {
		if v.n == 0 {
			b.putUE(v.value)
		} else {
			b.put(v.value, v.n)
		}
	}
	f, err := mp4.DecodeFile(bytes.NewReader(s.init))
	if err != nil {
		t.Fatal(err)
	}
	f.Init.Moov.Trak.Mdia.Minf.Stbl.Stsd.AvcX.AvcC.SPSnalus = [][]byte{append([]byte{0x67}, escaped(b.end())...)}
	var out bytes.Buffer
	if err := f.Init.Encode(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestGiantPicture: each of the limits alone keeps a decoder from taking what a
// hostile parameter set asks for, and the pool goes on.
func TestGiantPicture(t *testing.T) {
	t.Parallel()
	good := shots(t, "portrait")["portrait"]
	for name, c := range map[string]struct {
		side uint32
		p    *Pool
		want string
	}{
		"size":          {16_384, &Pool{}, "invalid"},
		"pixels":        {12_288, &Pool{}, "invalid"},
		"allocation":    {12_288, &Pool{MaxPixels: 1 << 30}, "get_buffer"},
		"address space": {12_288, &Pool{MaxPixels: 1 << 30, MaxAllocBytes: 4 << 30, MemoryBytes: 512 << 20}, "get_buffer"},
	} {
		p := c.p
		t.Cleanup(p.Close)
		p.Timeout = time.Minute
		img, err := p.Decode(t.Context(), giant(t, good, c.side), good.fragment, 320)
		if err == nil || img != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d x %d pixels: %v, want an error with %q", name, c.side, c.side, err, c.want)
		}
		if err := good.decode(t.Context(), p, 320); err != nil {
			t.Errorf("%s: after it: %v", name, err)
		}
		pid := p.idle[avc][0].cmd.Process.Pid
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
		if errors.Is(err, os.ErrNotExist) {
			continue // not Linux
		}
		if err != nil {
			t.Fatal(err)
		}
		for limit, want := range map[string]string{"Max address space": strconv.FormatUint(p.MemoryBytes, 10), "Max core file size": "0", "Max file size": "0"} {
			if got := strings.Fields(strings.TrimPrefix(line(string(b), limit), limit)); len(got) < 2 || got[0] != want || got[1] != want {
				t.Errorf("%s: %s is %v, want %s", name, limit, got, want)
			}
		}
	}
}

func line(text, begin string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, begin) {
			return l
		}
	}
	return ""
}

// TestDamagedKeyFrames: key frames of three codecs, cut short or with bits
// flipped, each from a stream of its own, give a picture or a reason; the good
// stream between them has its own picture each time.
func TestDamagedKeyFrames(t *testing.T) {
	t.Parallel()
	all := shots(t, "small", "hevc", "av1")
	p := &Pool{Processes: 1}
	t.Cleanup(p.Close)
	r := rand.New(rand.NewPCG(3, 9))
	failed := 0
	for round := range 4 {
		for name, s := range all {
			b := bytes.Clone(s.fragment)
			data := bytes.Index(b, []byte("mdat")) + 4
			what := "flipped"
			if round%2 == 0 {
				// The box and the sample are as long as they were said to be; what is in them ends early.
				what = "cut"
				clear(b[data+6+r.IntN(len(b)-data-8):])
			} else {
				for range 1 + r.IntN(6) {
					b[data+5+r.IntN(len(b)-data-5)] ^= 1 << r.IntN(8)
				}
			}
			p.Timeout = 10 * time.Second
			img, err := p.Decode(t.Context(), s.init, b, 64)
			if (img == nil) == (err == nil) {
				t.Fatalf("%s, %s: neither a picture nor a reason", name, what)
			}
			if err != nil {
				failed++
				if len(err.Error()) < 20 {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			p.Timeout = time.Minute
			if err := s.decode(t.Context(), p, 64); err != nil {
				t.Errorf("after %s, %s: %v", name, what, err)
			}
		}
	}
	if failed == 0 {
		t.Error("nothing was damaged enough")
	}
	for name, b := range map[string][]byte{"no fragment": nil, "half a box": all["small"].fragment[:40], "a sample beyond its box": all["small"].fragment[:len(all["small"].fragment)-9]} {
		if _, err := p.Decode(t.Context(), all["small"].init, b, 64); err == nil {
			t.Errorf("%s gave a picture", name)
		}
	}
}

// TestKilledWhileDecoding: a decoder that is killed with a key frame in its hands
// costs that key frame, with the signal as reason.
func TestKilledWhileDecoding(t *testing.T) {
	t.Parallel()
	good := shots(t, "portrait")["portrait"]
	p := &Pool{Processes: 1, Timeout: time.Minute}
	t.Cleanup(p.Close)
	if err := good.decode(t.Context(), p, 320); err != nil {
		t.Fatal(err)
	}
	d := p.idle[avc][0]
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- good.decode(t.Context(), p, 320) }()
	// It is out of the list then.
	await.True(t, "the key frame is being given to it", func() bool { return p.waiting(avc) == 0 })
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Where it was not yet given the key frame, another decoder has been.
	if err := <-got; err != nil && !(errors.Is(err, ErrDecoderLost) && strings.Contains(err.Error(), "killed")) {
		t.Errorf("killed: %v", err)
	}
	if err := good.decode(t.Context(), p, 320); err != nil {
		t.Error(err)
	}
	if p.lost != 1 || p.started != 2 {
		t.Errorf("%d processes, %d lost", p.started, p.lost)
	}
}

// waiting is how many processes of a codec wait for work.
func (p *Pool) waiting(c codec) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle[c])
}
