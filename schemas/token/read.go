package token

import "strings"

// reader reads claims as this package writes them: an object of plain strings,
// whole numbers, true, lists of strings and objects of numbers. What looks
// otherwise it gives up, and encoding/json has the word.
type reader struct {
	s  string // what is left
	ok bool
}

// read reads the claims of a session or steering token and says whether it could.
func (c *Steering) read(j []byte) bool {
	r := reader{string(j), true}
	r.want('{')
	var seen uint32
	for first := true; r.ok && !strings.HasPrefix(r.s, "}"); first = false {
		if !first {
			r.want(',')
		}
		name := r.text()
		r.want(':')
		bit := c.field(name, &r)
		r.ok = r.ok && seen&bit == 0 // a name that comes twice is for encoding/json
		seen |= bit
	}
	return r.ok && r.s == "}"
}

// field reads the value of one and gives its bit.
func (c *Steering) field(name string, r *reader) uint32 {
	switch name {
	case "sid":
		c.SessionID = r.text()
		return 1 << 0
	case "app":
		c.App = r.text()
		return 1 << 1
	case "str":
		c.Stream = r.text()
		return 1 << 2
	case "vid":
		c.ViewerID = r.text()
		return 1 << 3
	case "cdn":
		c.CDN = r.text()
		return 1 << 4
	case "pin":
		c.Pinned = r.yes()
		return 1 << 5
	case "arms":
		c.Arms = r.text()
		return 1 << 6
	case "reg":
		c.Region = r.text()
		return 1 << 7
	case "isp":
		c.ISP = r.text()
		return 1 << 8
	case "key":
		c.Keyed = r.yes()
		return 1 << 9
	case "grp":
		n := r.number()
		r.ok = r.ok && n <= 255
		c.Group = uint8(n)
		return 1 << 10
	case "mv":
		c.MovedUnix = r.number()
		return 1 << 11
	case "exp":
		c.ExpiresUnix = r.number()
		return 1 << 12
	case "fmt":
		c.Format = r.text()
		return 1 << 13
	case "pw":
		c.Pathways = r.list()
		return 1 << 14
	case "snt":
		c.Sent = r.text()
		return 1 << 15
	case "sat":
		c.SentUnix = r.number()
		return 1 << 16
	case "try":
		c.Trying = r.yes()
		return 1 << 17
	case "pen":
		c.Penalties = r.numbers()
		return 1 << 18
	}
	r.ok = false
	return 0
}

func (r *reader) want(b byte) {
	if r.ok = r.ok && r.s != "" && r.s[0] == b; r.ok {
		r.s = r.s[1:]
	}
}

// text is a string that is written as it is.
func (r *reader) text() string {
	r.want('"')
	if !r.ok {
		return ""
	}
	for i := range len(r.s) {
		switch b := r.s[i]; {
		case b == '"':
			t := r.s[:i]
			r.s = r.s[i+1:]
			return t
		case b < 0x20 || b >= 0x7f || b == '\\':
			r.ok = false
			return ""
		}
	}
	r.ok = false
	return ""
}

// number is one without sign, of at most 18 digits.
func (r *reader) number() (n int64) {
	i := 0
	for ; i < len(r.s) && r.s[i] >= '0' && r.s[i] <= '9'; i++ {
		if i == 18 {
			r.ok = false
			return 0
		}
		n = 10*n + int64(r.s[i]-'0')
	}
	r.ok = r.ok && i > 0 && (i == 1 || r.s[0] != '0')
	r.s = r.s[i:]
	return n
}

func (r *reader) yes() bool {
	rest, ok := strings.CutPrefix(r.s, "true")
	r.s, r.ok = rest, r.ok && ok
	return ok
}

func (r *reader) list() (out []string) {
	r.want('[')
	out = make([]string, 0, 8)
	for r.ok && !strings.HasPrefix(r.s, "]") {
		if len(out) > 0 {
			r.want(',')
		}
		out = append(out, r.text())
	}
	r.want(']')
	return out
}

func (r *reader) numbers() map[string]int64 {
	r.want('{')
	out := map[string]int64{}
	for r.ok && !strings.HasPrefix(r.s, "}") {
		if len(out) > 0 {
			r.want(',')
		}
		name := r.text()
		r.want(':')
		out[name] = r.number()
	}
	r.want('}')
	return out
}
