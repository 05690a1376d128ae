package transcode

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// NUT is the container in which ffmpeg hands encoded frames back: it writes each
// packet whole at once with an exact timestamp, where fragmented MP4 keeps a frame
// back until the next one tells its duration. What is read here is what nutenc of
// ffmpeg writes for one video stream (https://ffmpeg.org/~michael/nut.txt, versions 3 and 4).

// packet is one encoded frame.
type packet struct {
	pts  int64 // in the stream's time base
	key  bool
	data []byte // valid until the next call
}

// errNUT is wrapped by errors about bytes that are not such a file.
var errNUT = errors.New("output of the encoder is malformed")

// Startcodes of NUT packets.
const (
	nutMain      = 0x4E4D7A561F5F04AD
	nutStream    = 0x4E5311405BF2F9DB
	nutSyncpoint = 0x4E4BE4ADEECA4569
	nutIndex     = 0x4E58DD672F23E64E
	nutInfo      = 0x4E49AB68B596BA78
)

const nutFileID = "nut/multimedia container\x00"

// Frame flags.
const (
	nutKey       = 1
	nutCodedPTS  = 8
	nutStreamID  = 16
	nutSizeMSB   = 32
	nutChecksum  = 64
	nutReserved  = 128
	nutSideData  = 256
	nutHeaderIdx = 1024
	nutMatchTime = 2048
	nutCoded     = 4096
	nutInvalid   = 8192
)

// Limits: a frame is bounded by what fits a chunk, a header by far less.
const (
	maxNUTHeader = 1 << 20
	maxNUTFrame  = 8 << 20
)

type nutCode struct {
	flags, stream, mul, lsb, reserved, header uint64
	ptsDelta                                  int64
}

// nutReader reads one video stream out of a NUT file as it is written.
type nutReader struct {
	r     *bufio.Reader
	begun bool

	codes   [256]nutCode
	elision [][]byte
	bases   [][2]uint64 // time bases, seconds = n/d
	shift   uint64
	base    uint64 // index of the stream's time base
	streams int
	lastPTS int64
	extra   []byte // codec-specific data: the parameter sets, as Annex B
	buf     []byte
}

func newNUTReader(r io.Reader) *nutReader { return &nutReader{r: bufio.NewReaderSize(r, 64<<10)} }

// timebase gives the stream's time base once a packet has been read.
func (n *nutReader) timebase() (num, den uint64) {
	if n.base < uint64(len(n.bases)) {
		return n.bases[n.base][0], n.bases[n.base][1]
	}
	return 0, 1
}

// next gives the next frame; io.EOF at the end.
func (n *nutReader) next() (packet, error) {
	if !n.begun {
		id := make([]byte, len(nutFileID))
		if _, err := io.ReadFull(n.r, id); err != nil {
			return packet{}, err
		}
		if string(id) != nutFileID {
			return packet{}, fmt.Errorf("%w: it does not begin as a NUT file", errNUT)
		}
		n.begun = true
	}
	for {
		b, err := n.r.ReadByte()
		if err != nil {
			return packet{}, err
		}
		if b != 'N' {
			if n.streams == 0 {
				return packet{}, fmt.Errorf("%w: a frame before the headers", errNUT)
			}
			return n.frame(b)
		}
		if err := n.header(); err != nil {
			return packet{}, noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// header reads a packet that begins with a startcode, whose first byte has been read.
func (n *nutReader) header() error {
	var rest [7]byte
	if _, err := io.ReadFull(n.r, rest[:]); err != nil {
		return err
	}
	code := uint64('N')<<56 | uint64(rest[0])<<48 | uint64(binary.BigEndian.Uint16(rest[1:]))<<32 | uint64(binary.BigEndian.Uint32(rest[3:]))
	size, err := n.v()
	if err != nil {
		return err
	}
	if size > 4096 {
		var sum [4]byte
		if _, err := io.ReadFull(n.r, sum[:]); err != nil {
			return err
		}
	}
	if size < 4 || size > maxNUTHeader {
		return fmt.Errorf("%w: a header of %d bytes", errNUT, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(n.r, body); err != nil {
		return err
	}
	f := &fields{b: body[:size-4]} // the last four are the checksum; a pipe damages nothing
	switch code {
	case nutMain:
		n.mainHeader(f)
	case nutStream:
		n.streamHeader(f)
	case nutSyncpoint:
		n.syncpoint(f)
	case nutInfo, nutIndex:
	default:
		return fmt.Errorf("%w: startcode %016x is unknown", errNUT, code)
	}
	return f.err
}

func (n *nutReader) mainHeader(f *fields) {
	if version := f.v(); version > 3 {
		f.v() // minor version
	}
	f.v() // stream count
	f.v() // max distance
	count := f.v()
	if count == 0 || count > 16 {
		f.fail("%d time bases", count)
		return
	}
	n.bases = nil
	for range count {
		num, den := f.v(), f.v()
		if num == 0 || den == 0 {
			f.fail("time base %d/%d", num, den)
			return
		}
		n.bases = append(n.bases, [2]uint64{num, den})
	}
	n.frameCodes(f)
	n.elision = [][]byte{nil}
	headers := f.v()
	if headers > 128 {
		f.fail("%d elision headers", headers)
		return
	}
	for range headers {
		n.elision = append(n.elision, f.vb())
	}
}

// frameCodes reads the table that says what each frame's first byte means.
func (n *nutReader) frameCodes(f *fields) {
	pts, mul, stream, header := int64(0), uint64(1), uint64(0), uint64(0)
	for i := 0; i < 256 && f.err == nil; {
		flags, count := f.v(), f.v()
		size, reserved := uint64(0), uint64(0)
		if count > 0 {
			pts = f.s()
		}
		if count > 1 {
			mul = f.v()
		}
		if count > 2 {
			stream = f.v()
		}
		if count > 3 {
			size = f.v()
		}
		if count > 4 {
			reserved = f.v()
		}
		repeat := mul - size
		if count > 5 {
			repeat = f.v()
		}
		if count > 6 {
			f.s() // match time
		}
		if count > 7 {
			header = f.v()
		}
		for j := uint64(8); j < count && f.err == nil; j++ {
			f.v()
		}
		if repeat == 0 || repeat > 256 || mul > maxNUTFrame {
			f.fail("frame code table at %d", i)
			return
		}
		for j := uint64(0); j < repeat && i < 256; i++ {
			if i == 'N' {
				n.codes[i] = nutCode{flags: nutInvalid}
				continue
			}
			n.codes[i] = nutCode{flags: flags, stream: stream, mul: mul, lsb: size + j, reserved: reserved, header: header, ptsDelta: pts}
			j++
		}
	}
}

func (n *nutReader) streamHeader(f *fields) {
	f.v() // stream id
	f.v() // class
	f.vb()
	n.base = f.v()
	n.shift = f.v()
	if n.base >= uint64(len(n.bases)) || n.shift > 16 {
		f.fail("stream header: time base %d, shift %d", n.base, n.shift)
		return
	}
	f.v() // max pts distance
	f.v() // decode delay
	f.v() // stream flags
	n.extra = append([]byte(nil), f.vb()...)
	if n.streams++; n.streams > 1 {
		f.fail("more than one stream")
	}
}

// syncpoint sets the timestamp that the next frame's is relative to.
func (n *nutReader) syncpoint(f *fields) {
	t := f.v()
	if len(n.bases) == 0 || n.streams == 0 {
		f.fail("syncpoint before the headers")
		return
	}
	id := t % uint64(len(n.bases))
	t /= uint64(len(n.bases))
	from, to := n.bases[id], n.bases[n.base]
	if from == to {
		n.lastPTS = int64(t)
		return
	}
	// floor(t * from / to); one stream has one time base with ffmpeg, so this is rare.
	n.lastPTS = int64(float64(t) * float64(from[0]) * float64(to[1]) / (float64(from[1]) * float64(to[0])))
}

func (n *nutReader) frame(first byte) (packet, error) {
	c := n.codes[first]
	flags := c.flags
	if flags&nutCoded != 0 {
		x, err := n.v()
		if err != nil {
			return packet{}, noEOF(err)
		}
		flags ^= x
	}
	if flags&nutInvalid != 0 {
		return packet{}, fmt.Errorf("%w: frame code %d", errNUT, first)
	}
	var err error
	read := func(flag uint64, v *uint64) {
		if err == nil && flags&flag != 0 {
			*v, err = n.v()
		}
	}
	var coded, msb, match uint64
	read(nutStreamID, &c.stream)
	read(nutCodedPTS, &coded)
	read(nutSizeMSB, &msb)
	read(nutMatchTime, &match)
	read(nutHeaderIdx, &c.header)
	read(nutReserved, &c.reserved)
	if err != nil {
		return packet{}, noEOF(err)
	}
	if c.reserved > 64 || msb > maxNUTFrame || c.header >= uint64(len(n.elision)) || flags&nutSideData != 0 || c.stream != 0 {
		return packet{}, fmt.Errorf("%w: frame header", errNUT)
	}
	for range c.reserved {
		if _, err := n.v(); err != nil {
			return packet{}, noEOF(err)
		}
	}
	if flags&nutChecksum != 0 {
		if _, err := n.r.Discard(4); err != nil {
			return packet{}, noEOF(err)
		}
	}
	switch pts := n.lastPTS + c.ptsDelta; {
	case flags&nutCodedPTS == 0:
		n.lastPTS = pts
	case coded < 1<<n.shift:
		mask := int64(1)<<n.shift - 1
		delta := n.lastPTS - mask/2
		n.lastPTS = (int64(coded)-delta)&mask + delta
	default:
		n.lastPTS = int64(coded - 1<<n.shift)
	}
	head := n.elision[c.header]
	size := c.lsb + msb*c.mul
	if size > maxNUTFrame {
		return packet{}, fmt.Errorf("%w: a frame of %d bytes", errNUT, size)
	}
	if uint64(len(head)) > size {
		return packet{}, fmt.Errorf("%w: frame header", errNUT)
	}
	if uint64(cap(n.buf)) < size {
		n.buf = make([]byte, size+size/2)
	}
	n.buf = n.buf[:size]
	copy(n.buf, head)
	if _, err := io.ReadFull(n.r, n.buf[len(head):]); err != nil {
		return packet{}, noEOF(err)
	}
	return packet{pts: n.lastPTS, key: flags&nutKey != 0, data: n.buf}, nil
}

// v reads a variable-length number: seven bits a byte, most significant first.
func (n *nutReader) v() (uint64, error) {
	var x uint64
	for range 10 {
		b, err := n.r.ReadByte()
		if err != nil {
			return 0, err
		}
		x = x<<7 | uint64(b&0x7f)
		if b&0x80 == 0 {
			return x, nil
		}
	}
	return 0, fmt.Errorf("%w: a number of more than ten bytes", errNUT)
}

// fields reads a header's fields.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail(format string, a ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: "+format, append([]any{errNUT}, a...)...)
	}
}

func (f *fields) v() uint64 {
	var x uint64
	for i := range f.b {
		if i == 10 {
			break
		}
		x = x<<7 | uint64(f.b[i]&0x7f)
		if f.b[i]&0x80 == 0 {
			f.b = f.b[i+1:]
			return x
		}
	}
	f.b = nil
	f.fail("a header ends within a number")
	return 0
}

// s reads a signed number: 0, 1, -1, 2, -2, ...
func (f *fields) s() int64 {
	x := f.v() + 1
	if x&1 != 0 {
		return -int64(x >> 1)
	}
	return int64(x >> 1)
}

func (f *fields) vb() []byte {
	n := f.v()
	if n > uint64(len(f.b)) {
		f.fail("a header ends within a string of %d bytes", n)
		f.b = nil
		return nil
	}
	s := f.b[:n]
	f.b = f.b[n:]
	return s
}
