package mpegts

import (
	"bytes"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// adtsRates are the sampling frequencies by index (ISO/IEC 14496-3 table 1.18).
var adtsRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

const (
	adtsHeadBytes   = 7
	samplesPerFrame = 1024
)

// AACFrame is one raw frame, and what its header says.
type AACFrame struct {
	Type     mpeg4audio.ObjectType
	Rate     int // Hz
	Channels uint8
	Data     []byte
}

// Samples is how many samples of a channel a frame holds.
func (f *AACFrame) Samples() int { return samplesPerFrame }

// ADTS takes AAC frames out of the units of one stream. Frames may begin in one unit and
// end in the next. The zero value is ready.
type ADTS struct {
	rest []byte
	// Skipped counts bytes that are no frame.
	Skipped uint64
}

// Reset forgets the beginning of a frame, because its end is lost.
func (a *ADTS) Reset() { a.rest = nil }

// Next gives the frames that end in b. carried: the first one began in an earlier
// unit, so a timestamp belongs to the one behind it (ISO/IEC 13818-1 2.4.3.7).
func (a *ADTS) Next(b []byte) (frames []AACFrame, carried bool) {
	before := len(a.rest)
	if before > 0 {
		b = append(a.rest, b...)
		a.rest = nil
	}
	at := 0
	for len(b)-at >= adtsHeadBytes {
		f, n, ok := adtsFrame(b[at:])
		if !ok {
			i := bytes.IndexByte(b[at+1:], 0xff)
			if i < 0 {
				i = len(b) - at - 1
			}
			a.Skipped += uint64(1 + i)
			at += 1 + i
			continue
		}
		if n > len(b)-at {
			break
		}
		if len(frames) == 0 && at < before {
			carried = true
		}
		frames = append(frames, f)
		at += n
	}
	if at < len(b) {
		a.rest = bytes.Clone(b[at:])
	}
	return frames, carried
}

// adtsFrame reads a header and, if it is there, the frame (ISO/IEC 14496-3 1.A.2.2).
// n is the length of both. A header with more than one raw data block is not taken.
func adtsFrame(b []byte) (f AACFrame, n int, ok bool) {
	rate := int(b[2] >> 2 & 0x0f)
	if b[0] != 0xff || b[1]&0xf6 != 0xf0 || rate >= len(adtsRates) || b[6]&3 != 0 {
		return f, 0, false
	}
	head := adtsHeadBytes
	if b[1]&1 == 0 {
		head += 2 // CRC
	}
	n = int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	if n <= head {
		return f, 0, false
	}
	f = AACFrame{Type: mpeg4audio.ObjectType(b[2]>>6 + 1), Rate: adtsRates[rate], Channels: b[2]&1<<2 | b[3]>>6}
	if n <= len(b) {
		f.Data = b[head:n:n]
	}
	return f, n, true
}
