package control

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// RollOut makes the parameters of a decided experiment's winner the settings of applications (APP) or streams
// (APP.STREAM), for all sessions that begin from now on. It gives what it wrote, by key. Settings of other matters
// stay; the winner's parameters replace those of the same names, also those that the winner leaves to the default
// and another arm set.
func (c *Control) RollOut(ctx context.Context, name string, keys []string, reason string) (map[string]*schemas.AppSettings, error) {
	x, err := c.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if x.Status != schemas.ExperimentDecided {
		return nil, fmt.Errorf("experiment %s is %s: only a decided one has a winner to roll out: %w", name, x.Status, ErrRule)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("roll out %s: no application is named", name)
	}
	params := x.Arms[slices.IndexFunc(x.Arms, func(a schemas.Arm) bool { return a.Name == x.Winner })].Params
	r, err := registry.Open(ctx, c.JS, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		return nil, err
	}
	tested := testedParams(x)
	out := map[string]*schemas.AppSettings{}
	for _, key := range keys {
		stored, err := r.Edit(ctx, key, func(a *schemas.AppSettings, _ bool) error {
			for _, p := range tested {
				v, set := params[p]
				switch {
				case p == schemas.ParamPolicy:
					a.Policy = v
				case !set:
					delete(a.Params, p)
				default:
					if a.Params == nil {
						a.Params = map[string]string{}
					}
					a.Params[p] = v
				}
			}
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("roll out %s to %s: %w", name, key, err)
		}
		out[key] = stored
	}
	_, err = c.edit(ctx, name, fmt.Sprintf("rolled out to %s: %s", strings.Join(keys, ", "), reason), func(*schemas.Experiment, bool) error { return nil })
	return out, err
}

// testedParams are the names of all parameters that any arm sets.
func testedParams(x *schemas.Experiment) []string {
	var out []string
	for _, a := range x.Arms {
		for p := range a.Params {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	sort.Strings(out)
	return out
}
