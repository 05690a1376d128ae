package packager_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/workerstest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

var update = flag.Bool("update", false, "rewrite golden files")

// fixed is a chunk that does not depend on an encoder.
func fixed(t testing.TB) (workers.Message, *schemas.Chunk) {
	t.Helper()
	init := schemas.InitID([]byte("init"))
	box := func(n int) []byte {
		return append([]byte{0, 0, 0, 8, 'm', 'o', 'o', 'f', 0, 0, 0, byte(8 + n), 'm', 'd', 'a', 't'}, bytes.Repeat([]byte{0xab}, n)...)
	}
	v, a := box(40), box(7)
	c := &schemas.Chunk{
		App: "live", Stream: "one", Rendition: "src", Epoch: 3, Seq: 41, DiscontinuitySeq: 2, CDN: "b",
		ReceivedUnixUs: 1_790_000_000_250_000, Clock: schemas.ClockArrival, ClockBoundUs: 20_000,
		Fragments: []schemas.Fragment{
			{Track: schemas.Video, MSN: 120, Part: 0, Size: len(v), InitID: init, BaseTime: 900_000, Duration: 18_000, Timescale: 90_000,
				Samples: 6, WallUnixUs: 1_790_000_000_000_000, Independent: true, SegmentStart: true, Discontinuity: true},
			{Track: schemas.Audio, MSN: 119, Part: 10, Offset: len(v), Size: len(a), InitID: init, BaseTime: 480_000, Duration: 4096, Timescale: 48_000,
				Samples: 4, WallUnixUs: 1_789_999_999_990_000, Independent: true, SegmentEnd: true},
		},
	}
	m, err := media.Message(c, append(v, a...))
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

func TestGolden(t *testing.T) {
	m, _ := fixed(t)
	out, err := packager.New(nil).Handle(t.Context(), []workers.Message{m})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range out {
		fmt.Fprintf(&b, "id %s\nsubject %s\nheader %s\ndata %x\n\n", o.MsgID, o.Subject, o.Header.Get(schemas.HeaderPart), o.Data)
		if _, err := schemas.DecodePart([]byte(o.Header.Get(schemas.HeaderPart)), o.Data); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join("testdata", "parts.golden")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestContract(t *testing.T) {
	p := &media.Publisher{Clip: media.Load(t), Key: schemas.StreamKey{App: "a", Stream: "s"}}
	var msgs []workers.Message
	for range 25 {
		m, err := media.Message(p.Chunk())
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, m)
	}
	open, err := media.OpenMessage(p.Open())
	if err != nil {
		t.Fatal(err)
	}
	msgs = append(msgs, open)
	workerstest.Run(t, workerstest.Contract{New: func(*testing.T) workers.Handler { return packager.New(nil) }, Messages: msgs})
}

// Every part can be parsed alone and the parts of a track follow each other without a gap.
func TestPartsAreWholeFragments(t *testing.T) {
	p := &media.Publisher{Clip: media.Load(t), Key: schemas.StreamKey{App: "a", Stream: "s"}}
	next := map[schemas.Track]uint64{}
	for range 50 {
		c, payload := p.Chunk()
		out, err := packager.Package(c, payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			var parts fmp4.Parts
			if err := parts.Unmarshal(o.Data); err != nil || len(parts) != 1 {
				t.Fatalf("%s: %d fragments, %v", o.MsgID, len(parts), err)
			}
			tr := parts[0].Tracks[0]
			if tr.BaseTime != next[c.Fragments[i].Track] {
				t.Fatalf("%s starts at %d, the part before ended at %d", o.MsgID, tr.BaseTime, next[c.Fragments[i].Track])
			}
			for _, s := range tr.Samples {
				next[c.Fragments[i].Track] += uint64(s.Duration)
			}
		}
	}
}

func TestCorruptChunkIsRejected(t *testing.T) {
	m, _ := fixed(t)
	m.Data = bytes.Clone(m.Data)
	m.Data[20] ^= 0x40
	_, err := packager.New(nil).Handle(t.Context(), []workers.Message{m})
	if !workers.Rejected(err) || !errors.Is(err, schemas.ErrCorrupt) {
		t.Fatalf("error %v", err)
	}
	m, _ = fixed(t)
	m.Subject = "media.0.live.other.src"
	if _, err := packager.New(nil).Handle(t.Context(), []workers.Message{m}); !workers.Rejected(err) {
		t.Fatalf("chunk on another stream's subject: error %v", err)
	}
}

func BenchmarkPackage(b *testing.B) {
	p := &media.Publisher{Clip: media.Load(b), Key: schemas.StreamKey{App: "a", Stream: "s"}}
	m, err := media.Message(p.Chunk())
	if err != nil {
		b.Fatal(err)
	}
	h := packager.New(nil)
	b.SetBytes(int64(len(m.Data)))
	for b.Loop() {
		if _, err := h.Handle(b.Context(), []workers.Message{m}); err != nil {
			b.Fatal(err)
		}
	}
}
