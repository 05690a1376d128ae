package schemas

import (
	"encoding/json"
	"strconv"
)

// The JSON of chunk and part headers by hand: what encoding/json gives, byte for
// byte, which FuzzChunkHeaderJSON and FuzzPartHeaderJSON hold it to.

func appendChunk(b []byte, c *Chunk) []byte {
	b = appendInt(b, `{"v":`, int64(c.Version))
	b = appendString(b, `,"app":`, c.App)
	b = appendString(b, `,"stream":`, c.Stream)
	b = appendString(b, `,"rendition":`, c.Rendition)
	b = appendUint(b, `,"epoch":`, uint64(c.Epoch))
	b = appendUint(b, `,"seq":`, c.Seq)
	b = appendUint(b, `,"dseq":`, uint64(c.DiscontinuitySeq))
	if c.CDN != "" {
		b = appendString(b, `,"cdn":`, c.CDN)
	}
	b = appendInt(b, `,"recv_us":`, c.ReceivedUnixUs)
	b = appendString(b, `,"clock":`, string(c.Clock))
	b = appendInt(b, `,"clock_bound_us":`, c.ClockBoundUs)
	b = appendEncryption(b, c.Encryption)
	b = append(b, `,"frags":`...)
	if c.Fragments == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i := range c.Fragments {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFragment(b, &c.Fragments[i])
		}
		b = append(b, ']')
	}
	return append(appendUint(b, `,"crc":`, uint64(c.CRC)), '}')
}

func appendEncryption(b []byte, e *Encryption) []byte {
	if e == nil {
		return b
	}
	b = appendString(b, `,"enc":{"scheme":`, e.Scheme)
	b = appendString(b, `,"key_url":`, e.KeyURL)
	if e.RotateSegments != 0 {
		b = appendUint(b, `,"rotate_segments":`, e.RotateSegments)
	}
	return append(b, '}')
}

func appendFragment(b []byte, f *Fragment) []byte {
	b = appendString(b, `{"track":`, string(f.Track))
	b = appendUint(b, `,"msn":`, f.MSN)
	b = appendUint(b, `,"part":`, uint64(f.Part))
	b = appendInt(b, `,"off":`, int64(f.Offset))
	b = appendInt(b, `,"size":`, int64(f.Size))
	b = appendString(b, `,"init":`, f.InitID)
	b = appendUint(b, `,"base":`, f.BaseTime)
	b = appendUint(b, `,"dur":`, f.Duration)
	b = appendUint(b, `,"ts":`, uint64(f.Timescale))
	b = appendInt(b, `,"n":`, int64(f.Samples))
	b = appendInt(b, `,"wall_us":`, f.WallUnixUs)
	if f.DoneUnixUs != 0 {
		b = appendInt(b, `,"done_us":`, f.DoneUnixUs)
	}
	b = appendFlags(b, f.Independent, f.SegmentStart, f.SegmentEnd, f.Discontinuity)
	return append(appendLine(b, f.Line), '}')
}

func appendPart(b []byte, p *Part) []byte {
	b = appendInt(b, `{"v":`, int64(p.Version))
	b = appendString(b, `,"app":`, p.App)
	b = appendString(b, `,"stream":`, p.Stream)
	b = appendString(b, `,"rendition":`, p.Rendition)
	b = appendString(b, `,"track":`, string(p.Track))
	b = appendUint(b, `,"epoch":`, uint64(p.Epoch))
	b = appendUint(b, `,"msn":`, p.MSN)
	b = appendUint(b, `,"part":`, uint64(p.Part))
	b = appendUint(b, `,"dseq":`, uint64(p.DiscontinuitySeq))
	if p.CDN != "" {
		b = appendString(b, `,"cdn":`, p.CDN)
	}
	b = appendString(b, `,"init":`, p.InitID)
	b = appendInt(b, `,"dur_us":`, p.DurationUs)
	b = appendInt(b, `,"wall_us":`, p.WallUnixUs)
	b = appendInt(b, `,"recv_us":`, p.ReceivedUnixUs)
	if p.DoneUnixUs != 0 {
		b = appendInt(b, `,"done_us":`, p.DoneUnixUs)
	}
	b = appendFlags(b, p.Independent, p.SegmentStart, p.SegmentEnd, p.Discontinuity)
	b = appendLine(b, p.Line)
	if p.KID != "" {
		b = appendString(b, `,"kid":`, p.KID)
	}
	b = appendString(b, `,"cid":`, p.ContentID)
	return append(appendUint(b, `,"crc":`, uint64(p.CRC)), '}')
}

func appendFlags(b []byte, key, start, end, disc bool) []byte {
	if key {
		b = append(b, `,"key":true`...)
	}
	if start {
		b = append(b, `,"start":true`...)
	}
	if end {
		b = append(b, `,"end":true`...)
	}
	if disc {
		b = append(b, `,"disc":true`...)
	}
	return b
}

func appendLine(b []byte, l *Line) []byte {
	if l == nil {
		return b
	}
	b = appendUint(b, `,"line":{"id":`, l.ID)
	b = appendUint(b, `,"msn":`, l.FirstMSN)
	b = appendInt(b, `,"start_us":`, l.StartUs)
	b = appendInt(b, `,"zero_us":`, l.ZeroUnixUs)
	if l.SegmentUs != 0 {
		b = appendInt(b, `,"seg_us":`, l.SegmentUs)
	}
	return append(b, '}')
}

func appendInt(b []byte, name string, v int64) []byte {
	return strconv.AppendInt(append(b, name...), v, 10)
}

func appendUint(b []byte, name string, v uint64) []byte {
	return strconv.AppendUint(append(b, name...), v, 10)
}

func appendString(b []byte, name, s string) []byte {
	b = append(b, name...)
	for i := range len(s) {
		if !plain(s[i]) {
			q, _ := json.Marshal(s) // a string always encodes
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// plain bytes stand for themselves in a JSON string, also in encoding/json's,
// which escapes what HTML takes for markup.
func plain(c byte) bool {
	return c >= ' ' && c < 0x7F && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}
