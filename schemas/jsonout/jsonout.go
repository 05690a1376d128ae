// Package jsonout appends JSON to bytes, byte for byte as encoding/json writes it,
// without reflection: for the few records that are made tens of thousands of times
// a second. Pure: no I/O.
//
// Members of an object are appended with the comma before them, so the first one
// is written by [Open], which takes none.
package jsonout

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// special are the bytes that a string is not written with as they are.
var special = func() (t [256]bool) {
	for c := range t {
		t[c] = c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&'
	}
	return t
}()

// Plain reports whether a string is written as it is, between quotes.
func Plain(s string) bool {
	for i := range len(s) {
		if special[s[i]] {
			return false
		}
	}
	return true
}

// String appends a quoted string.
func String(b []byte, s string) []byte { return With(b, s, "") }

// With is String for one that holds a long part which is known to be [Plain], and
// need not be looked at again.
func With(b []byte, s, part string) []byte {
	i := -1
	if part != "" {
		i = strings.Index(s, part)
	}
	if i < 0 && !Plain(s) || i >= 0 && !(Plain(s[:i]) && Plain(s[i+len(part):])) {
		q, _ := json.Marshal(s) // a string never fails
		return append(b, q...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Float appends a number. What JSON does not know (NaN, infinities) becomes 0.
func Float(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, '0')
	}
	// One of at most nine decimals and fifteen digits: those digits are the shortest that
	// are read as the same number, since each such decimal is another one.
	if k := math.Round(f * 1e9); k/1e9 == f && math.Abs(k) < 1e15 && math.Abs(k) >= 1000 {
		return decimals(b, int64(k))
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		b = strconv.AppendFloat(b, f, 'e', -1, 64)
		// 1e-09 is 1e-9, as in ECMAScript.
		if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
			b[n-2] = b[n-1]
			b = b[:n-1]
		}
		return b
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// decimals appends a billionth of n.
func decimals(b []byte, n int64) []byte {
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	const one = 1_000_000_000
	b = strconv.AppendInt(b, n/one, 10)
	if n %= one; n == 0 {
		return b
	}
	digits, last := [10]byte{'.'}, 9
	if n%1000 == 0 { // nearly always: six decimals
		n, last = n/1000, 6
	}
	for i := last; i > 0; i -= 2 {
		two := n % 100
		n /= 100
		digits[i] = '0' + byte(two%10)
		if i > 1 {
			digits[i-1] = '0' + byte(two/10)
		}
	}
	for digits[last] == '0' {
		last--
	}
	return append(b, digits[:last+1]...)
}

// Open begins an object with a string member.
func Open(b []byte, name, s string) []byte {
	b = append(b, '{', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return String(b, s)
}

// Name appends a comma and the name of a member, whose value is to follow.
func Name(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// Raw appends a whole number without a name.
func Raw(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// Str appends a member.
func Str(b []byte, name, s string) []byte { return String(Name(b, name), s) }

// StrIf appends a member that is left out where it is empty.
func StrIf(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return Str(b, name, s)
}

// Int appends a member.
func Int(b []byte, name string, n int64) []byte { return strconv.AppendInt(Name(b, name), n, 10) }

// IntIf appends a member that is left out where it is 0.
func IntIf(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return Int(b, name, n)
}

// Num appends a member.
func Num(b []byte, name string, f float64) []byte { return Float(Name(b, name), f) }

// NumIf appends a member that is left out where it is 0.
func NumIf(b []byte, name string, f float64) []byte {
	if f == 0 {
		return b
	}
	return Num(b, name, f)
}

// List appends an array, null where it is nil.
func List[T any](b []byte, all []T, one func(*T, []byte) []byte) []byte {
	if all == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(&all[i], b)
	}
	return append(b, ']')
}

// Strings appends an object of strings, in the order of its names.
func Strings(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(String(b, k), ':')
		b = String(b, m[k])
	}
	return append(b, '}')
}
