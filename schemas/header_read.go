package schemas

import (
	"encoding/json"
	"math"
)

// Headers are nearly always as this program writes them: fields in that order,
// none unknown, no spaces, no escapes. Those are read in one pass; whatever
// differs is left to encoding/json, so that what is taken, and as what, is the same.

func parseChunk(header []byte, c *Chunk) error {
	if readChunk(header, c) {
		return nil
	}
	*c = Chunk{}
	return json.Unmarshal(header, c)
}

func parsePart(header []byte, p *Part) error {
	if readPart(header, p) {
		return nil
	}
	*p = Part{}
	return json.Unmarshal(header, p)
}

func readChunk(header []byte, c *Chunk) bool {
	r := reader{b: header}
	c.Version = int(r.int(`{"v":`, math.MaxInt))
	c.App = r.string(`,"app":"`)
	c.Stream = r.string(`,"stream":"`)
	c.Rendition = r.string(`,"rendition":"`)
	c.Epoch = uint32(r.uint(`,"epoch":`, math.MaxUint32))
	c.Seq = r.uint(`,"seq":`, math.MaxUint64)
	c.DiscontinuitySeq = uint32(r.uint(`,"dseq":`, math.MaxUint32))
	if r.next(`,"cdn":"`) {
		c.CDN = r.string(`,"cdn":"`)
	}
	c.ReceivedUnixUs = r.int(`,"recv_us":`, math.MaxInt64)
	c.Clock = ClockSource(r.string(`,"clock":"`))
	c.ClockBoundUs = r.int(`,"clock_bound_us":`, math.MaxInt64)
	c.Encryption = r.encryption()
	r.take(`,"frags":[`)
	c.Fragments = make([]Fragment, 0, 4)
	for !r.failed {
		c.Fragments = append(c.Fragments, Fragment{})
		r.fragment(&c.Fragments[len(c.Fragments)-1])
		if !r.next(`,`) {
			break
		}
		r.take(`,`)
	}
	r.take(`]`)
	c.CRC = uint32(r.uint(`,"crc":`, math.MaxUint32))
	return r.end()
}

func readPart(header []byte, p *Part) bool {
	r := reader{b: header}
	p.Version = int(r.int(`{"v":`, math.MaxInt))
	p.App = r.string(`,"app":"`)
	p.Stream = r.string(`,"stream":"`)
	p.Rendition = r.string(`,"rendition":"`)
	p.Track = Track(r.string(`,"track":"`))
	p.Epoch = uint32(r.uint(`,"epoch":`, math.MaxUint32))
	p.MSN = r.uint(`,"msn":`, math.MaxUint64)
	p.Part = uint32(r.uint(`,"part":`, math.MaxUint32))
	p.DiscontinuitySeq = uint32(r.uint(`,"dseq":`, math.MaxUint32))
	if r.next(`,"cdn":"`) {
		p.CDN = r.string(`,"cdn":"`)
	}
	p.InitID = r.string(`,"init":"`)
	p.DurationUs = r.int(`,"dur_us":`, math.MaxInt64)
	p.WallUnixUs = r.int(`,"wall_us":`, math.MaxInt64)
	p.ReceivedUnixUs = r.int(`,"recv_us":`, math.MaxInt64)
	if r.next(`,"done_us":`) {
		p.DoneUnixUs = r.int(`,"done_us":`, math.MaxInt64)
	}
	p.Independent, p.SegmentStart, p.SegmentEnd, p.Discontinuity = r.flags()
	p.Line = r.line()
	if r.next(`,"kid":"`) {
		p.KID = r.string(`,"kid":"`)
	}
	p.ContentID = r.string(`,"cid":"`)
	p.CRC = uint32(r.uint(`,"crc":`, math.MaxUint32))
	return r.end()
}

// reader takes what stands at its front. Once something else stood there, failed is set.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) fragment(f *Fragment) {
	f.Track = Track(r.string(`{"track":"`))
	f.MSN = r.uint(`,"msn":`, math.MaxUint64)
	f.Part = uint32(r.uint(`,"part":`, math.MaxUint32))
	f.Offset = int(r.int(`,"off":`, math.MaxInt))
	f.Size = int(r.int(`,"size":`, math.MaxInt))
	f.InitID = r.string(`,"init":"`)
	f.BaseTime = r.uint(`,"base":`, math.MaxUint64)
	f.Duration = r.uint(`,"dur":`, math.MaxUint64)
	f.Timescale = uint32(r.uint(`,"ts":`, math.MaxUint32))
	f.Samples = int(r.int(`,"n":`, math.MaxInt))
	f.WallUnixUs = r.int(`,"wall_us":`, math.MaxInt64)
	if r.next(`,"done_us":`) {
		f.DoneUnixUs = r.int(`,"done_us":`, math.MaxInt64)
	}
	f.Independent, f.SegmentStart, f.SegmentEnd, f.Discontinuity = r.flags()
	f.Line = r.line()
	r.take(`}`)
}

func (r *reader) flags() (key, start, end, disc bool) {
	return r.flag(`,"key":true`), r.flag(`,"start":true`), r.flag(`,"end":true`), r.flag(`,"disc":true`)
}

func (r *reader) flag(text string) bool {
	if !r.next(text) {
		return false
	}
	r.b = r.b[len(text):]
	return true
}

func (r *reader) line() *Line {
	if !r.next(`,"line":{"id":`) {
		return nil
	}
	l := &Line{
		ID: r.uint(`,"line":{"id":`, math.MaxUint64), FirstMSN: r.uint(`,"msn":`, math.MaxUint64),
		StartUs: r.int(`,"start_us":`, math.MaxInt64), ZeroUnixUs: r.int(`,"zero_us":`, math.MaxInt64),
	}
	if r.next(`,"seg_us":`) {
		l.SegmentUs = r.int(`,"seg_us":`, math.MaxInt64)
	}
	r.take(`}`)
	return l
}

func (r *reader) encryption() *Encryption {
	if !r.next(`,"enc":{`) {
		return nil
	}
	e := &Encryption{Scheme: r.string(`,"enc":{"scheme":"`), KeyURL: r.string(`,"key_url":"`)}
	if r.next(`,"rotate_segments":`) {
		e.RotateSegments = r.uint(`,"rotate_segments":`, math.MaxUint64)
	}
	r.take(`}`)
	return e
}

// next reports whether text stands at the front.
func (r *reader) next(text string) bool {
	return len(r.b) >= len(text) && string(r.b[:len(text)]) == text
}

func (r *reader) take(text string) {
	if r.failed = r.failed || !r.next(text); !r.failed {
		r.b = r.b[len(text):]
	}
}

// end takes the last brace, behind which nothing may stand.
func (r *reader) end() bool { return !r.failed && string(r.b) == "}" }

// uint takes text and the number behind it, which is at most most.
func (r *reader) uint(text string, most uint64) uint64 {
	r.take(text)
	n, i := uint64(0), 0
	for ; !r.failed && i < len(r.b) && r.b[i] >= '0' && r.b[i] <= '9'; i++ {
		d := uint64(r.b[i] - '0')
		if n > (most-d)/10 {
			r.failed = true
			return 0
		}
		n = n*10 + d
	}
	if i == 0 || i > 1 && r.b[0] == '0' {
		r.failed = true
		return 0
	}
	r.b = r.b[i:]
	return n
}

// int is uint for numbers that may be negative; the least one is left to encoding/json.
func (r *reader) int(text string, most int64) int64 {
	r.take(text)
	if !r.failed && len(r.b) > 0 && r.b[0] == '-' {
		r.b = r.b[1:]
		return -int64(r.uint("", uint64(most)))
	}
	return int64(r.uint("", uint64(most)))
}

// string takes text, which ends with a quote, and what stands up to the next one.
func (r *reader) string(text string) string {
	r.take(text)
	if r.failed {
		return ""
	}
	for i, c := range r.b {
		switch {
		case c == '"':
			s := common(r.b[:i])
			r.b = r.b[i+1:]
			return s
		case c == '\\': // as in the query of a key's URL, whose & is written so
			return r.escaped()
		case c < ' ' || c >= 0x7F:
			r.failed = true
			return ""
		}
	}
	r.failed = true
	return ""
}

// escaped takes a string with escapes up to its quote; what they mean encoding/json says.
func (r *reader) escaped() (s string) {
	for i := 0; i < len(r.b); i++ {
		switch r.b[i] {
		case '\\':
			i++
		case '"':
			quoted := append(append([]byte{'"'}, r.b[:i]...), '"')
			r.b = r.b[i+1:]
			r.failed = json.Unmarshal(quoted, &s) != nil
			return s
		}
	}
	r.failed = true
	return ""
}

// common saves the allocation of what nearly every header says.
func common(b []byte) string {
	switch string(b) {
	case SourceRendition:
		return SourceRendition
	case string(Video):
		return string(Video)
	case string(Audio):
		return string(Audio)
	case string(ClockArrival):
		return string(ClockArrival)
	case string(ClockCapture):
		return string(ClockCapture)
	}
	return string(b)
}
