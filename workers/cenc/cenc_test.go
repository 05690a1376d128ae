package cenc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os/exec"
	"testing"

	"github.com/Eyevinn/mp4ff/avc"
	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

func testKey() Key {
	k := Key{KID: KID{1, 2, 3, 15: 9}, Key: [16]byte{7, 7, 7, 15: 1}}
	k.IV = IV(k.Key, k.KID)
	return k
}

// decrypt gives a fragment's samples as another implementation decrypts them.
func decrypt(t *testing.T, init, fragment []byte, key [16]byte) []cmaf.Sample {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(append(bytes.Clone(init), fragment...)))
	if err != nil {
		t.Fatal(err)
	}
	di, err := mp4.DecryptInit(f.Init)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Segments) != 1 || len(f.Segments[0].Fragments) != 1 {
		t.Fatal("not one fragment")
	}
	if err := mp4.DecryptFragment(f.Segments[0].Fragments[0], di, key[:]); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.Segments[0].Fragments[0].Encode(&out); err != nil {
		t.Fatal(err)
	}
	s, err := cmaf.Samples(nil, out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsEncryptedDecryptsToTheSameSamples(t *testing.T) {
	clip := media.Load(t)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	k := testKey()
	tracks := map[schemas.Track]*Track{}
	for _, kind := range []schemas.Track{schemas.Video, schemas.Audio} {
		tr, err := New(clip.Init(kind), k)
		if err != nil {
			t.Fatal(err)
		}
		tracks[kind] = tr
		info, err := cmaf.ParseInit(tr.Init)
		if err != nil || !info.Encrypted {
			t.Errorf("%s: %+v: %v", kind, info, err)
		}
		if plain, _ := cmaf.ParseInit(clip.Init(kind)); plain.Codec != info.Codec || tr.InitID != schemas.InitID(tr.Init) {
			t.Errorf("%s: codec %q became %q", kind, plain.Codec, info.Codec)
		}
	}
	secret := map[schemas.Track]int{}
	for range 2 * media.SegmentParts {
		c, payload := p.Chunk()
		for _, f := range c.Fragments {
			plain := payload[f.Offset : f.Offset+f.Size]
			before := bytes.Clone(plain)
			sealed, err := tracks[f.Track].Fragment(plain)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := tracks[f.Track].Fragment(plain); !bytes.Equal(sealed, again) || !bytes.Equal(plain, before) {
				t.Fatal("the same fragment gave other bytes, or was changed")
			}
			want, _ := cmaf.Samples(nil, plain)
			hidden, err := cmaf.Samples(nil, sealed)
			if err != nil {
				t.Fatal(err)
			}
			got := decrypt(t, tracks[f.Track].Init, sealed, k.Key)
			if len(got) != len(want) || len(hidden) != len(want) {
				t.Fatalf("%d samples became %d and %d", len(want), len(hidden), len(got))
			}
			for i := range want {
				w, h := want[i], hidden[i]
				if !bytes.Equal(got[i].Data, w.Data) {
					t.Fatalf("%s %d.%d: sample %d decrypts to something else", f.Track, f.MSN, f.Part, i)
				}
				if h.DTS != w.DTS || h.PTSOffset != w.PTSOffset || h.Duration != w.Duration || h.Sync != w.Sync || len(h.Data) != len(w.Data) {
					t.Fatalf("times or sizes changed: %+v became %+v", w, h)
				}
				if !bytes.Equal(h.Data, w.Data) {
					secret[f.Track]++
				} else if len(w.Data) >= 64 {
					t.Errorf("%s: a sample of %d bytes stayed as it was", f.Track, len(w.Data))
				}
			}
		}
	}
	if secret[schemas.Video] < 20 || secret[schemas.Audio] < 20 {
		t.Errorf("encrypted %v", secret)
	}
	other := k
	other.Key[3]++
	c, payload := p.Chunk()
	f := c.Fragments[0]
	sealed, err := tracks[f.Track].Fragment(payload[f.Offset : f.Offset+f.Size])
	if err != nil {
		t.Fatal(err)
	}
	want, _ := cmaf.Samples(nil, payload[f.Offset:f.Offset+f.Size])
	if got := decrypt(t, tracks[f.Track].Init, sealed, other.Key); bytes.Equal(got[0].Data, want[0].Data) {
		t.Error("another key decrypts it, too")
	}
	if _, err := tracks[f.Track].Fragment(sealed); !errors.Is(err, ErrUnsupported) {
		t.Errorf("it was encrypted twice: %v", err)
	}
}

func TestRefusesByName(t *testing.T) {
	clip := media.Load(t)
	b := bytes.Replace(bytes.Clone(clip.Init(schemas.Video)), []byte("avc1"), []byte("av01"), 2)
	i := bytes.Index(b, []byte("stsd"))
	copy(b[i+16:], "av01")
	if _, err := New(b, testKey()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("AV1: %v", err)
	}
	tr, err := New(clip.Init(schemas.Video), testKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(tr.Init, testKey()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an encrypted init segment: %v", err)
	}
	k := testKey().KID
	for _, s := range []string{k.String(), k.UUID()} {
		if got, err := ParseKID(s); err != nil || got != k {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1", "zz020300000000000000000000000009", k.UUID() + "0"} {
		if _, err := ParseKID(s); err == nil {
			t.Errorf("key id %q was taken", s)
		}
	}
}

// encode gives the NAL units of a stream that ffmpeg makes.
func encode(t *testing.T, args ...string) [][]byte {
	t.Helper()
	ffmpeg := need.Program(t, "ffmpeg")
	all := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x192:r=25", "-frames:v", "30"}, args...)
	out, err := exec.CommandContext(t.Context(), ffmpeg, append(all, "-")...).Output()
	if err != nil {
		need.Missing(t, "ffmpeg does not encode it: %v", err)
	}
	return avc.ExtractNalusFromByteStream(out)
}

// The places where slice headers end are those that another parser finds.
func TestSliceHeadersH264(t *testing.T) {
	for _, params := range []string{
		"bframes=3:weightb=1:weightp=2:ref=4:slices=3:keyint=10",
		"bframes=0:cabac=0:ref=1:keyint=30:no-deblock=1",
		"bframes=2:b-pyramid=normal:interlaced=1:ref=6:keyint=12:open-gop=1",
	} {
		var sets, slices [][]byte
		for _, n := range encode(t, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-x264-params", params, "-f", "h264") {
			switch n[0] & 0x1f {
			case 7, 8:
				sets = append(sets, n)
			case 1, 5:
				slices = append(slices, n)
			}
		}
		h, err := newH264(sets)
		if err != nil {
			t.Fatal(err)
		}
		if len(slices) < 30 {
			t.Fatalf("%d slices", len(slices))
		}
		for i, n := range slices {
			want, err := avc.ParseSliceHeader(n, h.sps, h.pps)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.clear(n); err != nil || got != int(want.Size) {
				t.Errorf("%s: slice %d: header of %d bytes (%v), want %d", params, i, got, err, want.Size)
			}
		}
	}
}

func TestSliceHeadersH265(t *testing.T) {
	for _, params := range []string{"bframes=3:ref=4:keyint=12:slices=2:wpp=1", "bframes=0:wpp=1:weightp=1:keyint=30", "bframes=4:weightb=1:no-sao=1:no-deblock=1:open-gop=1:keyint=10"} {
		var sets, slices [][]byte
		for _, n := range encode(t, "-pix_fmt", "yuv420p", "-c:v", "libx265", "-x265-params", "log-level=error:"+params, "-f", "hevc") {
			switch ty := hevc.GetNaluType(n[0]); {
			case ty == hevc.NALU_SPS || ty == hevc.NALU_PPS:
				sets = append(sets, n)
			case ty < 32:
				slices = append(slices, n)
			}
		}
		h, err := newH265(sets)
		if err != nil {
			t.Fatal(err)
		}
		if len(slices) < 30 {
			t.Fatalf("%d slices", len(slices))
		}
		for i, n := range slices {
			want, err := hevc.ParseSliceHeader(n, h.sps, h.pps)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.clear(n); err != nil || got != int(want.Size) {
				t.Errorf("%s: slice %d of type %d: header of %d bytes (%v), want %d", params, i, n[0]>>1, got, err, want.Size)
			}
		}
	}
}

func FuzzFragment(f *testing.F) {
	clip := media.Load(f)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	c, payload := p.Chunk()
	for _, fr := range c.Fragments {
		f.Add(payload[fr.Offset : fr.Offset+fr.Size])
	}
	v, err := New(clip.Init(schemas.Video), testKey())
	if err != nil {
		f.Fatal(err)
	}
	a, err := New(clip.Init(schemas.Audio), testKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, tr := range []*Track{v, a} {
			out, err := tr.Fragment(b)
			if err != nil {
				continue
			}
			want, _ := cmaf.Samples(nil, b)
			got, err := cmaf.Samples(nil, out)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%d samples became %d: %v", len(want), len(got), err)
			}
		}
	})
}

func FuzzInit(f *testing.F) {
	clip := media.Load(f)
	f.Add(clip.Init(schemas.Video))
	f.Add(clip.Init(schemas.Audio))
	k := testKey()
	f.Fuzz(func(t *testing.T, b []byte) {
		out, _, err := sealInit(b, &k)
		if err == nil && len(out) <= len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(out))
		}
	})
}

func FuzzSlice(f *testing.F) {
	clip := media.Load(f)
	info, err := cmaf.ParseInit(clip.Init(schemas.Video))
	if err != nil {
		f.Fatal(err)
	}
	h, err := newH264(info.Params)
	if err != nil {
		f.Fatal(err)
	}
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	c, payload := p.Chunk()
	s, err := cmaf.Samples(nil, payload[:c.Fragments[0].Size])
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range s {
		for d := s.Data; len(d) > 4; {
			n := binary.BigEndian.Uint32(d)
			f.Add(d[4 : 4+n])
			d = d[4+n:]
		}
	}
	f.Fuzz(func(t *testing.T, n []byte) {
		if len(n) == 0 {
			return
		}
		if got, err := h.clear(n); err == nil && (got < 1 || got > len(n)) {
			t.Fatalf("%d of %d bytes stay readable", got, len(n))
		}
	})
}

// BenchmarkFragment encrypts 200 ms of video.
func BenchmarkFragment(b *testing.B) {
	clip := media.Load(b)
	p := &media.Publisher{Clip: clip, Key: schemas.StreamKey{App: "live", Stream: "one"}}
	c, payload := p.Chunk()
	for _, f := range c.Fragments {
		tr, err := New(clip.Init(f.Track), testKey())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(f.Track), func(b *testing.B) {
			b.SetBytes(int64(f.Size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tr.Fragment(payload[f.Offset : f.Offset+f.Size]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
