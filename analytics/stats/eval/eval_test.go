package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// vector is a case of the public file, with what other engines answered.
type vector struct {
	ID        string
	Method    string
	Input     json.RawMessage
	Expected  map[string]any
	Tolerance struct {
		Abs, Rel float64
		Fields   map[string]struct{ Abs, Rel float64 }
	}
	Optional []string
}

func readVectors(t testing.TB) (raw []byte, cases []vector) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/vectors_public.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return raw, file.Cases
}

// Every public vector, answered through Eval, lies within its tolerance of what
// the named engines compute.
func TestPublicVectors(t *testing.T) {
	raw, cases := readVectors(t)
	var out bytes.Buffer
	if err := Eval(bytes.NewReader(raw), &out); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	passed := 0
	for _, v := range cases {
		if !lines.Scan() {
			t.Fatalf("no line for %s", v.ID)
		}
		var got struct {
			ID, Method string
			Result     map[string]any
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.ID != v.ID || got.Method != v.Method {
			t.Fatalf("line of %s %s where %s was due", got.ID, got.Method, v.ID)
		}
		if problems := v.compare(got.Result); len(problems) > 0 {
			t.Errorf("%s: %s", v.ID, strings.Join(problems, "; "))
			continue
		}
		passed++
	}
	t.Logf("%d of %d public vectors pass", passed, len(cases))
}

func (v vector) compare(got map[string]any) (problems []string) {
	if v.Expected["undefined"] == true {
		if got["undefined"] != true || got["reason"] == "" {
			return []string{fmt.Sprintf("want undefined (%v), got %v", v.Expected["reason"], got)}
		}
		for _, k := range []string{"estimate", "p_value", "ci_lower"} {
			if _, ok := got[k]; ok {
				problems = append(problems, "undefined, and yet "+k)
			}
		}
		return problems
	}
	for name, want := range v.Expected {
		g, ok := got[name]
		if !ok {
			if !slices.Contains(v.Optional, name) {
				problems = append(problems, name+" is missing")
			}
			continue
		}
		abs, rel := v.Tolerance.Abs, v.Tolerance.Rel
		if f, ok := v.Tolerance.Fields[name]; ok {
			abs, rel = f.Abs, f.Rel
		}
		if !within(g, want, abs, rel) {
			problems = append(problems, fmt.Sprintf("%s = %v, want %v", name, g, want))
		}
	}
	return problems
}

func within(got, want any, abs, rel float64) bool {
	switch w := want.(type) {
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !within(g[i], w[i], abs, rel) {
				return false
			}
		}
		return true
	case float64:
		g, ok := got.(float64)
		return ok && math.Abs(g-w) <= math.Max(abs, rel*math.Abs(w))
	}
	return got == want
}
