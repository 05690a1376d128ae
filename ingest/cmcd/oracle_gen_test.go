package cmcd

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// generator makes CMCD payloads: every key, right and wrong types, both versions, members that are not valid.
type generator struct{ *rand.Rand }

// generated is one payload. Good is its text without the malformed members, whose keys occur nowhere else in it.
type generated struct {
	mode      Mode
	text      string
	good      string
	malformed []malformed
}

// malformed is a member that RFC 8941 does not allow, and what we make of it.
type malformed struct {
	text  string
	key   Key
	shown string // "" when it is lost
}

var malformedMembers = []malformed{
	{`BL=(5000)`, BL, "(5000)"}, {`su=`, SU, ""}, {`=5`, Unknown, ""}, {`sta playing`, STA, ""}, {`rtp=12x0`, RTP, ""},
	{`bl=(4000`, BL, "(4000)"}, {`bl=(4000;v 200;a`, BL, "(4000;v 200;a)"}, {`cid="abc`, CID, ""}, {`d=99999999999999999`, D, ""},
	{`ltc=1.2345`, LTC, "1"}, {`sid='x'`, SID, `"'x'"`}, {`sf=2x`, SF, ""}, {`br=[400]`, BR, ""}, {`dl=+5`, DL, "5"}, {`pr=1e3`, PR, "1000"},
	{`cid=100%`, CID, `"100%"`}, {`bad!key=1`, Unknown, ""}, {`tb=(1;V)`, TB, "(1;v)"}, {`{json}`, Unknown, ""}, {`mtp=(,)`, MTP, ""}, {`bs=?2`, BS, ""},
	{`h=é`, H, `"é"`}, {`sn=12a`, SN, ""}, {`ttlb=5ms`, TTLB, ""}, {`ot = v`, OT, "v"},
}

func (g generator) one() generated {
	x := generated{mode: Mode(g.IntN(2))}
	var members, all []string
	used := map[Key]bool{}
	if g.IntN(4) == 0 {
		for range 1 + g.IntN(2) {
			m := malformedMembers[g.IntN(len(malformedMembers))]
			if m.key != Unknown && (used[m.key] || specs[m.key].event && x.mode == ModeRequest) {
				continue
			}
			used[m.key] = true
			x.malformed = append(x.malformed, m)
		}
	}
	switch n := g.IntN(40); {
	case n == 0:
		members = append(members, "v="+strconv.Itoa(3+g.IntN(9)))
	case n > 8:
		members = append(members, "v="+strconv.Itoa(1+g.IntN(2)))
	}
	used[V] = true
	for range 2 + g.IntN(14) {
		k := Key(g.IntN(int(numKeys)))
		if used[k] || specs[k].event && x.mode == ModeRequest || k == NRR && used[NOR] {
			continue
		}
		used[k] = true
		members = append(members, g.member(k))
	}
	for i := range g.IntN(4) {
		name := []string{"com.example-x", "x-y", "a-b.c", "z-9"}[i]
		members = append(members, g.pair(name, g.anyItem()))
	}
	if g.IntN(10) == 0 {
		members = append(members, g.pair("df", g.anyItem()))
	}
	all = append(all, members...)
	for _, m := range x.malformed {
		at := g.IntN(len(all) + 1)
		all = append(all[:at:at], append([]string{m.text}, all[at:]...)...)
	}
	x.text, x.good = g.join(all), strings.Join(members, ",")
	return x
}

func (g generator) join(members []string) string {
	return strings.Join(members, []string{",", ",", ",", ", ", " ,", " , "}[g.IntN(6)])
}

// member gives a member of a reserved key; one in six has a value of any type.
func (g generator) member(k Key) string {
	sp := &specs[k]
	if g.IntN(6) == 0 {
		return g.pair(sp.name, g.anyValue())
	}
	switch sp.class {
	case classInt:
		v := g.number()
		if sp.signed && g.IntN(3) == 0 {
			v = -v
		}
		return sp.name + "=" + strconv.FormatInt(v, 10)
	case classDecimal:
		if g.IntN(4) == 0 {
			return sp.name + "=1"
		}
		return sp.name + "=" + strconv.FormatFloat(float64(g.IntN(4000))/1000, 'f', -1, 64)
	case classBool:
		return g.pair(sp.name, []string{"?1", "?0", "?1"}[g.IntN(3)])
	case classToken:
		table := tokenTables[k]
		if k == E {
			table = append(table[:len(table):len(table)], "br")
		}
		return sp.name + "=" + table[g.IntN(len(table))]
	case classByType:
		return sp.name + "=" + g.numbers()
	case classStrings:
		if g.IntN(3) == 0 {
			return sp.name + "=" + g.str(sp.maxLen)
		}
		var items []string
		for range 1 + g.IntN(5) {
			s := g.str(sp.maxLen)
			if k == NOR && g.IntN(3) == 0 {
				s += fmt.Sprintf(`;r="%d-%d"`, g.IntN(1000), 1000+g.IntN(1000))
			}
			items = append(items, s)
		}
		return sp.name + "=(" + strings.Join(items, " ") + ")"
	}
	return sp.name + "=" + g.str(sp.maxLen)
}

func (g generator) pair(name, value string) string {
	if value == "?1" && g.IntN(2) == 0 {
		return name
	}
	return name + "=" + value
}

func (g generator) number() int64 {
	return []int64{0, 1, int64(g.IntN(100)), int64(g.IntN(100_000)), 1_795_167_643_634 + int64(g.IntN(1000)), maxInt}[g.IntN(6)]
}

func (g generator) decimal() string {
	return strconv.FormatFloat(float64(g.IntN(10_000_000))/1000, 'f', 1+g.IntN(3), 64)
}

// numbers is a list with labels, or one number without parentheses.
func (g generator) numbers() string {
	if g.IntN(4) == 0 {
		return strconv.FormatInt(g.number(), 10)
	}
	var items []string
	for range 1 + g.IntN(3) {
		s := strconv.FormatInt(g.number(), 10)
		if g.IntN(5) == 0 {
			s = g.decimal()
		}
		items = append(items, s+[]string{"", ";v", ";a", ";av", ";tt", ";v;a", ";v=?0"}[g.IntN(7)])
	}
	return "(" + strings.Join(items, " ") + ")"
}

const letters = `abcXYZ0189 /.:%?=&;()-_~é`

func (g generator) str(limit int) string {
	n := 1 + g.IntN(20)
	if g.IntN(30) == 0 {
		n = limit + 1
	}
	var b strings.Builder
	for range n {
		if g.IntN(25) == 0 {
			b.WriteString([]string{`\"`, `\\`}[g.IntN(2)])
			continue
		}
		r := []rune(letters)
		b.WriteRune(r[g.IntN(len(r))])
	}
	return `"` + b.String() + `"`
}

func (g generator) anyItem() string {
	switch g.IntN(9) {
	case 0:
		return "?0"
	case 1:
		return "?1"
	case 2:
		return strconv.FormatInt(g.number(), 10)
	case 3:
		return "-" + strconv.Itoa(1+g.IntN(99))
	case 4:
		return g.decimal()
	case 5:
		return g.str(128)
	case 6:
		return []string{"null", "NaN", "p", "V", "true", "false", "br", "quux", "a/b"}[g.IntN(9)]
	case 7:
		return []string{`""`, `"p"`, `"true"`, `"v"`, `"17"`}[g.IntN(5)]
	}
	return ":YWJj:"
}

func (g generator) anyValue() string {
	switch g.IntN(5) {
	case 0:
		return "()"
	case 1:
		var items []string
		for range 1 + g.IntN(10) {
			items = append(items, g.anyItem())
		}
		return "(" + strings.Join(items, " ") + ")"
	case 2:
		return g.anyItem() + ";x=1"
	}
	return g.anyItem()
}
