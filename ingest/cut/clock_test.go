package cut

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// clocked is a publisher with a clock of its own: frames are captured at a steady
// rate, coded with B-frames, sent, and arrive over a network that delays them.
type clocked struct {
	wrongUs   int64 // the publisher's clock minus the true one
	ppm       float64
	stepAt    int // frame at which the clock is set ...
	stepUs    int64
	codingUs  int64 // from capture to sending
	tellDelay bool
	synced    bool
	netUs     int64 // least one-way delay
	jitterUs  int64
	rttUs     int64
	every     int // frames between marks
	source    schemas.ClockSource
	frames    int
}

type clockResult struct {
	source        schemas.ClockSource
	worst, bound  int64 // of the last half: error against the time of capture, and the least that was promised
	broken        int   // chunks whose error was beyond their bound
	back          int   // parts whose wall-clock was before that of the part before
	discarded     uint64
	sources       map[schemas.ClockSource]int
	captured, all int // prft boxes that say so
}

func (p clocked) run(t *testing.T) clockResult {
	t.Helper()
	const frameUs = 40_000
	rng := rand.New(rand.NewPCG(7, 8))
	r := clockResult{sources: map[schemas.ClockSource]int{}}
	capture := func(pts int64) int64 { return epoch0 + pts } // the truth
	n, last, now, before := 0, int64(0), int64(0), int64(0)
	s := Settings{App: "live", Stream: "test", Rendition: "src", Epoch: 1, Video: testVideo(t, 25)}
	s.Emit = func(c *schemas.Chunk, data []byte) {
		for _, f := range c.Fragments {
			if f.WallUnixUs < last {
				r.back++
			}
			last = f.WallUnixUs
			r.all++
			if binary.BigEndian.Uint32(data[f.Offset+8:])&0xffffff == prftCaptured {
				r.captured++
			}
			r.sources[c.Clock]++
			if n < p.frames/2 {
				continue
			}
			// prft tells the media time that the wall-clock is about.
			media := int64(binary.BigEndian.Uint64(data[f.Offset+24:])) * 1_000_000 / int64(f.Timescale)
			e := f.WallUnixUs - capture(media)
			e = max(e, -e)
			r.worst, r.bound, r.source = max(r.worst, e), c.ClockBoundUs, c.Clock
			if e > c.ClockBoundUs {
				r.broken++
			}
		}
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	if p.rttUs > 0 {
		c.SetRoundTrip(p.rttUs)
	}
	own := func(us int64) int64 {
		v := us + p.wrongUs + int64(float64(us-epoch0)*p.ppm/1e6)
		if p.stepAt > 0 && n >= p.stepAt {
			v += p.stepUs
		}
		return v
	}
	for n = 0; n < p.frames; n++ {
		dts := int64(n) * frameUs
		cts := int64(0) // decode order I P B B: as with two B-frames
		switch n % 3 {
		case 0:
			cts = frameUs
		case 1:
			cts = 2 * frameUs
		}
		pts := dts + cts
		sent := max(capture(pts)+p.codingUs, before)
		before = sent
		arrived := max(now, sent+p.netUs+rng.Int64N(p.jitterUs+1))
		now = arrived
		f := Frame{DTSUs: dts / 1000 * 1000, CTSUs: cts, Key: n%50 == 0, Data: make([]byte, 100), ArrivedUs: arrived}
		if p.every > 0 && n%p.every == 0 {
			f.CaptureUs = own(capture(pts))
			f.Capture = Capture{Source: p.source, Synchronised: p.synced}
			if p.tellDelay {
				f.Capture.DelayUs = sent - capture(pts)
			}
			if p.synced {
				f.Capture.BoundUs = 5_000
			}
		}
		for d := c.Deadline(); d != 0 && d <= arrived; d = c.Deadline() {
			c.Tick(d)
		}
		if err := c.Video(f); err != nil {
			t.Fatal(err)
		}
	}
	r.discarded = c.Counters().Clock
	c.Finish()
	return r
}

func TestCaptureClock(t *testing.T) {
	base := clocked{wrongUs: 5_000_000, codingUs: 300_000, tellDelay: true, netUs: 30_000, jitterUs: 60_000, every: 1, frames: 2500}
	with := func(f func(*clocked)) clocked {
		p := base
		f(&p)
		return p
	}
	for name, tc := range map[string]struct {
		p         clocked
		source    schemas.ClockSource
		bound     int64 // the least that it may promise is kept, and it must promise this
		discarded bool
	}{
		"5 s fast":            {base, schemas.ClockCapture, 170_000, false},
		"5 s slow":            {with(func(p *clocked) { p.wrongUs = -5_000_000 }), schemas.ClockCapture, 170_000, false},
		"two hours off":       {with(func(p *clocked) { p.wrongUs = 7_200_000_000 }), schemas.ClockCapture, 170_000, false},
		"known round trip":    {with(func(p *clocked) { p.rttUs = 62_000 }), schemas.ClockCapture, 100_000, false},
		"marks on key frames": {with(func(p *clocked) { p.every = 50; p.frames = 5000 }), schemas.ClockCapture, 170_000, false},
		"100 ppm fast":        {with(func(p *clocked) { p.ppm = 100 }), schemas.ClockCapture, 200_000, false},
		"coding time unknown": {with(func(p *clocked) { p.tellDelay = false }), schemas.ClockCapture, 670_000, false},
		"synchronised":        {with(func(p *clocked) { p.synced, p.wrongUs = true, 4_000 }), schemas.ClockSynced, 10_000, false},
		"synchronised, but the clock is a minute fast": {with(func(p *clocked) { p.synced, p.wrongUs = true, 60_000_000; p.tellDelay = true }), schemas.ClockCapture, 90_000_000, true},
		"set by 3 s on the way":                        {with(func(p *clocked) { p.stepAt, p.stepUs = 1400, 3_000_000 }), schemas.ClockCapture, 170_000, true},
		"runs 1 % fast":                                {with(func(p *clocked) { p.ppm = 10_000; p.frames = 2000 }), schemas.ClockArrival, 100_000, true},
		"time codes":                                   {with(func(p *clocked) { p.source, p.tellDelay = schemas.ClockTimecode, false }), schemas.ClockTimecode, 670_000, false},
		"no marks":                                     {with(func(p *clocked) { p.every = 0 }), schemas.ClockArrival, 70_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.p.run(t)
			if r.source != tc.source {
				t.Errorf("clock is %s, want %s (%v)", r.source, tc.source, r.sources)
			}
			if r.bound > tc.bound {
				t.Errorf("bound is %d us, want at most %d", r.bound, tc.bound)
			}
			// An arrival time knows nothing of what came before it.
			if tc.source != schemas.ClockArrival && r.broken > 0 {
				t.Errorf("%d chunks are beyond their bound: %d us off", r.broken, r.worst)
			}
			if (r.discarded > 0) != tc.discarded {
				t.Errorf("%d capture times were discarded", r.discarded)
			}
			if r.captured != r.all-r.sources[schemas.ClockArrival] {
				t.Errorf("%d prft boxes of %d say captured, chunks %v", r.captured, r.all, r.sources)
			}
			if r.source != schemas.ClockArrival && r.worst > tc.bound {
				t.Errorf("%d us off", r.worst)
			}
			t.Logf("%s: %d us off at worst, bound %d us, %d discarded", r.source, r.worst, r.bound, r.discarded)
		})
	}
}

// A source that comes or goes moves the wall-clock without a step.
func TestClockSourceChangesSmoothly(t *testing.T) {
	c := newWallClock(1000)
	last := int64(0)
	for i := range int64(4000) {
		media := i * 40_000
		f := Frame{ArrivedUs: epoch0 + media + 900_000}
		if i > 500 && i < 2000 {
			f.CaptureUs = epoch0 + media
			f.Capture = Capture{Synchronised: true, BoundUs: 1000}
		}
		c.observe(&f, media)
		w := c.wall(media)
		if d := w - last; i > 0 && (d < 30_000 || d > 50_000) {
			t.Fatalf("frame %d: the wall-clock moved by %d us in 40 ms", i, d)
		}
		last = w
		if i == 1800 && (c.source() != schemas.ClockSynced || w != epoch0+media && (w-epoch0-media > c.bound() || w < epoch0+media)) {
			t.Errorf("%s: %d us off, bound %d", c.source(), w-epoch0-media, c.bound())
		}
	}
	if c.source() != schemas.ClockArrival || c.wall(0)-epoch0 < 880_000 {
		t.Errorf("%s: %d", c.source(), c.wall(0)-epoch0)
	}
}

func TestClockMessages(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123_456_000, time.UTC).UnixMicro()
	want := Capture{Synchronised: true, BoundUs: 2500, DelayUs: 0}
	length := func(u []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(u))), u...) }
	for codec, picture := range map[Codec][]byte{H264: length([]byte{0x65, 1, 2}), H265: length([]byte{0x26, 1, 2}), AV1: {0x32, 2, 0x10, 1}} {
		for _, c := range []Capture{want, {DelayUs: 70_000}, {}} {
			msg := ClockMessage(codec, at, c)
			if codec != AV1 {
				msg = length(msg)
			}
			a, err := ParseVideo(codec, append(msg, picture...), 4)
			if err != nil {
				t.Fatal(err)
			}
			if a.Mark.UnixUs != at || a.Mark.Capture != c || !a.Key {
				t.Errorf("%s: %+v", codec, a)
			}
		}
	}
	sei := func(payload ...byte) []byte {
		rbsp := append([]byte{5, byte(len(payload))}, payload...)
		return append(length(escape([]byte{6}, append(rbsp, 0x80))), length([]byte{0x65, 1})...)
	}
	misb := binary.BigEndian.AppendUint64(nil, uint64(at))
	stamp := []byte{0x1f, misb[0], misb[1], 0xff, misb[2], misb[3], 0xff, misb[4], misb[5], 0xff, misb[6], misb[7]}
	obs := append([]byte{1, 1, 1}, "2026-11-21T12:00:00.123Z\x00"...)
	obs = append(append(obs, 3, 4), binary.BigEndian.AppendUint64(nil, 80_000_000)...)
	x264 := []byte{0xdc, 0x45, 0xe9, 0xbd, 0xe6, 0xd9, 0x48, 0xb7, 0x96, 0x2c, 0xd8, 0x20, 0xd9, 0x23, 0xee, 0xef}
	for name, tc := range map[string]struct {
		data  []byte
		us    int64
		delay int64
	}{
		"MISB ST 0604":        {sei(append(append([]byte(nil), misbAVC...), stamp...)...), at, 0},
		"OBS times":           {sei(append(append([]byte(nil), obsTimes...), obs...)...), at / 1000 * 1000, 80_000},
		"x264's settings":     {sei(append(x264, "x264 - core 164"...)...), 0, 0},
		"cut short":           {sei(ClockUUID[:]...), 0, 0},
		"of a later version":  {sei(append(append([]byte(nil), ClockUUID[:]...), make([]byte, 18)...)...), 0, 0},
		"MISB, cut short":     {sei(append(append([]byte(nil), misbAVC...), stamp[:9]...)...), 0, 0},
		"OBS without the end": {sei(append(append([]byte(nil), obsTimes...), obs[:12]...)...), 0, 0},
	} {
		a, err := ParseVideo(H264, tc.data, 4)
		if err != nil {
			t.Fatal(err)
		}
		if a.Mark.UnixUs != tc.us || a.Mark.Known() != (tc.us != 0) || a.Mark.Capture.DelayUs != tc.delay {
			t.Errorf("%s: %+v, want %d", name, a.Mark, tc.us)
		}
	}
}

// bitWriter writes bits of a test's payload.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) put(v uint64, bits int) *bitWriter {
	for i := bits - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
	return w
}

func TestTimeCodes(t *testing.T) {
	r := MarkReader{timeScale: 50, tick: 1, picStruct: true, hasDelays: true, removal: 10, output: 7, offsetBits: 24}
	w := &bitWriter{}
	w.put(3, 10).put(2, 7).put(0, 4).put(1, 1).put(0, 2).put(1, 1).put(0, 5).put(1, 1).put(0, 2).put(12, 8) // 12 frames of 1/25 s
	w.put(58, 6).put(59, 6).put(23, 5).put(0, 24)
	m := r.picTiming(w.b)
	const want = (23*3600+59*60+58)*1_000_000 + 480_000
	if !m.TimeOfDay || m.UnixUs != want || m.Capture.BoundUs != 40_000 {
		t.Errorf("H.264: %+v", m)
	}
	w = &bitWriter{} // only seconds: minutes and hours are those of the last one
	w.put(3, 10).put(2, 7).put(0, 4).put(1, 1).put(0, 2).put(1, 1).put(0, 5).put(0, 1).put(0, 2).put(13, 8).put(1, 1).put(58, 6).put(0, 1).put(0, 24)
	if m := r.picTiming(w.b); m.UnixUs != want+40_000 {
		t.Errorf("H.264, short: %+v", m)
	}
	h := MarkReader{timeScale: 25, tick: 1}
	w = &bitWriter{}
	w.put(1, 2).put(1, 1).put(0, 1).put(0, 5).put(1, 1).put(0, 2).put(12, 9).put(58, 6).put(59, 6).put(23, 5).put(0, 5)
	if m := h.timeCode(w.b); m.UnixUs != want {
		t.Errorf("H.265: %+v", m)
	}
	if m := h.timeCode(w.b[:3]); m.Known() {
		t.Errorf("cut short: %+v", m)
	}
	// On the day that fits arrival, over midnight too.
	midnight := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).UnixMicro()
	f := Frame{ArrivedUs: midnight + 300_000}
	m.Apply(&f)
	if got := f.ArrivedUs - f.CaptureUs; got != 300_000+1_520_000 {
		t.Errorf("the capture is %d us before arrival", got)
	}
}
