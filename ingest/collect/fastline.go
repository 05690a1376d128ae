package collect

import (
	"strconv"

	"github.com/spillway-live/spillway/schemas"
)

// fastLine reads a log line in the form in which edges write it: one flat JSON
// object, ASCII, no white space, only escapes of ASCII. It reports false for anything else,
// which encoding/json must read; x may then hold part of the line. Log lines are
// by far the most frequent record, and this is several times as fast.
func fastLine(s string, x *schemas.CDNLogLine) bool {
	if len(s) < 2 || s[0] != '{' {
		return false
	}
	for i := 1; ; {
		key, j := plainString(s, i)
		if j < 0 || j >= len(s) || s[j] != ':' {
			return false
		}
		if i = lineValue(s, j+1, key, x); i < 0 || i >= len(s) {
			return false
		}
		switch s[i] {
		case ',':
			i++
		case '}':
			return i == len(s)-1
		default:
			return false
		}
	}
}

// plainString reads the string at i and gives the position after it, or -1.
func plainString(s string, i int) (string, int) {
	if i >= len(s) || s[i] != '"' {
		return "", -1
	}
	i++
	for j := i; j < len(s); j++ {
		switch c := s[j]; {
		case c == '"':
			return s[i:j], j + 1
		case c == '\\':
			return escapedString(s, i, j)
		case c < 0x20 || c >= 0x80:
			return "", -1
		}
	}
	return "", -1
}

// escapedString goes on where plainString met the first backslash, at j, of the string that starts at i.
func escapedString(s string, i, j int) (string, int) {
	b := make([]byte, j-i, j-i+128)
	copy(b, s[i:j])
	for j < len(s) {
		c := s[j]
		j++
		switch {
		case c == '"':
			return string(b), j
		case c < 0x20 || c >= 0x80:
			return "", -1
		case c != '\\':
			b = append(b, c)
			continue
		}
		if j >= len(s) {
			return "", -1
		}
		switch e := s[j]; {
		case e == '"' || e == '\\' || e == '/':
			b = append(b, e)
			j++
		case e == 'u' && j+5 <= len(s): // Go writes < > & so
			v, err := strconv.ParseUint(s[j+1:j+5], 16, 16)
			if err != nil || v < 0x20 || v >= 0x80 {
				return "", -1
			}
			b = append(b, byte(v))
			j += 5
		default:
			return "", -1
		}
	}
	return "", -1
}

// plainNumber reads a number without exponent, and says whether it is an unsigned integer.
func plainNumber(s string, i int) (text string, integer bool, next int) {
	start := i
	integer = true
	if i < len(s) && s[i] == '-' {
		integer = false
		i++
	}
	first := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == first || s[first] == '0' && i > first+1 {
		return "", false, -1
	}
	if i < len(s) && s[i] == '.' {
		integer = false
		i++
		frac := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		if i == frac {
			return "", false, -1
		}
	}
	return s[start:i], integer, i
}

// lineValue reads the value of key at i into x and gives the position after it, or -1.
func lineValue(s string, i int, key string, x *schemas.CDNLogLine) int {
	if i >= len(s) {
		return -1
	}
	if dst := lineText(key, x); dst != nil {
		var j int
		if *dst, j = plainString(s, i); j < 0 {
			return -1
		}
		return j
	}
	if s[i] == 't' || s[i] == 'f' {
		v, n := true, 4
		if s[i] == 'f' {
			v, n = false, 5
		}
		if i+n > len(s) || s[i:i+n] != strconv.FormatBool(v) {
			return -1
		}
		switch key {
		case "hit":
			x.CacheHit = v
		case "coalesced":
			x.Coalesced = v
		default:
			return -1
		}
		return i + n
	}
	text, integer, j := plainNumber(s, i)
	if j < 0 {
		return -1
	}
	var err error
	switch key {
	case "ttfb_ms":
		x.FirstByteMs, err = strconv.ParseFloat(text, 64)
	case "total_ms":
		x.TotalMs, err = strconv.ParseFloat(text, 64)
	case "seq":
		x.Seq, err = strconv.ParseUint(text, 10, 64)
	case "ts_ms", "status", "bytes":
		var v int64
		if v, err = strconv.ParseInt(text, 10, 64); !integer {
			return -1
		}
		switch key {
		case "ts_ms":
			x.TsMs = v
		case "status":
			x.Status = int(v)
		default:
			x.Bytes = v
		}
	default:
		return -1
	}
	if err != nil {
		return -1
	}
	return j
}

func lineText(key string, x *schemas.CDNLogLine) *string {
	switch key {
	case "cdn":
		return &x.CDN
	case "server":
		return &x.Server
	case "boot":
		return &x.Boot
	case "method":
		return &x.Method
	case "host":
		return &x.Host
	case "path":
		return &x.Path
	case "cmcd":
		return &x.CMCD
	case "cmcd_headers":
		return &x.CMCDHeaders
	case "ua":
		return &x.UserAgent
	case "reason":
		return &x.Reason
	case "sid":
		return &x.SessionID
	case "vid":
		return &x.ViewerID
	case "app":
		return &x.App
	case "stream":
		return &x.Stream
	case "arms":
		return &x.Arms
	case "region":
		return &x.Region
	case "isp":
		return &x.ISP
	}
	return nil
}
