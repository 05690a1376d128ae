package eval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/analytics/stats"
)

// input is the input object of a case with forgiving access: the first thing
// that is missing or of the wrong kind is kept in err, later reads give zeros.
type input struct {
	m   map[string]any
	err error
}

func bad(r stats.Reason, format string, args ...any) error {
	return &stats.Undefined{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

func parse(raw json.RawMessage) (*input, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil || m == nil {
		return nil, bad(stats.InvalidParameter, "input is not an object")
	}
	return &input{m: m}, nil
}

func (in *input) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

// find returns the first of several spellings that is present and not null.
func (in *input) find(names ...string) (any, string, bool) {
	for _, n := range names {
		if v, ok := in.m[n]; ok && v != nil {
			return v, n, true
		}
	}
	return nil, strings.Join(names, " or "), false
}

// findNum is find among numbers only, so that a name such as "effect" that
// some methods use for a word is skipped.
func (in *input) findNum(names ...string) (x float64, ok bool) {
	for _, n := range names {
		if v, present := in.m[n]; present && v != nil {
			if x, err := number(v); err == nil {
				return x, true
			}
		}
	}
	return 0, false
}

func (in *input) has(names ...string) bool {
	_, _, ok := in.find(names...)
	return ok
}

// num is a required number; "+inf", "-inf" and "nan" are numbers too.
func (in *input) num(names ...string) float64 {
	v, name, ok := in.find(names...)
	if !ok {
		in.fail(bad(stats.InvalidParameter, "%s is missing", name))
		return 0
	}
	x, err := number(v)
	if err != nil {
		in.fail(bad(stats.InvalidParameter, "%s: %v", name, err))
	}
	return x
}

func (in *input) numOr(def float64, names ...string) float64 {
	if !in.has(names...) {
		return def
	}
	return in.num(names...)
}

func number(v any) (float64, error) {
	switch x := v.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(x.String(), 64)
		if err != nil && !math.IsInf(f, 0) {
			return 0, fmt.Errorf("%q is not a number", x.String())
		}
		return f, nil
	case string:
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "nan":
			return math.NaN(), nil
		case "inf", "+inf", "infinity", "+infinity":
			return math.Inf(1), nil
		case "-inf", "-infinity":
			return math.Inf(-1), nil
		}
	}
	return 0, fmt.Errorf("%.40v is not a number", v)
}

// count turns a number into a whole count.
func (in *input) count(x float64, what string) int64 {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		in.fail(bad(stats.NotFinite, "%s is %v", what, x))
	case x != math.Trunc(x) || math.Abs(x) > 1<<53 || x < 0:
		in.fail(bad(stats.InvalidCount, "%s is %v, must be a whole number that is not negative", what, x))
	default:
		return int64(x)
	}
	return 0
}

func (in *input) intOf(names ...string) int64 {
	x := in.num(names...)
	if in.err != nil {
		return 0
	}
	return in.count(x, names[0])
}

func (in *input) str(def string, names ...string) string {
	v, name, ok := in.find(names...)
	if !ok {
		return def
	}
	s, isString := v.(string)
	if !isString {
		in.fail(bad(stats.InvalidParameter, "%s is not a string", name))
	}
	return s
}

func (in *input) obj(names ...string) *input {
	v, name, ok := in.find(names...)
	m, isMap := v.(map[string]any)
	if !ok || !isMap {
		in.fail(bad(stats.InvalidParameter, "%s is missing or not an object", name))
		return &input{m: map[string]any{}, err: in.err}
	}
	return &input{m: m}
}

// array is a list of anything.
func (in *input) array(names ...string) []any {
	v, name, ok := in.find(names...)
	list, isList := v.([]any)
	if !ok || !isList {
		in.fail(bad(stats.InvalidParameter, "%s is missing or not a list", name))
	}
	return list
}

// nums is a list of numbers.
func (in *input) nums(names ...string) []float64 {
	return in.numsOf(in.array(names...), names[0])
}

func (in *input) numsOf(v any, what string) []float64 {
	list, ok := v.([]any)
	if !ok {
		in.fail(bad(stats.InvalidParameter, "%s is not a list", what))
		return nil
	}
	out := make([]float64, len(list))
	for i, e := range list {
		x, err := number(e)
		if err != nil {
			in.fail(bad(stats.InvalidParameter, "%s[%d]: %v", what, i, err))
			return nil
		}
		out[i] = x
	}
	return out
}

func (in *input) counts(v any, what string) []int64 {
	xs := in.numsOf(v, what)
	out := make([]int64, len(xs))
	for i, x := range xs {
		out[i] = in.count(x, what)
	}
	return out
}

// table is a list of rows, each a list whose columns are named by the member
// columns (or, without it, by def) or an object. cell reads by column name.
func (in *input) table(member []string, def ...string) []map[string]any {
	columns := def
	if in.has("columns") {
		columns = nil
		for _, c := range in.array("columns") {
			columns = append(columns, fmt.Sprint(c))
		}
	}
	var rows []map[string]any
	for i, r := range in.array(member...) {
		switch x := r.(type) {
		case map[string]any:
			rows = append(rows, x)
		case []any:
			cols := columns
			if len(x) < len(cols) && !in.has("columns") {
				cols = cols[len(cols)-len(x):] // the unit's name may be left out
			}
			if len(x) != len(cols) {
				in.fail(bad(stats.InvalidParameter, "row %d has %d columns, not %d", i, len(x), len(cols)))
				return nil
			}
			row := map[string]any{}
			for k, c := range cols {
				row[c] = x[k]
			}
			rows = append(rows, row)
		default:
			in.fail(bad(stats.InvalidParameter, "row %d is neither a list nor an object", i))
			return nil
		}
	}
	return rows
}

// unitName makes any JSON value a unit's name; i stands in when it is missing.
func unitName(v any, i int) string {
	if v == nil {
		return "#" + strconv.Itoa(i)
	}
	return fmt.Sprint(v)
}

func (in *input) alternative() stats.Alternative {
	switch a := in.str("two_sided", "alternative"); a {
	case "two_sided", "two-sided", "twosided":
		return stats.TwoSided
	case "greater", "larger":
		return stats.Greater
	case "less", "smaller", "lesser":
		return stats.Less
	default:
		in.fail(bad(stats.InvalidParameter, "unknown alternative %q", a))
	}
	return stats.TwoSided
}

func (in *input) dist(def string) stats.Dist {
	switch d := in.str(def, "distribution"); d {
	case "t", "student":
		return stats.StudentT
	case "normal", "z":
		return stats.Normal
	default:
		in.fail(bad(stats.InvalidParameter, "unknown distribution %q", d))
	}
	return stats.StudentT
}

func (in *input) direction() stats.Direction {
	switch d := in.str("", "preferred_direction", "direction"); d {
	case "decrease", "lower", "down", "smaller":
		return stats.LowerIsBetter
	case "increase", "higher", "up", "larger":
		return stats.HigherIsBetter
	default:
		in.fail(bad(stats.InvalidParameter, "unknown preferred_direction %q", d))
	}
	return stats.LowerIsBetter
}
