package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// RollOut makes the parameters of a decided experiment's winner the settings of applications (APP) or streams
// (APP.STREAM), for all sessions that begin from now on. It gives what it wrote, by key, and writes that into the
// experiment's history, also when it fails half-way. Settings of other matters stay; the winner's parameters replace
// those of the same names, also those that the winner leaves to the default and another arm set. The reason has at most
// half of schemas.MaxChangeReasonLen bytes.
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
	if len(reason) > maxRollOutReason {
		return nil, fmt.Errorf("roll out %s: the reason has %d bytes, at most %d are allowed: %w", name, len(reason), maxRollOutReason, ErrRule)
	}
	tested := testedParams(x)
	out := map[string]*schemas.AppSettings{}
	var failed error
	var done []string
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
			failed = fmt.Errorf("roll out %s to %s: %w", name, key, err)
			break
		}
		out[key] = stored
		done = append(done, key)
	}
	if len(done) == 0 {
		return out, failed
	}
	// What was done is in the history also when the rest failed, or the caller has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	_, err = c.edit(ctx, name, rollOutEntry(done, len(keys), reason), func(*schemas.Experiment, bool) error { return nil })
	return out, errors.Join(failed, err)
}

// maxRollOutReason is how long a reason may be, bytes: the entry in the history names applications beside it.
const maxRollOutReason = schemas.MaxChangeReasonLen / 2

// auditTimeout bounds the writing of the entry.
const auditTimeout = 10 * time.Second

// rollOutEntry says which of all keys were rolled out to, in what an experiment's history takes: of many keys the first
// are named, the rest counted.
func rollOutEntry(done []string, all int, reason string) string {
	of := ""
	if len(done) < all {
		of = fmt.Sprintf(" (%d of %d, then it failed)", len(done), all)
	}
	entry := func(named int) string {
		list := strings.Join(done[:named], ", ")
		if rest := len(done) - named; named == 0 {
			list = fmt.Sprintf("%d keys", rest)
		} else if rest > 0 {
			list += fmt.Sprintf(" and %d more", rest)
		}
		return "rolled out to " + list + of + ": " + reason
	}
	n := len(done)
	for n > 0 && len(entry(n)) > schemas.MaxChangeReasonLen {
		n--
	}
	return entry(n)
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
