package publisher

import (
	"encoding/binary"
	"math"
	"time"
)

// sampleRate is that of the tone, and of the AAC made of it, in Hz.
const sampleRate = 48000

// tone is a quiet 440 Hz sine with a louder 1 kHz pip in the first tenth of every UTC second, so that sound
// can be held against the clock in the picture by ear or by program.
type tone struct {
	// second is one second of 16-bit samples: both frequencies fit it whole, so it repeats seamlessly.
	second [sampleRate * 2]byte
	// offset is the sample of second at which the stream began.
	offset int64
	// sent counts samples since the stream began, also ones skipped.
	sent int64
	buf  []byte
}

func newTone(start time.Time) *tone {
	t := &tone{offset: int64(start.Nanosecond()) * sampleRate / int64(time.Second)}
	for i := range sampleRate {
		hz, level := 440.0, 0.05
		if i < sampleRate/10 {
			hz, level = 1000, 0.3
		}
		v := int16(level * math.MaxInt16 * math.Sin(2*math.Pi*hz*float64(i)/sampleRate))
		binary.LittleEndian.PutUint16(t.second[i*2:], uint16(v))
	}
	return t
}

// until returns the samples from where the last call ended to the time end after the start, and the time they
// begin at. After a gap of more than a second the missed sound is skipped. The bytes hold until the next call.
func (t *tone) until(end time.Duration) (at time.Duration, samples []byte) {
	to := int64(end) * sampleRate / int64(time.Second)
	if to-t.sent > sampleRate {
		t.sent = to - sampleRate/10
	}
	at = time.Duration(t.sent) * time.Second / sampleRate
	t.buf = t.buf[:0]
	for t.sent < to {
		from := (t.offset + t.sent) % sampleRate
		n := min(to-t.sent, sampleRate-from)
		t.buf = append(t.buf, t.second[from*2:(from+n)*2]...)
		t.sent += n
	}
	return at, t.buf
}
