package control

import (
	"context"
	"errors"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// ResolvePolicy finds what routers apply for a reference, NAME or NAME@VERSION: what the bucket keeps since the policy was
// last removed, else the built-in one of that name and version. Nil without an error: there is none.
func ResolvePolicy(ctx context.Context, r *registry.Registry[schemas.Policy], ref string) (*schemas.Policy, error) {
	name, version, err := schemas.ParsePolicyRef(ref)
	if err != nil {
		return nil, err
	}
	history, err := r.History(ctx, name)
	if err != nil && !errors.Is(err, registry.ErrNone) {
		return nil, err
	}
	for i := len(history) - 1; i >= 0 && !history[i].Removed; i-- {
		if v := history[i].Value; v != nil && (version == 0 || v.Version == version) {
			return v, nil
		}
	}
	if built := policy.Builtin(name); built != nil {
		if v := built.Value(); version == 0 || version == v.Version {
			return &v, nil
		}
	}
	return nil, nil
}
