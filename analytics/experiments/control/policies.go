package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// policiesAreThere checks that every policy that an arm names is built in, or kept by the bucket in that version.
func (c *Control) policiesAreThere(ctx context.Context, x *schemas.Experiment) error {
	r, err := registry.Open(ctx, c.JS, schemas.BucketPolicies, policy.Value)
	if err != nil {
		return err
	}
	for i, a := range x.Arms {
		ref, named := a.Params[schemas.ParamPolicy]
		if !named {
			continue
		}
		there, err := policyIsThere(ctx, r, ref)
		if err != nil {
			return fmt.Errorf("arms[%d].params.%s: %w", i, schemas.ParamPolicy, err)
		}
		if !there {
			return fmt.Errorf("arms[%d].params.%s: there is no policy %s; see spillway policy list and policy history: %w", i, schemas.ParamPolicy, ref, ErrRule)
		}
	}
	return nil
}

func policyIsThere(ctx context.Context, r *registry.Registry[schemas.Policy], ref string) (bool, error) {
	name, version, err := schemas.ParsePolicyRef(ref)
	if err != nil {
		return false, err
	}
	history, err := r.History(ctx, name)
	if err != nil && !errors.Is(err, registry.ErrNone) {
		return false, err
	}
	for i := len(history) - 1; i >= 0 && !history[i].Removed; i-- {
		if v := history[i].Value; v != nil && (version == 0 || v.Version == version) {
			return true, nil
		}
	}
	built := policy.Builtin(name)
	return built != nil && (version == 0 || version == built.Value().Version), nil
}
