package control

import (
	"context"
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
		found, err := ResolvePolicy(ctx, r, ref)
		if err != nil {
			return fmt.Errorf("arms[%d].params.%s: %w", i, schemas.ParamPolicy, err)
		}
		if found == nil {
			return fmt.Errorf("arms[%d].params.%s: there is no policy %s; see spillway policy list and policy history: %w", i, schemas.ParamPolicy, ref, ErrRule)
		}
	}
	return nil
}
