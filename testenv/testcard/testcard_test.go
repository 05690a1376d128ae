package testcard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/need"
)

var sizes = [][2]int{{160, 90}, {320, 180}, {426, 240}, {640, 360}, {854, 480}, {1280, 720}, {1920, 1080}, {640, 480}}

func newCard(t testing.TB, w, h int) *Card {
	t.Helper()
	c, err := New(w, h, "demo/Stream_1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRoundTripAtEverySize(t *testing.T) {
	times := []int64{0, 1, 999, 1_763_637_000_123, 1<<48 - 1, 0xAAAAAAAAAAAA, 0x555555555555}
	for range 50 {
		times = append(times, rand.Int64N(1<<48))
	}
	for _, size := range sizes {
		c := newCard(t, size[0], size[1])
		var buf []byte
		for i, want := range times {
			buf = c.Render(buf, time.UnixMilli(want))
			if got, ok := DecodeLuma(buf, size[0], size[1]); !ok || got != want {
				t.Fatalf("%v: luma decode of %d gave %d, %v", size, want, got, ok)
			}
			if i%10 != 3 { // converting to RGBA is the slow part
				continue
			}
			if got, ok := DecodeRGBA(rgba(c, buf), size[0], size[1]); !ok || got != want {
				t.Fatalf("%v: RGBA decode of %d gave %d, %v", size, want, got, ok)
			}
		}
	}
}

func TestRenderReusesItsBufferAndMoves(t *testing.T) {
	c := newCard(t, 0, 0)
	at := time.UnixMilli(1_763_637_000_000)
	first := c.Render(nil, at)
	if len(first) != DefaultWidth*DefaultHeight*3/2 {
		t.Fatalf("frame of %d bytes", len(first))
	}
	kept := bytes.Clone(first)
	second := c.Render(first, at.Add(33*time.Millisecond))
	if &second[0] != &first[0] {
		t.Error("a large enough buffer was not reused")
	}
	below := barsTop * DefaultHeight / 22 * DefaultWidth
	if bytes.Equal(kept[below:], second[below:]) {
		t.Error("nothing but the clock cells moved")
	}
	if again := c.Render(nil, at); !bytes.Equal(kept, again) {
		t.Error("the same time gave another picture")
	}
	if n := testing.AllocsPerRun(20, func() { second = c.Render(second, at) }); n > 2 {
		t.Errorf("%v allocations a frame", n)
	}
}

// TestClockDigits checks that people see the time the cells carry: the digits differ exactly where the text does.
func TestClockDigits(t *testing.T) {
	c := newCard(t, 640, 360)
	at := time.Date(2026, 11, 20, 12, 34, 56, 789e6, time.UTC)
	f := c.frame(c.Render(nil, at))
	for i, r := range "12:34:56.789" {
		for row, dots := range glyph(r) {
			for col := range glyphWidth {
				x := c.clock.x + (i*glyphAdvance+col)*c.clock.dot + c.clock.dot/2
				y := c.clock.y + row*c.clock.dot + c.clock.dot/2
				lit, want := f.y[y*f.width+x] > 128, dots>>(glyphWidth-1-col)&1 == 1
				if lit != want {
					t.Fatalf("character %d (%c), dot %d,%d: lit %v", i, r, col, row, lit)
				}
			}
		}
	}
}

func TestBadSizesAreRefused(t *testing.T) {
	for _, s := range [][2]int{{641, 360}, {640, 361}, {16, 16}, {-2, 90}, {100000, 360}, {640, -360}} {
		if _, err := New(s[0], s[1], ""); err == nil {
			t.Errorf("size %v was accepted", s)
		}
	}
}

func TestAnyNameIsDrawn(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("long", 500), "grüße/日本", "a\x00\xff"} {
		for _, s := range sizes {
			c, err := New(s[0], s[1], name)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := DecodeLuma(c.Render(nil, time.Now()), s[0], s[1]); !ok {
				t.Errorf("name %q at %v broke the clock", name, s)
			}
		}
	}
}

func TestOtherPicturesAreRefused(t *testing.T) {
	const w, h = 320, 180
	c := newCard(t, w, h)
	good := c.Render(nil, time.UnixMilli(1_763_637_000_123))
	flat := bytes.Repeat([]byte{128}, w*h)
	noise := make([]byte, w*h)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, luma := range map[string][]byte{"flat": flat, "noise": noise, "empty": nil, "short": good[:w*h-1]} {
		if got, ok := DecodeLuma(luma, w, h); ok {
			t.Errorf("%s picture read as %d", name, got)
		}
		if got, ok := DecodeRGBA(luma, w, h); ok {
			t.Errorf("%s picture read as RGBA as %d", name, got)
		}
	}
	// Any one damaged cell must be noticed.
	for row := range cellRows {
		for col := range cellColumns {
			damaged := bytes.Clone(good)
			f := c.frame(damaged)
			x0, x1 := cellEdge(col, w, cellColumns), cellEdge(col+1, w, cellColumns)
			y0, y1 := cellEdge(row, h, rowsPerFrame), cellEdge(row+1, h, rowsPerFrame)
			for y := y0; y < y1; y++ {
				for x := x0; x < x1; x++ {
					f.y[y*w+x] = 251 - f.y[y*w+x]
				}
			}
			if got, ok := DecodeLuma(damaged, w, h); ok {
				t.Fatalf("row %d column %d inverted, still read as %d", row, col, got)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 3}, 4, 4)
	f.Add(bytes.Repeat([]byte{255}, 400), 10, 10)
	f.Fuzz(func(t *testing.T, data []byte, w, h int) {
		if ms, ok := DecodeLuma(data, w, h); ok && (ms < 0 || ms >= 1<<48) {
			t.Fatalf("%d is no 48-bit time", ms)
		}
		DecodeRGBA(data, w, h)
	})
}

// TestSurvivesEncodingAndScaling sends two seconds through x264 at 300 kbit/s and back, at the size drawn
// and scaled down and up (to no multiple of the cells), and reads every single frame.
func TestSurvivesEncodingAndScaling(t *testing.T) {
	ffmpeg := need.Program(t, "ffmpeg")
	for _, tc := range []struct {
		name         string
		w, h, ow, oh int
		scaler       string
		codec        []string
	}{
		{"same size", 640, 360, 640, 360, "bicubic", nil},
		{"scaled down", 640, 360, 400, 225, "bilinear", nil},
		{"scaled up, aspect changed", 640, 360, 930, 500, "bicubic", nil},
		{"720p shown small", 1280, 720, 480, 270, "fast_bilinear", []string{"-b:v", "1000k", "-maxrate", "1000k", "-bufsize", "500k"}},
		{"B-frames", 640, 360, 640, 360, "bicubic", []string{"-tune", "film", "-bf", "2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const frames, fps = 60, 30
			c := newCard(t, tc.w, tc.h)
			start := time.UnixMilli(1_763_637_000_123)
			var raw bytes.Buffer
			var buf []byte
			for i := range frames {
				buf = c.Render(buf, start.Add(time.Duration(i)*time.Second/fps))
				raw.Write(buf)
			}
			coded := filepath.Join(t.TempDir(), "card.mp4")
			args := []string{"-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", fmt.Sprint(fps),
				"-s", fmt.Sprintf("%dx%d", tc.w, tc.h), "-i", "pipe:0", "-c:v", "libx264", "-preset", "ultrafast",
				"-tune", "zerolatency", "-b:v", "300k", "-maxrate", "300k", "-bufsize", "150k", "-g", "60"}
			args = append(append(args, tc.codec...), coded)
			run(t, &raw, ffmpeg, args...)
			out := run(t, nil, ffmpeg, "-v", "error", "-i", coded, "-vf",
				fmt.Sprintf("scale=%d:%d:flags=%s", tc.ow, tc.oh, tc.scaler), "-f", "rawvideo", "-pix_fmt", "rgba", "pipe:1")
			size := tc.ow * tc.oh * 4
			if len(out) != frames*size {
				t.Fatalf("%d bytes decoded, expected %d frames of %d", len(out), frames, size)
			}
			for i := range frames {
				want := start.Add(time.Duration(i) * time.Second / fps).UnixMilli()
				if got, ok := DecodeRGBA(out[i*size:(i+1)*size], tc.ow, tc.oh); !ok || got != want {
					t.Errorf("frame %d read as %d, %v; expected %d", i, got, ok, want)
				}
			}
		})
	}
}

// TestJavaScriptDecoder runs the browser's decoder in node on pictures drawn in Go.
func TestJavaScriptDecoder(t *testing.T) {
	node := need.Program(t, "node")
	dir := t.TempDir()
	type picture struct {
		File   string `json:"file"`
		Width  int    `json:"width"`
		Height int    `json:"height"`
		Want   *int64 `json:"want"`
	}
	var pictures []picture
	add := func(pix []byte, w, h int, want *int64) {
		file := filepath.Join(dir, fmt.Sprintf("%d.rgba", len(pictures)))
		if err := os.WriteFile(file, pix, 0o600); err != nil {
			t.Fatal(err)
		}
		pictures = append(pictures, picture{file, w, h, want})
	}
	for _, s := range sizes {
		c := newCard(t, s[0], s[1])
		for _, ms := range []int64{1_763_637_000_123, rand.Int64N(1 << 48)} {
			pix := rgba(c, c.Render(nil, time.UnixMilli(ms)))
			add(pix, s[0], s[1], &ms)
			if s[0] < 320 { // cells of less than 4 pixels are not promised
				continue
			}
			w, h := s[0]*5/7, s[1]*5/7
			add(shrink(pix, s[0], s[1], w, h), w, h, &ms)
		}
	}
	c := newCard(t, 320, 180)
	damaged := c.Render(nil, time.UnixMilli(1_763_637_000_123))
	c.frame(damaged).fill(cellEdge(9, 320, cellColumns), 0, cellEdge(12, 320, cellColumns), 8, colourGrey)
	add(rgba(c, damaged), 320, 180, nil)
	add(bytes.Repeat([]byte{90}, 320*180*4), 320, 180, nil)
	add(nil, 0, 0, nil)
	add([]byte{1, 2, 3}, 320, 180, nil)

	list, err := json.Marshal(pictures)
	if err != nil {
		t.Fatal(err)
	}
	script := DecoderJS() + `
const fs = require('fs');
const out = JSON.parse(fs.readFileSync(0, 'utf8')).map((p) =>
  decodeTestCard({ width: p.width, height: p.height, data: new Uint8ClampedArray(fs.readFileSync(p.file)) }));
console.log(JSON.stringify(out));`
	var got []*int64
	if err := json.Unmarshal(run(t, bytes.NewReader(list), node, "-e", script), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(pictures) {
		t.Fatalf("%d answers for %d pictures", len(got), len(pictures))
	}
	for i, p := range pictures {
		pix, err := os.ReadFile(p.File)
		if err != nil {
			t.Fatal(err)
		}
		goMs, goOK := DecodeRGBA(pix, p.Width, p.Height)
		switch {
		case (p.Want == nil) != (got[i] == nil), p.Want != nil && *p.Want != *got[i]:
			t.Errorf("picture %d (%dx%d): JavaScript read %v, expected %v", i, p.Width, p.Height, show(got[i]), show(p.Want))
		case goOK != (got[i] != nil), goOK && goMs != *got[i]:
			t.Errorf("picture %d: Go read %d, %v; JavaScript %v", i, goMs, goOK, show(got[i]))
		}
	}
}

func BenchmarkRender(b *testing.B) {
	c := newCard(b, 1280, 720)
	var buf []byte
	for i := range b.N {
		buf = c.Render(buf, time.UnixMilli(int64(i)*33))
	}
}

func BenchmarkDecode(b *testing.B) {
	c := newCard(b, 1280, 720)
	buf := c.Render(nil, time.Now())
	for b.Loop() {
		if _, ok := DecodeLuma(buf, 1280, 720); !ok {
			b.Fatal("not read")
		}
	}
}

func show(v *int64) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(*v)
}

// rgba converts as a browser does: BT.601 limited range to full-range RGB.
func rgba(c *Card, buf []byte) []byte {
	f := c.frame(buf)
	out := make([]byte, f.width*f.height*4)
	for y := range f.height {
		for x := range f.width {
			l := 1.164 * (float64(f.y[y*f.width+x]) - 16)
			u := float64(f.u[y/2*f.width/2+x/2]) - 128
			v := float64(f.v[y/2*f.width/2+x/2]) - 128
			p := out[(y*f.width+x)*4:]
			p[0], p[1], p[2], p[3] = clip(l+1.596*v), clip(l-0.392*u-0.813*v), clip(l+2.017*u), 255
		}
	}
	return out
}

func clip(v float64) byte { return byte(min(max(v+0.5, 0), 255)) }

// shrink scales RGBA pixels by taking the nearest one.
func shrink(pix []byte, w, h, ow, oh int) []byte {
	out := make([]byte, 0, ow*oh*4)
	for y := range oh {
		for x := range ow {
			p := (y*h/oh*w + x*w/ow) * 4
			out = append(out, pix[p:p+4]...)
		}
	}
	return out
}

func run(t *testing.T, in interface{ Read([]byte) (int, error) }, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	if in != nil {
		cmd.Stdin = in
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr.String())
	}
	return out
}
