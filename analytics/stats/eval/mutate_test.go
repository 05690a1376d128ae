package eval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// leaves calls f for every number in v with a setter and its path.
func leaves(v any, path string, f func(path string, set func(any))) {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if _, ok := e.(json.Number); ok {
				f(path+"/"+k, func(n any) { x[k] = n })
			}
			leaves(e, path+"/"+k, f)
		}
	case []any:
		for i, e := range x {
			if i > 3 && i < len(x)-1 {
				continue // long lists: the first four and the last stand for all
			}
			at := fmt.Sprintf("%s/%d", path, i)
			if _, ok := e.(json.Number); ok {
				f(at, func(n any) { x[i] = n })
			}
			leaves(e, at, f)
		}
	}
}

func decode(t testing.TB, raw []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Every number of every public case is replaced by values that do not belong
// there. NaN anywhere makes the whole result undefined, infinity never turns
// into a finite test, and whatever comes back is JSON without p-values or
// estimates that are not numbers.
func TestEveryNumberMutated(t *testing.T) {
	_, cases := readVectors(t)
	tried := 0
	for _, v := range cases {
		if v.Method == "bucket_hash_growthbook" {
			continue
		}
		leaves(decode(t, v.Input), "", func(path string, _ func(any)) {
			for _, bad := range []any{"nan", "+inf", "-inf", json.Number("0"), json.Number("-1"), json.Number("1e308"), json.Number("1e-308"),
				json.Number("0.5"), json.Number("3"), json.Number("1e400"), nil, "text", true, []any{}, map[string]any{}} {
				in := decode(t, v.Input)
				leaves(in, "", func(p string, set func(any)) {
					if p == path {
						set(bad)
					}
				})
				raw, err := json.Marshal(in)
				if err != nil {
					t.Fatal(err)
				}
				result := Run(Case{ID: v.ID, Method: v.Method, Input: raw})
				tried++
				out, err := json.Marshal(result)
				if err != nil {
					t.Fatalf("%s %s = %v: %v", v.ID, path, bad, err)
				}
				undefined := result["undefined"] == true
				if undefined && (result["reason"] == "" || len(result) > 3) {
					t.Errorf("%s %s = %v: %s", v.ID, path, bad, out)
				}
				what, _ := bad.(string)
				if what == "nan" && !undefined {
					t.Errorf("%s %s = nan gives %s", v.ID, path, out)
				}
				// Infinite rows of a quantile are failed starts and an infinite
				// clip is none; elsewhere infinity is not a value.
				if strings.HasSuffix(what, "inf") && !undefined && !strings.Contains(v.ID, "qci") && !strings.Contains(v.ID, "qcluster") && path != "/clip" {
					t.Errorf("%s %s = %s gives %s", v.ID, path, what, out)
				}
				if se, ok := result["se"].(float64); ok && se <= 0 {
					t.Errorf("%s %s = %v gives se %v", v.ID, path, bad, se)
				}
				if p, ok := result["p_value"].(float64); ok && (p < 0 || p > 1) {
					t.Errorf("%s %s = %v gives p %v", v.ID, path, bad, p)
				}
			}
		})
	}
	if tried < 1000 {
		t.Errorf("only %d mutations tried", tried)
	}
}
