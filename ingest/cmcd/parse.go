package cmcd

// kind is the type a value was written with (RFC 8941 section 3.3).
type kind uint8

const (
	kindNone kind = iota
	kindInt
	kindDecimal
	kindString
	kindToken
	kindBytes
	kindBool
	kindRaw // lenient pass only: text of unknown type
)

// item is one value with its parameters.
type item struct {
	kind    kind
	escaped bool // str still has backslashes
	labels  TypeSet
	str     string
	rng     string // parameter r
	num     int64  // kindInt; 0 or 1 for kindBool
	dec     float64
}

// parser reads one dictionary into a record. Methods that read take a position
// and give the position after what they read, or -1.
type parser struct {
	rec *Record
	s   string
	// sloppy is set when something was accepted that RFC 8941 does not allow.
	sloppy bool
	isList bool
	n      int // items in use
	extra  int // list items beyond maxItems
	items  [maxItems]item
}

// parse adds the members of one dictionary to the record.
func (r *Record) parse(s string) {
	p := parser{rec: r, s: s}
	for i := p.space(0); i < len(s); {
		i = p.member(i)
	}
	if p.sloppy {
		r.Strict = false
	}
}

func (p *parser) space(i int) int {
	for i < len(p.s) && (p.s[i] == ' ' || p.s[i] == '\t') {
		i++
	}
	return i
}

// member reads the member at i and gives the position of the next one.
func (p *parser) member(i int) int {
	s := p.s
	if s[i] == ',' { // an empty member
		p.sloppy = true
		return p.space(i + 1)
	}
	start := i
	i = keyEnd(s, i)
	if i == start || s[start] < 'a' && s[start] != '*' || s[start] > 'z' {
		return p.lenient(start)
	}
	name := s[start:i]
	p.n, p.extra, p.isList = 0, 0, false
	if i < len(s) && s[i] == '=' {
		i++
		switch {
		case i == len(s):
			return p.lenient(start)
		case s[i] == '(':
			i = p.list(i + 1)
		default:
			i = p.item(i)
		}
	} else {
		p.n = 1
		p.items[0] = item{kind: kindBool, num: 1}
		i = p.params(i, &p.items[0])
	}
	if i < 0 {
		return p.lenient(start)
	}
	if i = p.next(i); i < 0 {
		return p.lenient(start)
	}
	p.rec.Members++
	p.assign(name)
	return i
}

// next expects the end of a member at i.
func (p *parser) next(i int) int {
	i = p.space(i)
	if i == len(p.s) {
		return i
	}
	if p.s[i] != ',' {
		return -1
	}
	if i = p.space(i + 1); i == len(p.s) {
		p.sloppy = true // trailing comma
	}
	return i
}

func keyEnd(s string, i int) int {
	for i < len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '*' {
			i++
			continue
		}
		break
	}
	return i
}

// list reads the inside of an inner list and its closing parenthesis.
func (p *parser) list(i int) int {
	p.isList = true
	for {
		i = p.space(i)
		if i == len(p.s) {
			return -1
		}
		if p.s[i] == ')' {
			return p.params(i+1, nil)
		}
		if i = p.item(i); i < 0 || i == len(p.s) {
			return -1
		}
		if c := p.s[i]; c != ' ' && c != ')' && c != '\t' {
			return -1
		}
	}
}

// item reads a bare item with its parameters and appends it to items.
func (p *parser) item(i int) int {
	var spare item
	it := &spare
	if p.n < maxItems {
		it = &p.items[p.n]
		*it = item{}
		p.n++
	} else {
		p.extra++
	}
	c := p.s[i]
	switch {
	case c >= '0' && c <= '9' || c == '-':
		i = p.number(i, it)
	case c == '"':
		i = p.str(i+1, it)
	case tokenStart(c):
		j := tokenEnd(p.s, i)
		it.kind, it.str = kindToken, p.s[i:j]
		i = j
	case c == '?':
		if i+1 >= len(p.s) || p.s[i+1] != '0' && p.s[i+1] != '1' {
			return -1
		}
		it.kind, it.num = kindBool, int64(p.s[i+1]-'0')
		i += 2
	case c == ':':
		j := i + 1
		for j < len(p.s) && base64Byte(p.s[j]) {
			j++
		}
		if j == len(p.s) || p.s[j] != ':' {
			return -1
		}
		it.kind, it.str = kindBytes, p.s[i+1:j]
		i = j + 1
	default:
		return -1
	}
	if i < 0 {
		return -1
	}
	return p.params(i, it)
}

func base64Byte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '='
}

func tokenByte(c byte) bool {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~', ':', '/':
		return true
	}
	return false
}

func tokenStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '*'
}

func tokenEnd(s string, i int) int {
	for i < len(s) && tokenByte(s[i]) {
		i++
	}
	return i
}

// pow10 turns decimal digits into a scale.
var pow10 = [...]float64{1, 10, 100, 1000}

// number reads an integer of at most 15 digits or a decimal of at most 12 and 3.
func (p *parser) number(i int, it *item) int {
	s := p.s
	neg := s[i] == '-'
	if neg {
		i++
	}
	start, v := i, int64(0)
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		if i-start == 15 {
			return -1
		}
		v = v*10 + int64(s[i]-'0')
		i++
	}
	if i == start {
		return -1
	}
	if i == len(s) || s[i] != '.' {
		if neg {
			v = -v
		}
		it.kind, it.num = kindInt, v
		return i
	}
	if i-start > 12 {
		return -1
	}
	i++
	frac := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		if i-frac == 3 {
			return -1
		}
		v = v*10 + int64(s[i]-'0')
		i++
	}
	if i == frac {
		return -1
	}
	it.kind, it.dec = kindDecimal, float64(v)/pow10[i-frac]
	if neg {
		it.dec = -it.dec
	}
	return i
}

// str reads a string after its opening quote. Text beyond ASCII and needless
// backslashes are accepted, though RFC 8941 does not allow them.
func (p *parser) str(i int, it *item) int {
	s := p.s
	start := i
	for i < len(s) {
		switch c := s[i]; {
		case c == '"':
			it.kind, it.str = kindString, s[start:i]
			return i + 1
		case c == '\\':
			if i+1 == len(s) {
				return -1
			}
			it.escaped = true
			if s[i+1] != '"' && s[i+1] != '\\' {
				p.sloppy = true
			}
			i += 2
		case c < 0x20 || c == 0x7f:
			return -1
		default:
			if c >= 0x80 {
				p.sloppy = true
			}
			i++
		}
	}
	return -1
}

// params reads ;key or ;key=value, any number. it may be nil.
func (p *parser) params(i int, it *item) int {
	s := p.s
	for i < len(s) && s[i] == ';' {
		i = p.space(i + 1)
		start := i
		i = keyEnd(s, i)
		if i == start {
			return -1
		}
		name, on := s[start:i], true
		if i < len(s) && s[i] == '=' {
			var v item
			if i = p.paramValue(i+1, &v); i < 0 {
				return -1
			}
			on = v.kind != kindBool || v.num != 0
			if it != nil && name == "r" && (v.kind == kindString || v.kind == kindToken) {
				if it.rng = v.str; v.escaped && len(v.str) <= 2*specs[NRR].maxLen {
					it.rng = unescape(v.str)
				}
			}
		}
		if it == nil || !on {
			continue
		}
		switch name {
		case "v":
			it.labels |= HasVideo
		case "a":
			it.labels |= HasAudio
		case "av":
			it.labels |= HasAV
		}
	}
	return i
}

// paramValue reads the bare item of a parameter.
func (p *parser) paramValue(i int, it *item) int {
	if i == len(p.s) {
		return -1
	}
	switch c := p.s[i]; {
	case c >= '0' && c <= '9' || c == '-':
		return p.number(i, it)
	case c == '"':
		return p.str(i+1, it)
	case c == '?' && i+1 < len(p.s) && (p.s[i+1] == '0' || p.s[i+1] == '1'):
		it.kind, it.num = kindBool, int64(p.s[i+1]-'0')
		return i + 2
	case tokenStart(c):
		j := tokenEnd(p.s, i)
		it.kind, it.str = kindToken, p.s[i:j]
		return j
	case c == ':':
		j := i + 1
		for j < len(p.s) && base64Byte(p.s[j]) {
			j++
		}
		if j < len(p.s) && p.s[j] == ':' {
			it.kind = kindBytes
			return j + 1
		}
	}
	return -1
}
