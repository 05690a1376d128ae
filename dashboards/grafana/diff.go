package grafana

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// maxDiff bounds the lines of a difference, maxShown what is shown of a value.
const (
	maxDiff  = 20
	maxShown = 80
)

// differences lists where want is not what have is, a line each: the place, what
// is there, what shall be. Members that only have has are passed over when
// loose is set: a server adds some of its own.
func differences(have, want any, loose bool) []string {
	d := differ{loose: loose}
	d.walk("", have, want)
	if d.more > 0 {
		d.lines = append(d.lines, fmt.Sprintf("and %d more", d.more))
	}
	return d.lines
}

type differ struct {
	loose bool
	lines []string
	more  int
}

func (d *differ) say(at string, have, want any) {
	if len(d.lines) == maxDiff {
		d.more++
		return
	}
	d.lines = append(d.lines, fmt.Sprintf("%s: %s -> %s", at, show(have), show(want)))
}

func (d *differ) walk(at string, have, want any) {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			d.say(at, have, want)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			d.walk(at+"."+k, h[k], w[k])
		}
		for _, k := range slices.Sorted(maps.Keys(h)) {
			if _, ok := w[k]; !ok && !d.loose {
				d.say(at+"."+k, h[k], nil)
			}
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			d.say(at, have, want)
			return
		}
		for i := range w {
			d.walk(at+"["+place(w[i], i)+"]", h[i], w[i])
		}
	default:
		if have != want {
			d.say(at, have, want)
		}
	}
}

// place names an element of a list by its title where it has one.
func place(v any, i int) string {
	if m, ok := v.(map[string]any); ok {
		for _, k := range []string{"title", "name", "refId"} {
			if s, ok := m[k].(string); ok && s != "" {
				return strconv.Quote(s)
			}
		}
	}
	return strconv.Itoa(i)
}

func show(v any) string {
	switch l := v.(type) {
	case nil:
		return "nothing"
	case []any:
		return fmt.Sprintf("%d entries", len(l))
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	if s := []rune(string(b)); len(s) > maxShown {
		return string(s[:maxShown]) + "…"
	}
	return string(b)
}

// plainJSON is v as JSON decodes it.
func plainJSON(v any) (out any, err error) {
	b, ok := v.([]byte)
	if !ok {
		if b, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return out, json.Unmarshal(b, &out)
}
