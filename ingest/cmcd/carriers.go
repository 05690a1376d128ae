package cmcd

import (
	"net/http"
	"net/url"
	"strings"
)

// Outcome says what became of a record.
type Outcome uint8

// Outcomes. Only a Parsed record has content.
const (
	// Parsed: at least one member was understood.
	Parsed Outcome = iota
	// Absent: there is no CMCD in this carrier.
	Absent
	// Useless: there is text, but nothing in it was understood.
	Useless
	// Future: v is above 2; the content was ignored, as CTA-5004-B asks. Version is set.
	Future
	// Oversize: longer than MaxRecordBytes; not read.
	Oversize
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"parsed", "absent", "useless", "future_version", "oversize"}

func (o Outcome) String() string {
	if o < numOutcomes {
		return outcomeNames[o]
	}
	return "other"
}

// MaxVersion is the highest CMCD version that is understood.
const MaxVersion = 2

// The four CMCD request headers, in canonical form.
const (
	HeaderRequest = "Cmcd-Request"
	HeaderObject  = "Cmcd-Object"
	HeaderStatus  = "Cmcd-Status"
	HeaderSession = "Cmcd-Session"
)

// headers in the order in which they are read: the version comes last, where it
// does no harm, as readers of it look only when all is read.
var headers = [...]string{HeaderRequest, HeaderObject, HeaderStatus, HeaderSession}

// ParseText reads one record that is not URL-encoded. The record is overwritten.
func (r *Record) ParseText(mode Mode, text string) Outcome {
	r.start(mode)
	text = strings.Trim(text, " \t\r\n\ufeff")
	if text == "" {
		return Absent
	}
	if len(text) > MaxRecordBytes {
		return Oversize
	}
	r.parse(text)
	return r.finish()
}

// ParseEvent reads one line of an event body. A line in query form (CMCD=, URL-encoded) is understood too.
func (r *Record) ParseEvent(line string) Outcome {
	line = strings.Trim(line, " \t\r\n\ufeff")
	if v, ok := strings.CutPrefix(line, "CMCD="); ok && len(v) <= 3*MaxRecordBytes {
		line = unescapeQuery(v)
	}
	return r.ParseText(ModeEvent, line)
}

// ParseQuery reads the CMCD argument of a raw (still encoded) query, with or without leading "?".
func (r *Record) ParseQuery(rawQuery string) Outcome {
	v, ok := queryValue(strings.TrimPrefix(rawQuery, "?"))
	if !ok {
		r.start(ModeRequest)
		return Absent
	}
	if len(v) > 3*MaxRecordBytes {
		r.start(ModeRequest)
		return Oversize
	}
	return r.ParseText(ModeRequest, unescapeQuery(v))
}

// ParseRequest reads the CMCD of a media request. When any CMCD header is
// present the query is ignored, as CTA-5004-B asks.
func (r *Record) ParseRequest(h http.Header, rawQuery string) Outcome {
	r.start(ModeRequest)
	found, size := false, 0
	for _, name := range headers {
		for _, v := range h[name] {
			found = true
			size += len(v)
		}
	}
	switch {
	case !found:
		return r.ParseQuery(rawQuery)
	case size > MaxRecordBytes:
		return Oversize
	case size == 0:
		return Absent
	}
	for _, name := range headers {
		for _, v := range h[name] {
			r.parse(strings.Trim(v, " \t"))
		}
	}
	return r.finish()
}

// ParseBody reads the records of an event body, separated by LF or CRLF, and
// calls each with every record that is not blank, until it returns false. The
// record is reused: its strings stay valid, the struct does not. Lines beyond
// maxRecords (0: no limit) are not read; their number is returned.
func ParseBody(body string, maxRecords int, each func(*Record, Outcome) bool) (left int) {
	var r Record
	n := 0
	for body != "" {
		var line string
		line, body, _ = strings.Cut(body, "\n")
		if strings.Trim(line, " \t\r\ufeff") == "" {
			continue
		}
		if n++; maxRecords > 0 && n > maxRecords {
			left++
			continue
		}
		if !each(&r, r.ParseEvent(line)) {
			return left
		}
	}
	return left
}

func (r *Record) start(mode Mode) {
	*r = Record{Mode: mode, Version: 1, Strict: true}
}

// finish does what can only be done when the version is known.
func (r *Record) finish() Outcome {
	if r.Version > MaxVersion {
		*r = Record{Mode: r.Mode, Version: r.Version, Has: 1 << V, Members: r.Members, Strict: r.Strict}
		return Future
	}
	if r.Version == 1 && r.Scalars.Has(NOR) {
		// In version 1 the path was URL-encoded once more, and had its range beside it.
		if n := &r.next[0]; strings.IndexByte(n.Path, '%') >= 0 {
			if s, err := url.PathUnescape(n.Path); err == nil && cleanText(s) {
				n.Path = s
			}
		}
	}
	if r.Has.Has(NRR) {
		if r.nNext > 0 && r.next[0].Range == "" {
			r.next[0].Range = r.nrr
		}
		r.Has &^= 1 << NRR
	}
	if r.Has == 0 && r.nCustom == 0 && r.UnknownKeys == 0 {
		return Useless
	}
	return Parsed
}

// queryValue finds the argument CMCD; lower case is tolerated.
func queryValue(raw string) (string, bool) {
	for raw != "" {
		var arg string
		arg, raw, _ = strings.Cut(raw, "&")
		if len(arg) >= 5 && arg[4] == '=' && (arg[:4] == "CMCD" || arg[:4] == "cmcd") {
			return arg[5:], true
		}
	}
	return "", false
}

// unescapeQuery decodes %XX and +. Unlike net/url it leaves bad escapes as they are.
func unescapeQuery(s string) string {
	i := strings.IndexAny(s, "%+")
	if i < 0 {
		return s
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for ; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
