package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestCostlyExpressions: what can be seen to be long is refused when it is
// compiled; what turns out to be costly is stopped while it decides, and said.
func TestCostlyExpressions(t *testing.T) {
	expression := func(score string) schemas.Policy {
		return schemas.Policy{Name: "dear", Version: 4, Kind: schemas.PolicyExpression, Score: score}
	}
	for _, c := range []struct{ what, score, want string }{
		{"a loop", "[1.0, 2.0].map(x, x * 2.0)[0]", "undeclared reference to 'map'"},
		{"a loop that asks", "[1, 2].exists(x, x == 2) ? 1.0 : 0.0", "undeclared reference to 'exists'"},
		{"too long", strings.Repeat("harm + ", 600) + "harm", "the expression has 4204 bytes: at most 4096 are allowed"},
		{"too deep", strings.Repeat("harm + ", 200) + "harm", "max recursion depth exceeded"},
	} {
		_, err := policy.Compile(expression(c.score))
		if err == nil || !strings.HasPrefix(err.Error(), "policy dear: score: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %q", c.what, err, c.want)
		}
	}
	// Long strings come together step by step, and a pattern is held against them.
	const many = 20
	long := "(" + strings.Repeat("cdn + ", many) + "cdn)"
	dear := long + ".matches('" + strings.Repeat("(a|b)*", 200) + "') ? 1.0 : 0.0"
	for field, p := range map[string]schemas.Policy{
		"score": expression(dear), "eligible": {Name: "dear", Version: 4, Kind: schemas.PolicyQuality, Eligible: strings.TrimSuffix(dear, " ? 1.0 : 0.0")},
	} {
		list := three()
		for i := range list {
			list[i].Name = strings.Repeat(list[i].Name, schemas.MaxNameLen)
		}
		_, err := compiled(t, p).Decide(&policy.Input{CDNs: list})
		var run *policy.RunError
		if !errors.As(err, &run) || run.Policy != "dear" || run.Version != 4 {
			t.Fatalf("%s: %v", field, err)
		}
		if want := field + ": operation cancelled: actual cost limit exceeded"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		// The same with a short name is within the limit: it is the cost that is refused, and not the form.
		if field == "score" {
			if _, err := compiled(t, expression("(cdn + cdn).matches('(a|b)*') ? 1.0 : 0.0")).Decide(&policy.Input{CDNs: list}); err != nil {
				t.Errorf("a cheap one: %v", err)
			}
		}
	}
}
