package cenc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
)

// Of ten blocks of a slice one is encrypted (ISO/IEC 23001-7, 9.6; CMAF asks for it).
const (
	cryptBlocks = 1
	skipBlocks  = 9
)

// maxSubsamples is what the eight bits of a saiz entry can say.
const maxSubsamples = (255 - 2) / 6

// Track encrypts the fragments of one init segment with one key. It may be used
// by several at once.
type Track struct {
	// Init is the encrypted form of the init segment, InitID its name in URLs.
	Init   []byte
	InitID string
	KID    KID

	block cipher.Block
	iv    [16]byte
	video nals // nil: sound
}

// nals tells how much of each NAL unit stays readable.
type nals interface {
	clear(nal []byte) (int, error)
}

// New prepares the encryption of a track. An error wraps [ErrUnsupported] where
// the codec or its parameter sets cannot be encrypted.
func New(init []byte, k Key) (*Track, error) {
	t := &Track{KID: k.KID, iv: k.IV}
	var err error
	if t.block, err = aes.NewCipher(k.Key[:]); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	var e entry
	if t.Init, e, err = sealInit(init, &k); err != nil {
		return nil, fmt.Errorf("encrypt init segment: %w", err)
	}
	t.InitID = schemas.InitID(t.Init)
	if !e.video {
		return t, nil
	}
	info, err := cmaf.ParseInit(init)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if e.format == "avc1" || e.format == "avc3" {
		t.video, err = newH264(info.Params)
	} else {
		t.video, err = newH265(info.Params)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// span is one subsample: bytes left as they are, then encrypted ones.
type span struct{ clear, secret int }

// Fragment gives the encrypted form of one fragment: boxes around moof and mdat
// stay as they are, moof tells where encrypted bytes are (senc, saiz, saio;
// sound needs none of it), and samples keep their size. b is not changed.
func (t *Track) Fragment(b []byte) ([]byte, error) {
	samples, err := cmaf.Samples(nil, b)
	if err != nil {
		return nil, fmt.Errorf("encrypt fragment: %w", err)
	}
	l, err := find(b)
	if err != nil {
		return nil, fmt.Errorf("encrypt fragment: %w", err)
	}
	var aux, sizes []byte
	var spans []span
	perSample := make([]int, 0, len(samples))
	if t.video != nil {
		for i := range samples {
			n := len(spans)
			if spans, err = t.split(spans, samples[i].Data); err != nil {
				return nil, fmt.Errorf("encrypt fragment: sample %d: %w", i, err)
			}
			n = len(spans) - n
			if n > maxSubsamples {
				return nil, fmt.Errorf("encrypt fragment: sample %d: %w: it has %d slices, %d at most fit", i, ErrUnsupported, n, maxSubsamples)
			}
			perSample = append(perSample, n)
			sizes = append(sizes, byte(2+6*n))
		}
		aux = boxesFor(l, perSample, sizes, spans)
	}
	out := make([]byte, 0, len(b)+len(aux))
	out = append(append(append(out, b[:l.trafEnd]...), aux...), b[l.trafEnd:]...)
	for _, at := range []int{l.moof, l.traf, l.dataOffset} {
		grow(out[at:], len(aux))
	}
	at := l.data + len(aux)
	next := 0
	for i := range samples {
		data := out[at : at+len(samples[i].Data)]
		at += len(data)
		if t.video == nil {
			t.whole(data)
			continue
		}
		for _, s := range spans[next : next+perSample[i]] {
			t.pattern(data[s.clear : s.clear+s.secret])
			data = data[s.clear+s.secret:]
		}
		next += perSample[i]
	}
	return out, nil
}

// split appends the subsamples of an access unit.
func (t *Track) split(spans []span, data []byte) ([]span, error) {
	clear := 0
	add := func(secret int) {
		for ; clear > 0xffff; clear -= 0xffff {
			spans = append(spans, span{0xffff, 0})
		}
		spans = append(spans, span{clear, secret})
		clear = 0
	}
	for len(data) > 0 {
		if len(data) < 4 {
			return nil, fmt.Errorf("%w: %d bytes left where a NAL unit is expected", cmaf.ErrDamaged, len(data))
		}
		n := int(binary.BigEndian.Uint32(data))
		if n == 0 || n > len(data)-4 {
			return nil, fmt.Errorf("%w: NAL unit of %d bytes where %d are left", cmaf.ErrDamaged, n, len(data)-4)
		}
		nal := data[4 : 4+n]
		head, err := t.video.clear(nal)
		if err != nil {
			return nil, err
		}
		clear += 4 + head
		if head < n {
			add(n - head)
		}
		data = data[4+n:]
	}
	if clear > 0 {
		add(0)
	}
	return spans, nil
}

// pattern encrypts one block in ten in place; the chain begins anew with each subsample.
func (t *Track) pattern(b []byte) {
	prev := t.iv[:]
	for len(b) >= 16 {
		c := b[:16]
		subtle.XORBytes(c, c, prev)
		t.block.Encrypt(c, c)
		prev = c
		b = b[min(len(b), (cryptBlocks+skipBlocks)*16):]
	}
}

// whole encrypts all whole blocks of a sample in place.
func (t *Track) whole(b []byte) {
	if n := len(b) &^ 15; n > 0 {
		cipher.NewCBCEncrypter(t.block, t.iv[:]).CryptBlocks(b[:n], b[:n])
	}
}

// layout is where a fragment's boxes are.
type layout struct {
	moof, traf, trafEnd int
	dataOffset          int // the field of trun
	data                int // the first sample
}

// find finds what must change in a fragment of one moof, one traf and one trun.
func find(b []byte) (l layout, err error) {
	at, size, err := child(b, 0, "moof")
	if err != nil {
		return l, fmt.Errorf("%w: moof: one is expected", cmaf.ErrDamaged)
	}
	l.moof = at
	traf, trafSize, err := child(b[:at+size], at+8, "traf")
	if err != nil {
		return l, fmt.Errorf("%w: traf: one is expected", cmaf.ErrDamaged)
	}
	l.traf, l.trafEnd = traf, traf+trafSize
	tfhd, n, err := child(b[:l.trafEnd], traf+8, "tfhd")
	if err != nil || n < 16 || b[tfhd+11]&0x1 != 0 {
		return l, fmt.Errorf("%w: tfhd: one without base_data_offset is expected", cmaf.ErrDamaged)
	}
	trun, n, err := child(b[:l.trafEnd], traf+8, "trun")
	if err != nil || n < 20 || b[trun+11]&0x1 == 0 {
		return l, fmt.Errorf("%w: trun: one with data_offset is expected", cmaf.ErrDamaged)
	}
	for _, name := range []string{"senc", "saiz", "saio"} {
		if _, _, err := child(b[:l.trafEnd], traf+8, name); err == nil {
			return l, fmt.Errorf("%w: it is encrypted already", ErrUnsupported)
		}
	}
	l.dataOffset = trun + 16
	l.data = l.moof + int(int32(binary.BigEndian.Uint32(b[l.dataOffset:])))
	if l.data < at+size {
		return l, fmt.Errorf("%w: samples lie before mdat", cmaf.ErrDamaged)
	}
	return l, nil
}

// boxesFor writes saiz, saio (ISO/IEC 14496-12, 8.7.8 and 8.7.9) and senc
// (ISO/IEC 23001-7, 7.2), which go to the end of traf.
func boxesFor(l layout, perSample []int, sizes []byte, spans []span) []byte {
	u32 := binary.BigEndian.AppendUint32
	same := true
	for _, s := range sizes {
		same = same && s == sizes[0]
	}
	b := box(nil, "saiz", func(b []byte) []byte {
		b = u32(b, 0)
		if same && len(sizes) > 0 {
			return u32(append(b, sizes[0]), uint32(len(sizes)))
		}
		return append(u32(append(b, 0), uint32(len(sizes))), sizes...)
	})
	const saio, sencHead = 20, 16
	b = box(b, "saio", func(b []byte) []byte {
		return u32(u32(u32(b, 0), 1), uint32(l.trafEnd-l.moof+len(b)-8+saio+sencHead))
	})
	next := 0
	return box(b, "senc", func(b []byte) []byte {
		b = u32(u32(b, 0x2), uint32(len(perSample)))
		for _, n := range perSample {
			b = binary.BigEndian.AppendUint16(b, uint16(n))
			for _, s := range spans[next : next+n] {
				b = u32(binary.BigEndian.AppendUint16(b, uint16(s.clear)), uint32(s.secret))
			}
			next += n
		}
		return b
	})
}
