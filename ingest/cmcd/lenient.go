package cmcd

import (
	"strconv"
	"strings"
)

// lenient reads the member at i when strict reading failed, saves what can be
// saved, and gives the position of the next member. It always moves on.
func (p *parser) lenient(i int) int {
	p.sloppy = true
	p.rec.Members++
	s := p.s
	nameEnd := i
	for nameEnd < len(s) && s[nameEnd] != '=' && s[nameEnd] != ',' {
		nameEnd++
	}
	name, labels, _ := strings.Cut(s[i:nameEnd], ";")
	name = strings.ToLower(trim(name))
	hasValue := nameEnd < len(s) && s[nameEnd] == '='
	end := nameEnd
	if hasValue {
		end = valueEnd(s, nameEnd+1)
	}
	next := end
	if next < len(s) {
		next = p.space(next + 1)
	}
	if name == "" || keyEnd(name, 0) != len(name) || name[0] != '*' && (name[0] < 'a' || name[0] > 'z') {
		p.rec.issue(Unknown, BadKey)
		return next
	}
	p.n, p.extra, p.isList = 0, 0, false
	switch raw := ""; {
	case !hasValue || labels != "":
		if labels != "" { // "bl;v=(5000)" and the like
			p.rec.issue(keyOf(name), BadSyntax)
			return next
		}
		p.n, p.items[0] = 1, item{kind: kindBool, num: 1}
	default:
		if raw = trim(s[nameEnd+1 : end]); raw == "" {
			p.rec.issue(keyOf(name), Empty)
			return next
		}
		if !p.salvage(raw) {
			p.rec.issue(keyOf(name), BadSyntax)
			return next
		}
	}
	p.assign(name)
	return next
}

func keyOf(name string) Key {
	k := lookup(name)
	if k == Unknown && strings.IndexByte(name, '-') > 0 {
		return Custom
	}
	return k
}

func trim(s string) string { return strings.Trim(s, " \t\r") }

// valueEnd finds where a damaged value stops: at the comma behind its closing
// quote or parenthesis if that is credible, or else at the first comma.
func valueEnd(s string, i int) int {
	j := i
	for j < len(s) && (s[j] == ' ' || s[j] == '\t') {
		j++
	}
	if j < len(s) && (s[j] == '"' || s[j] == '(') {
		e := -1
		if s[j] == '"' {
			if e = quoteEnd(s, j+1); e >= 0 && opensAnother(s[j+1:e-1]) {
				e = -1
			}
		} else {
			e = parenEnd(s, j+1)
		}
		if e >= 0 {
			for e < len(s) && (s[e] == ' ' || s[e] == '\t' || s[e] == '\r') {
				e++
			}
			if e == len(s) || s[e] == ',' {
				return e
			}
			if k := keyEnd(s, min(e+1, len(s))); s[e] == ';' && k > e+1 && (k == len(s) || strings.IndexByte("=;,", s[k]) >= 0) {
				j = e // parameters
			}
		}
	}
	if c := strings.IndexByte(s[j:], ','); c >= 0 {
		return j + c
	}
	return len(s)
}

// opensAnother reports whether the quote behind text is rather the first one of
// another member's value: the quote before text was never closed.
func opensAnother(text string) bool {
	text = strings.TrimRight(text, "(")
	i := strings.LastIndexByte(text, ',')
	if i < 0 || text[len(text)-1] != '=' {
		return false
	}
	name := strings.TrimLeft(text[i+1:len(text)-1], " ")
	return name != "" && keyEnd(name, 0) == len(name)
}

// quoteEnd gives the position after the next unescaped quote, or -1.
func quoteEnd(s string, i int) int {
	for i < len(s) {
		switch s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
	return -1
}

// parenEnd gives the position after the closing parenthesis, or -1 when another
// member or list starts before it.
func parenEnd(s string, i int) int {
	for i < len(s) {
		switch s[i] {
		case ')':
			return i + 1
		case '(':
			return -1
		case '"':
			if i = quoteEnd(s, i+1); i < 0 {
				return -1
			}
			continue
		case ',':
			j := i + 1
			for j < len(s) && s[j] == ' ' {
				j++
			}
			if k := keyEnd(s, j); k > j && k < len(s) && s[k] == '=' {
				return -1
			}
		}
		i++
	}
	return -1
}

// salvage makes items of the text of one value.
func (p *parser) salvage(raw string) bool {
	if raw[0] != '(' {
		p.n, p.items[0] = 1, salvageItem(raw)
		return p.items[0].kind != kindNone
	}
	p.isList = true
	in := raw[1:]
	if in != "" && in[len(in)-1] == ')' {
		in = in[:len(in)-1]
	}
	for in != "" {
		i := 0
		quoted := false
		for i < len(in) && (quoted || in[i] != ' ' && in[i] != ',' && in[i] != '\t') {
			if in[i] == '\\' && quoted && i+1 < len(in) {
				i++
			} else if in[i] == '"' {
				quoted = !quoted
			}
			i++
		}
		if word := in[:i]; word != "" {
			it := salvageItem(word)
			switch {
			case it.kind == kindNone:
				return false
			case p.n < maxItems:
				p.items[p.n] = it
				p.n++
			default:
				p.extra++
			}
		}
		in = in[min(i+1, len(in)):]
	}
	return true
}

// salvageItem reads one item with its labels from text that is not valid by RFC 8941.
func salvageItem(raw string) item {
	var it item
	if raw[0] == '"' {
		in := raw[1:]
		if i := strings.LastIndexByte(in, '"'); i >= 0 {
			it.kind, it.str, it.escaped = kindString, in[:i], strings.IndexByte(in[:i], '\\') >= 0
			it.label(in[i+1:])
		}
		return it
	}
	val, labels, _ := strings.Cut(raw, ";")
	it.label(labels)
	val = trim(val)
	if val == "" {
		return item{}
	}
	if n, err := strconv.ParseInt(val, 10, 64); err == nil {
		it.kind, it.num = kindInt, n
		return it
	}
	if c := val[0]; c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' {
		if f, err := strconv.ParseFloat(val, 64); err == nil {
			it.kind, it.dec = kindDecimal, f
			return it
		}
	}
	it.kind, it.str = kindRaw, val
	return it
}

func (it *item) label(params string) {
	for params != "" {
		var one string
		one, params, _ = strings.Cut(params, ";")
		name, val, _ := strings.Cut(trim(one), "=")
		switch strings.ToLower(name) {
		case "v":
			it.labels |= HasVideo
		case "a":
			it.labels |= HasAudio
		case "av":
			it.labels |= HasAV
		case "r":
			it.rng = strings.Trim(val, `"`)
		}
	}
}
