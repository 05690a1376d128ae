package cmcd

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// Append writes the record as one line of an event body: version 2, keys
// sorted, without line end. Equal records give equal bytes. Keys whose rounding
// the specification demands (or advises, bl and tbl) are rounded to 100. Text
// is written as UTF-8; characters that a string cannot hold are left out.
func (r *Record) Append(dst []byte) []byte { return r.append(dst, false) }

// AppendQuery writes the record as query argument, CMCD=..., URL-encoded. Keys
// that exist only in event mode are left out.
func (r *Record) AppendQuery(dst []byte) []byte {
	dst = append(dst, "CMCD="...)
	start := len(dst)
	dst = r.append(dst, true)
	plain := slices.Clone(dst[start:])
	dst = dst[:start]
	for _, c := range plain {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' {
			dst = append(dst, c)
			continue
		}
		const hex = "0123456789ABCDEF"
		dst = append(dst, '%', hex[c>>4], hex[c&15])
	}
	return dst
}

func (r *Record) append(dst []byte, request bool) []byte {
	custom := r.custom[:r.nCustom]
	if !slices.IsSortedFunc(custom, byKey) {
		custom = slices.Clone(custom)
		slices.SortFunc(custom, byKey)
	}
	start := len(dst)
	for k := range (r.Has | 1<<V).All() {
		if k >= numKeys || k == NRR || request && specs[k].event {
			continue
		}
		for len(custom) > 0 && custom[0].Key < specs[k].name {
			dst = appendCustom(comma(dst, start), custom[0])
			custom = custom[1:]
		}
		dst = r.appendKey(comma(dst, start), k)
	}
	for _, c := range custom {
		dst = appendCustom(comma(dst, start), c)
	}
	return dst
}

func byKey(a, b CustomValue) int { return cmp.Compare(a.Key, b.Key) }

func comma(dst []byte, start int) []byte {
	if len(dst) > start {
		return append(dst, ',')
	}
	return dst
}

func (r *Record) appendKey(dst []byte, k Key) []byte {
	sp := &specs[k]
	dst = append(dst, sp.name...)
	if sp.class == classBool {
		if !*r.boolean(k) {
			dst = append(dst, "=?0"...)
		}
		return dst
	}
	dst = append(dst, '=')
	switch sp.class {
	case classInt:
		if k == V {
			return append(dst, '2')
		}
		return strconv.AppendInt(dst, round(*r.integer(k), sp.round), 10)
	case classDecimal:
		return appendFloat(dst, r.Rate)
	case classToken:
		return append(dst, r.tokenText(k)...)
	case classByType:
		return appendByType(dst, *r.byType(k), sp.round)
	case classStrings:
		dst = append(dst, '(')
		if k == EC {
			for i, s := range r.ErrorCodes() {
				if i > 0 {
					dst = append(dst, ' ')
				}
				dst = appendString(dst, s)
			}
			return append(dst, ')')
		}
		for i, n := range r.Next() {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = appendString(dst, n.Path)
			if n.Range != "" {
				dst = appendString(append(dst, ";r="...), n.Range)
			}
		}
		return append(dst, ')')
	}
	return appendString(dst, *r.text(k))
}

func (r *Record) tokenText(k Key) string {
	switch k {
	case E:
		if r.Event == EventOther && r.EventToken != "" {
			return r.EventToken
		}
		return r.Event.String()
	case STA:
		if r.State == StateOther && r.StateToken != "" {
			return r.StateToken
		}
		return r.State.String()
	case OT:
		return r.Object.String()
	case SF:
		return r.Format.String()
	}
	return r.StreamType.String()
}

func appendByType(dst []byte, t ByType, unit int64) []byte {
	dst = append(dst, '(')
	start := len(dst)
	put := func(has TypeSet, v int64, label string) {
		if t.Set&has == 0 {
			return
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = strconv.AppendInt(dst, round(v, unit), 10)
		dst = append(dst, label...)
	}
	put(HasVideo, t.Video, ";v")
	put(HasAudio, t.Audio, ";a")
	put(HasAV, t.AV, ";av")
	put(HasAny, t.Any, "")
	return append(dst, ')')
}

func appendCustom(dst []byte, c CustomValue) []byte {
	dst = append(dst, c.Key...)
	switch {
	case c.Kind == CustomBool && c.Value == "?1":
		return dst
	case c.Kind == CustomString:
		return appendString(append(dst, '='), c.Value)
	}
	return append(append(dst, '='), c.Value...)
}

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7f:
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func round(v, unit int64) int64 {
	if unit == 0 {
		return v
	}
	if v > maxInt-unit/2 {
		return maxInt / unit * unit // rounded up it would have a digit more than RFC 8941 allows
	}
	return (v + unit/2) / unit * unit
}

func appendInt(v int64) string { return strconv.FormatInt(v, 10) }

func appendDecimal(v float64) string { return string(appendFloat(nil, v)) }

// appendFloat writes at most three decimals, as RFC 8941 allows.
func appendFloat(dst []byte, v float64) []byte {
	return strconv.AppendFloat(dst, math.Round(v*1000)/1000, 'f', -1, 64)
}
