package clickhouse

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// expand makes SQL of a file of views, which is a template: views that differ
// by their keys and their span of time alone are written once.
func expand(name, text string) (string, error) {
	t, err := template.New(name).Option("missingkey=zero").Funcs(template.FuncMap{
		"spans": spans, "levels": levels, "lines": wordsOfLines, "dict": dict,
		"join": func(words []string) string { return strings.Join(words, ", ") },
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("schema file %s: %w", name, err)
	}
	var sql strings.Builder
	if err := t.Execute(&sql, nil); err != nil {
		return "", fmt.Errorf("schema file %s: %w", name, err)
	}
	return sql.String(), nil
}

// span is a length of time by which views group.
type span struct {
	Name string // minute, hour or day; so is the column called that holds its start
	From string // roll-up that is read, as r
	At   string // that column as an expression over r

	ms int // length, milliseconds
}

// spans are minute, hour and day of a roll-up that is kept by minute and by hour.
func spans(rollup string) []span {
	return []span{
		{Name: "minute", From: rollup + "_minute", At: "minute", ms: 60_000},
		{Name: "hour", From: rollup + "_hour", At: "hour", ms: 3_600_000},
		{Name: "day", From: rollup + "_hour", At: "toStartOfDay(r.hour) AS day", ms: 86_400_000},
	}
}

// SoFarMs is an expression for how much of the span is over, in milliseconds, at least a second.
func (s span) SoFarMs() string {
	return fmt.Sprintf("greatest(1000., least(%d., toFloat64(dateDiff('millisecond', %s, now64(3, 'UTC')))))", s.ms, s.Name)
}

// level is one of a quantile: p95 and 0.95.
type level struct{ Name, Level string }

// levels are those that views by a span have: of a minute's few samples the highest would say nothing.
func levels(span string) []level {
	out := []level{{"p50", "0.50"}, {"p90", "0.90"}, {"p95", "0.95"}}
	if span != "minute" {
		out = append(out, level{"p99", "0.99"})
	}
	return out
}

// wordsOfLines gives the words of each line that has any.
func wordsOfLines(text string) (out [][]string) {
	for l := range strings.Lines(text) {
		if words := strings.Fields(l); len(words) > 0 {
			out = append(out, words)
		}
	}
	return out
}

// dict makes a map of names, each followed by its value, so that a template can be given several.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a name has no value")
	}
	out := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}
