package schemas

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleChunk is the chunk of the golden file: a video part that starts a
// segment after a discontinuity and an audio part.
func sampleChunk() (*Chunk, []byte) {
	video, audio := bytes.Repeat([]byte{0xAA}, 40), bytes.Repeat([]byte{0x55}, 24)
	init := InitID([]byte("init"))
	return &Chunk{
		App: "live", Stream: "demo", Rendition: SourceRendition, Epoch: 3, Seq: 17, DiscontinuitySeq: 2, CDN: "a",
		ReceivedUnixUs: 1795167643634000, Clock: ClockArrival, ClockBoundUs: 40000,
		Fragments: []Fragment{
			{Track: Video, MSN: 9, Part: 0, Offset: 0, Size: 40, InitID: init, BaseTime: 90000, Duration: 18000, Timescale: 90000, Samples: 6,
				WallUnixUs: 1795167643600000, Independent: true, SegmentStart: true, Discontinuity: true},
			{Track: Audio, MSN: 8, Part: 11, Offset: 40, Size: 24, InitID: init, BaseTime: 48000, Duration: 9216, Timescale: 48000, Samples: 9,
				WallUnixUs: 1795167643590000, Independent: true, SegmentEnd: true},
		},
	}, append(video, audio...)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the golden file; a released format may only gain fields\n got %s\nwant %s", name, got, want)
	}
}

func TestChunkGoldenAndRoundTrip(t *testing.T) {
	c, payload := sampleChunk()
	h, err := c.EncodeHeader(payload)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "chunk_v1.json", h)
	again, err := c.EncodeHeader(payload)
	if err != nil || !bytes.Equal(h, again) {
		t.Errorf("encoding twice gives %s and %s (%v)", h, again, err)
	}
	got, err := DecodeChunk(h, payload)
	if err != nil {
		t.Fatal(err)
	}
	h2, err := got.EncodeHeader(payload)
	if err != nil || !bytes.Equal(h, h2) {
		t.Errorf("decode and encode gives %s (%v), want %s", h2, err, h)
	}
	if got.ContentID() != "live/demo/src/3/17" {
		t.Errorf("content id %q", got.ContentID())
	}
}

func TestChunkReadsHeadersOfLaterVersionsWithMoreFields(t *testing.T) {
	c, payload := sampleChunk()
	h, err := c.EncodeHeader(payload)
	if err != nil {
		t.Fatal(err)
	}
	// A later program may add a field; its checksum covers the added bytes.
	i := bytes.LastIndex(h, []byte(`"crc"`))
	withField := append(append(append([]byte(nil), h[:i]...), `"new":1,`...), h[i:]...)
	if _, err := DecodeChunk(withField, payload); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a header changed on its way was taken: %v", err)
	}
	crc, err := headerCRC(withField, payload)
	if err != nil {
		t.Fatal(err)
	}
	zero := append(withField[:bytes.LastIndex(withField, []byte(`"crc":`))+len(`"crc":`)], "0}"...)
	if _, err := DecodeChunk(sealHeader(zero, crc), payload); err != nil {
		t.Errorf("a header with an added field is refused: %v", err)
	}
}

func TestChunkDamageIsFound(t *testing.T) {
	c, payload := sampleChunk()
	h, err := c.EncodeHeader(payload)
	if err != nil {
		t.Fatal(err)
	}
	for i := range payload {
		p := append([]byte(nil), payload...)
		p[i] ^= 1
		if _, err := DecodeChunk(h, p); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("payload damaged at byte %d: %v", i, err)
		}
	}
	for i := range h {
		d := append([]byte(nil), h...)
		d[i] ^= 1
		if _, err := DecodeChunk(d, payload); err == nil {
			t.Errorf("header damaged at byte %d (%q for %q) was taken", i, d[i], h[i])
		}
	}
	for i := range h {
		if _, err := DecodeChunk(h[:i], payload); err == nil {
			t.Errorf("the first %d bytes of a header were taken", i)
		}
	}
}

func TestChunkRefusals(t *testing.T) {
	cases := []struct {
		name string
		edit func(*Chunk)
		want string
	}{
		{"bad name", func(c *Chunk) { c.Stream = "a.b" }, "only A-Z"},
		{"epoch", func(c *Chunk) { c.Epoch = 0 }, "epochs count from 1"},
		{"no fragments", func(c *Chunk) { c.Fragments = nil }, "fragments"},
		{"hole", func(c *Chunk) { c.Fragments[1].Offset = 41 }, "starts at byte 41"},
		{"beyond payload", func(c *Chunk) { c.Fragments[1].Size = 25 }, "ends at byte 65"},
		{"uncovered bytes", func(c *Chunk) { c.Fragments[1].Size = 23 }, "cover 63 bytes"},
		{"negative size", func(c *Chunk) { c.Fragments[1].Size = -1 }, "size -1"},
		{"timescale", func(c *Chunk) { c.Fragments[0].Timescale = 0 }, "timescale"},
		{"track", func(c *Chunk) { c.Fragments[0].Track = "data" }, "track"},
		{"init", func(c *Chunk) { c.Fragments[0].InitID = "../x" }, "init id"},
		{"start without part 0", func(c *Chunk) { c.Fragments[0].Part = 1 }, "segment start"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c, payload := sampleChunk()
			tc.edit(c)
			if _, err := c.EncodeHeader(payload); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not say %q", err, tc.want)
			}
		})
	}
}

func TestPartGoldenAndNames(t *testing.T) {
	p := &Part{
		App: "live", Stream: "demo", Rendition: SourceRendition, Track: Video, Epoch: 3, MSN: 9, Part: 4, DiscontinuitySeq: 2, CDN: "a",
		InitID: InitID([]byte("init")), DurationUs: 200000, WallUnixUs: 1795167643600000, ReceivedUnixUs: 1795167643634000,
		Independent: true, ContentID: "live/demo/src/3/17",
	}
	payload := []byte("moof and mdat")
	h, err := p.EncodeHeader(payload)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "part_v1.json", h)
	got, err := DecodePart(h, payload)
	if err != nil {
		t.Fatal(err)
	}
	if *got != *p {
		t.Errorf("got %+v, want %+v", got, p)
	}
	if _, err := DecodePart(h, payload[1:]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a shortened payload gives %v", err)
	}
	for _, name := range []string{p.FileName(), SegmentFileName(3, 9)} {
		e, m, part, err := ParseMediaFileName(name)
		if err != nil || e != 3 || m != 9 || (part != 4 && part != -1) {
			t.Errorf("%s is read as %d-%d.%d, %v", name, e, m, part, err)
		}
	}
	for _, bad := range []string{"", ".m4s", "3.m4s", "3-.m4s", "-9.m4s", "3-9.m4", "3-9.x.m4s", "4294967296-9.m4s", "3-9.-1.m4s", "3-9.1.2.m4s"} {
		if _, _, _, err := ParseMediaFileName(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzDecodeChunk(f *testing.F) {
	c, payload := sampleChunk()
	h, err := c.EncodeHeader(payload)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h, payload)
	f.Add([]byte(`{"v":1,"frags":[{"off":-1,"size":9223372036854775807}],"crc":0}`), []byte{})
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		c, err := DecodeChunk(header, payload)
		if err != nil {
			return
		}
		// What is accepted is safe to slice and encodes again.
		for i := range c.Fragments {
			fr := &c.Fragments[i]
			_ = payload[fr.Offset : fr.Offset+fr.Size]
		}
		if _, err := c.EncodeHeader(payload); err != nil {
			t.Errorf("accepted chunk does not encode: %v", err)
		}
	})
}

func FuzzDecodePart(f *testing.F) {
	f.Add([]byte(`{"v":1,"crc":0}`), []byte{})
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		if p, err := DecodePart(header, payload); err == nil {
			if _, _, _, err := ParseMediaFileName(p.FileName()); err != nil {
				t.Errorf("accepted part has a bad file name: %v", err)
			}
		}
	})
}

func BenchmarkChunkHeader(b *testing.B) {
	c, _ := sampleChunk()
	payload := make([]byte, 70_000)
	c.Fragments[0].Size, c.Fragments[1].Offset, c.Fragments[1].Size = 65_000, 65_000, 5_000
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.EncodeHeader(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, e := range map[string]*Encryption{
		"decode":           nil,
		"decode encrypted": {Scheme: "cbcs", KeyURL: "https://keys.example/live?a=b&c=d", RotateSegments: 30},
	} {
		c.Encryption = e
		h, err := c.EncodeHeader(payload)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeChunk(h, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
