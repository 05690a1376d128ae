package queries

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Value is what a template variable holds.
type Value struct {
	// All says that everything is selected; Items is then not read by $__conditionalAll.
	All   bool
	Items []string
}

// Vars holds the template variables of a query by name, without the dollar sign.
type Vars map[string]Value

// All selects everything of every variable of the walls.
func All() Vars {
	return Vars{"app": {All: true}, "cdn": {All: true}, "stream": {All: true}, "experiment": {All: true}, "session": Only("s-a-0")}
}

// Only selects the given items.
func Only(items ...string) Value { return Value{Items: items} }

// Quote makes a ClickHouse string literal of s: nothing in s can end it.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '\'':
			b.WriteByte('\\')
			b.WriteByte(c)
		case 0:
			b.WriteString(`\0`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

var variable = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::[a-z]+)?\}|([A-Za-z_][A-Za-z0-9_]*))`)

// Expand puts values in the place of the macros and template variables of sql,
// as Grafana and its ClickHouse plugin (version 4) do: $__timeFilter(col),
// $__timeFilter_ms(col), $__timeInterval(col), $__fromTime, $__toTime,
// $__fromTime_ms, $__toTime_ms, $__interval_s, $__conditionalAll(condition, $var) and
// ${var}, ${var:sqlstring}, $var as a list of string literals. One difference:
// a backslash in a value is escaped too. An interval is at least one second.
// Errors name the macro or variable that is unknown or ill-formed.
func Expand(sql string, vars Vars, from, to time.Time, interval time.Duration) (string, error) {
	if to.Before(from) {
		return "", fmt.Errorf("expand query: the range ends (%v) before it begins (%v)", to, from)
	}
	step := max(int64(interval/time.Second), 1)
	seconds := func(t time.Time) string { return "toDateTime(" + strconv.FormatInt(t.Unix(), 10) + ")" }
	millis := func(t time.Time) string {
		return "fromUnixTimestamp64Milli(" + strconv.FormatInt(t.UnixMilli(), 10) + ")"
	}
	var out strings.Builder
	for {
		i := strings.Index(sql, "$__")
		if i < 0 {
			break
		}
		out.WriteString(sql[:i])
		sql = sql[i:]
		n := 3
		for n < len(sql) && (sql[n] == '_' || sql[n] >= 'a' && sql[n] <= 'z' || sql[n] >= 'A' && sql[n] <= 'Z') {
			n++
		}
		name := sql[3:n]
		sql = sql[n:]
		args := func(want int) ([]string, error) {
			inner, rest, ok := parenthesis(sql)
			if !ok {
				return nil, fmt.Errorf("expand query: $__%s needs arguments in parentheses", name)
			}
			sql = rest
			a := []string{strings.TrimSpace(inner)}
			if want == 2 {
				j := strings.LastIndexByte(inner, ',')
				if j < 0 {
					return nil, fmt.Errorf("expand query: $__%s(%s) needs two arguments", name, inner)
				}
				a = []string{strings.TrimSpace(inner[:j]), strings.TrimSpace(inner[j+1:])}
			}
			if a[0] == "" {
				return nil, fmt.Errorf("expand query: $__%s has an empty argument", name)
			}
			return a, nil
		}
		switch name {
		case "fromTime":
			out.WriteString(seconds(from))
		case "toTime":
			out.WriteString(seconds(to))
		case "fromTime_ms":
			out.WriteString(millis(from))
		case "toTime_ms":
			out.WriteString(millis(to))
		case "interval_s":
			out.WriteString(strconv.FormatInt(step, 10))
		case "timeFilter", "timeFilter_ms":
			a, err := args(1)
			if err != nil {
				return "", err
			}
			lo, hi := seconds(from), seconds(to)
			if name == "timeFilter_ms" {
				lo, hi = millis(from), millis(to)
			}
			fmt.Fprintf(&out, "%s >= %s AND %s <= %s", a[0], lo, a[0], hi)
		case "timeInterval":
			a, err := args(1)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "toStartOfInterval(toDateTime(%s), INTERVAL %d second)", a[0], step)
		case "conditionalAll":
			a, err := args(2)
			if err != nil {
				return "", err
			}
			v, ok := vars[strings.Trim(a[1], "${}")]
			if !ok {
				return "", fmt.Errorf("expand query: $__conditionalAll names the unknown variable %s", a[1])
			}
			if v.All || len(v.Items) == 0 {
				out.WriteString("1=1")
			} else {
				sql = a[0] + sql // its variables are expanded with the rest
			}
		default:
			return "", fmt.Errorf("expand query: macro $__%s is unknown", name)
		}
	}
	out.WriteString(sql)
	return variables(out.String(), vars)
}

func variables(sql string, vars Vars) (string, error) {
	var unknown error
	s := variable.ReplaceAllStringFunc(sql, func(m string) string {
		g := variable.FindStringSubmatch(m)
		name := g[1] + g[2]
		v, ok := vars[name]
		if !ok {
			unknown = fmt.Errorf("expand query: variable %s has no value", m)
			return m
		}
		if len(v.Items) == 0 {
			return "''"
		}
		q := make([]string, len(v.Items))
		for i, s := range v.Items {
			q[i] = Quote(s)
		}
		return strings.Join(q, ",")
	})
	return s, unknown
}

// parenthesis splits "(inner)rest" at the matching bracket; brackets inside string literals do not count.
func parenthesis(s string) (inner, rest string, ok bool) {
	if s == "" || s[0] != '(' {
		return "", s, false
	}
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], true
			}
		}
	}
	return "", s, false
}
