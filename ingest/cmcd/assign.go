package cmcd

import (
	"math"
	"strings"
	"unicode/utf8"
)

// maxInt is the largest integer of RFC 8941: 15 digits.
const maxInt = 999_999_999_999_999

// assign stores the items that were read as the value of a key.
func (p *parser) assign(name string) {
	r := p.rec
	k := lookup(name)
	if k == Unknown {
		if strings.IndexByte(name, '-') > 0 {
			p.custom(name)
		} else {
			r.UnknownKeys++
		}
		return
	}
	sp := &specs[k]
	if p.n == 0 { // "()"
		r.issue(k, Empty)
		return
	}
	if p.extra > 0 {
		r.issue(k, TooMany)
	}
	it := &p.items[0]
	if it.isNull() && (sp.class != classToken || it.kind == kindRaw) {
		r.issue(k, Null)
		return
	}
	switch sp.class {
	case classByType:
		p.byType(k)
		return
	case classStrings:
		p.strings(k, sp)
		return
	}
	if p.isList {
		r.Coerced |= 1 << k
		if p.n > 1 {
			r.issue(k, TooMany)
		}
	}
	switch sp.class {
	case classInt:
		v, why, ok := it.integer(sp.signed)
		if !ok {
			r.issue(k, why)
			return
		}
		if it.kind != kindInt {
			r.Coerced |= 1 << k
		}
		if k == V {
			p.version(v)
			return
		}
		*r.integer(k) = v
	case classDecimal:
		v, ok := it.float()
		if !ok {
			r.issue(k, WrongType)
			return
		}
		r.Rate = v
	case classBool:
		v, ok := it.boolean()
		if !ok {
			r.issue(k, WrongType)
			return
		}
		if it.kind != kindBool {
			r.Coerced |= 1 << k
		}
		*r.boolean(k) = v
	case classToken:
		if it.kind != kindToken && it.kind != kindString && it.kind != kindRaw {
			r.issue(k, WrongType)
			return
		}
		if it.kind != kindToken {
			r.Coerced |= 1 << k
		}
		if !p.token(k, it.str) {
			return
		}
	default:
		s, why, ok := it.text(sp.maxLen)
		if !ok {
			r.issue(k, why)
			return
		}
		if it.kind != kindString {
			r.Coerced |= 1 << k
		}
		*r.text(k) = s
	}
	r.Has |= 1 << k
}

func (p *parser) version(v int64) {
	if v < 1 {
		p.rec.issue(V, OutOfRange)
		return
	}
	p.rec.Version = int(min(v, math.MaxInt32))
	p.rec.Has |= 1 << V
}

func (p *parser) byType(k Key) {
	r := p.rec
	var t ByType
	for i := range p.items[:p.n] {
		it := &p.items[i]
		v, why, ok := it.integer(false)
		if !ok {
			r.issue(k, why)
			continue
		}
		if it.kind != kindInt {
			r.Coerced |= 1 << k
		}
		if it.labels == 0 {
			it.labels = HasAny
		}
		if it.labels&HasAny != 0 && t.Set&HasAny != 0 {
			r.issue(k, TooMany)
			continue
		}
		if it.labels&HasVideo != 0 {
			t.Video = v
		}
		if it.labels&HasAudio != 0 {
			t.Audio = v
		}
		if it.labels&HasAV != 0 {
			t.AV = v
		}
		if it.labels&HasAny != 0 {
			t.Any = v
		}
		t.Set |= it.labels
	}
	if t.Set == 0 {
		return
	}
	*r.byType(k) = t
	r.Has |= 1 << k
	if p.isList {
		r.Scalars &^= 1 << k
	} else {
		r.Scalars |= 1 << k
	}
}

func (p *parser) strings(k Key, sp *spec) {
	r := p.rec
	n := 0
	for i := range p.items[:p.n] {
		it := &p.items[i]
		s, why, ok := it.text(sp.maxLen)
		switch {
		case !ok:
			r.issue(k, why)
			continue
		case k == EC && n < MaxErrorCodes:
			r.errorCodes[n] = s
		case k == NOR && n < MaxNext:
			r.next[n] = NextObject{Path: s}
			if it.rng != "" && len(it.rng) <= specs[NRR].maxLen && cleanText(it.rng) {
				r.next[n].Range = it.rng
			}
		default:
			r.issue(k, TooMany)
			continue
		}
		if it.kind != kindString {
			r.Coerced |= 1 << k
		}
		n++
	}
	if n == 0 {
		return
	}
	if k == EC {
		r.nErrorCodes = uint8(n)
	} else {
		r.nNext = uint8(n)
	}
	r.Has |= 1 << k
	if p.isList {
		r.Scalars &^= 1 << k
	} else {
		r.Scalars |= 1 << k
	}
}

// token stores an enumerated value. It reports false when the text is no token at all.
func (p *parser) token(k Key, s string) bool {
	r := p.rec
	if s == "" || len(s) > MaxCustomLen || tokenEnd(s, 0) != len(s) || !tokenStart(s[0]) {
		r.issue(k, BadText)
		return false
	}
	low := strings.ToLower(s)
	if low != s {
		r.Coerced |= 1 << k
	}
	var v uint8
	switch k {
	case E:
		r.Event, r.EventToken = ParseEvent(low), ""
		if v = uint8(r.Event); v == other {
			r.EventToken = s
		}
	case STA:
		r.State, r.StateToken = ParseState(low), ""
		if v = uint8(r.State); v == other {
			r.StateToken = s
		}
	case OT:
		r.Object = ParseObject(low)
		v = uint8(r.Object)
	case SF:
		r.Format = ParseFormat(low)
		v = uint8(r.Format)
	default:
		r.StreamType = ParseStreamType(low)
		v = uint8(r.StreamType)
	}
	if v == other {
		r.issue(k, UnknownToken)
	}
	return true
}

func (p *parser) custom(name string) {
	r := p.rec
	if p.n == 0 || len(name) > MaxCustomLen {
		r.issue(Custom, BadSyntax)
		return
	}
	it := &p.items[0]
	c := CustomValue{Key: name}
	switch it.kind {
	case kindInt:
		c.Kind, c.Value = CustomNumber, appendInt(it.num)
	case kindDecimal:
		if math.IsNaN(it.dec) || math.Abs(it.dec) >= 1e12 {
			r.issue(Custom, OutOfRange)
			return
		}
		c.Kind, c.Value = CustomNumber, appendDecimal(it.dec)
	case kindBool:
		c.Kind, c.Value = CustomBool, "?0"
		if it.num != 0 {
			c.Value = "?1"
		}
	default:
		s, why, ok := it.text(MaxCustomLen)
		if !ok {
			r.issue(Custom, why)
			return
		}
		c.Value = s
		if it.kind == kindToken {
			c.Kind = CustomToken
		}
	}
	if !r.SetCustom(c) {
		r.issue(Custom, TooMany)
	}
}

// isNull recognises the words that programs print for a missing value.
func (it *item) isNull() bool {
	if it.kind != kindToken && it.kind != kindRaw {
		return false
	}
	switch it.str {
	case "null", "undefined", "NaN", "nil", "None":
		return true
	}
	return false
}

func (it *item) integer(signed bool) (v int64, why Reason, ok bool) {
	switch it.kind {
	case kindInt:
		v = it.num
	case kindDecimal:
		if math.IsNaN(it.dec) || math.Abs(it.dec) > maxInt {
			return 0, OutOfRange, false
		}
		v = int64(math.Round(it.dec))
	default:
		return 0, WrongType, false
	}
	if v < 0 && !signed || v > maxInt || v < -maxInt {
		return 0, OutOfRange, false
	}
	return v, 0, true
}

func (it *item) float() (float64, bool) {
	switch it.kind {
	case kindInt:
		return float64(it.num), true
	case kindDecimal:
		return it.dec, !math.IsNaN(it.dec) && !math.IsInf(it.dec, 0)
	}
	return 0, false
}

func (it *item) boolean() (v, ok bool) {
	switch it.kind {
	case kindBool, kindInt:
		return it.num == 1, it.num == 0 || it.num == 1
	case kindToken, kindRaw, kindString:
		switch strings.ToLower(it.str) {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	return false, false
}

// text gives the item as a string; numbers are written out.
func (it *item) text(maxLen int) (s string, why Reason, ok bool) {
	switch it.kind {
	case kindInt:
		return appendInt(it.num), 0, true
	case kindDecimal:
		if math.IsNaN(it.dec) || math.Abs(it.dec) > maxInt {
			return "", OutOfRange, false
		}
		return appendDecimal(it.dec), 0, true
	case kindString, kindToken, kindRaw, kindBytes:
	default:
		return "", WrongType, false
	}
	s = it.str
	if len(s) > 2*maxLen { // before any work on it
		return "", TooLong, false
	}
	if it.escaped {
		s = unescape(s)
	}
	switch {
	case s == "":
		return "", Empty, false
	case len(s) > maxLen:
		return "", TooLong, false
	case !cleanText(s):
		return "", BadText, false
	}
	return s, 0, true
}

func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// cleanText reports whether s is UTF-8 without control characters.
func cleanText(s string) bool {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return false
		}
		if c >= 0x80 {
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s)
}
