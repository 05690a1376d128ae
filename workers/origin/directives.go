package origin

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// directives are the delivery directives of a playlist request (RFC 8216bis 6.2.5).
type directives struct {
	hasMSN, hasPart bool
	msn             uint64
	part            int
	skip            bool
}

// maxQuery bounds a query string, bytes. CMCD v1 and v2 on requests fits well below.
const maxQuery = 8 << 10

// parseDirectives reads the _HLS_ parameters and passes over all others.
func parseDirectives(query string) (d directives, err error) {
	if len(query) > maxQuery {
		return d, fmt.Errorf("the query has %d bytes: at most %d are allowed", len(query), maxQuery)
	}
	seenSkip := false
	for query != "" {
		var kv string
		kv, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(k, "_HLS_") {
			continue
		}
		v, err := url.QueryUnescape(v)
		if err != nil {
			return d, fmt.Errorf("%s cannot be unescaped", k)
		}
		switch k {
		case "_HLS_msn":
			if d.hasMSN {
				return d, errors.New("_HLS_msn is given twice")
			}
			if d.msn, err = strconv.ParseUint(v, 10, 63); err != nil {
				return d, fmt.Errorf("_HLS_msn %.24q is not a whole number", v)
			}
			d.hasMSN = true
		case "_HLS_part":
			if d.hasPart {
				return d, errors.New("_HLS_part is given twice")
			}
			n, err := strconv.ParseUint(v, 10, 31)
			if err != nil {
				return d, fmt.Errorf("_HLS_part %.24q is not a whole number", v)
			}
			d.part, d.hasPart = int(n), true
		case "_HLS_skip":
			if seenSkip {
				return d, errors.New("_HLS_skip is given twice")
			}
			seenSkip = true
			d.skip = v == "YES" || v == "v2"
		}
	}
	if d.hasPart && !d.hasMSN {
		return d, errors.New("_HLS_part needs _HLS_msn")
	}
	return d, nil
}

// advanceLimit is how many parts beyond the newest may be asked for: parts of
// three seconds where they are shorter than a second, otherwise three.
func advanceLimit(targetUs int64) int {
	if targetUs >= 1_000_000 || targetUs <= 0 {
		return 3
	}
	return int((3_000_000 + targetUs - 1) / targetUs)
}

// reach says what a request for d finds.
type reach int

const (
	reached reach = iota // listed now
	toCome               // hold the request
	tooFar               // 400
)

// reach compares directives with what is listed.
func (t *track) reach(d directives) (reach, string) {
	if !d.hasMSN {
		return reached, ""
	}
	last := t.lastMSN()
	if d.msn > last+2 {
		return tooFar, fmt.Sprintf("_HLS_msn=%d is more than two beyond the last segment, %d", d.msn, last)
	}
	newest := t.last
	limit := advanceLimit(t.targetUs)
	switch {
	case d.msn < newest.msn:
		return reached, ""
	case d.msn == newest.msn && t.closed:
		// All parts are listed; the segment itself is with part 0 of the next one,
		// which is also what a part past the end stands for.
		if d.hasPart && d.part > newest.part || !d.hasPart && !t.over() {
			return toCome, ""
		}
		return reached, ""
	case d.msn == newest.msn:
		if !d.hasPart {
			return toCome, ""
		}
		if d.part > newest.part+limit {
			return tooFar, fmt.Sprintf("_HLS_part=%d is more than %d beyond the last part, %d", d.part, limit, newest.part)
		}
		if d.part <= newest.part {
			return reached, ""
		}
		return toCome, ""
	default:
		if d.hasPart && d.part > limit {
			return tooFar, fmt.Sprintf("_HLS_part=%d of a segment that has not begun is more than %d ahead", d.part, limit)
		}
		return toCome, ""
	}
}
