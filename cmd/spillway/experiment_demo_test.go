package main

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestDemoIsValid: what the demonstration stores is what operators could store, too.
func TestDemoIsValid(t *testing.T) {
	x := demoCheaper()
	x.Status = schemas.ExperimentDraft
	if err := x.Check(); err != nil {
		t.Error(err)
	}
	known := map[string]bool{}
	for _, p := range demoPolicies {
		if _, err := policy.Compile(p); err != nil {
			t.Error(err)
		}
		known[p.Name] = true
	}
	for _, a := range x.Arms {
		name, version, err := schemas.ParsePolicyRef(a.Params[schemas.ParamPolicy])
		if err != nil || !known[name] || version != 1 {
			t.Errorf("arm %s: policy %s version %d, %v", a.Name, name, version, err)
		}
	}
}
