// Package control moves experiments through their life: draft, running, stopped, decided.
//
// Command line, admin API and the closed loop all change experiments through it, so they obey the same rules: an
// experiment is checked by field before it is stored, one that assigns is never edited but for its coverage, and each
// change says who made it and why. The bucket keeps the versions; each change is also an event.
package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// ErrRule says that a change is against the rules of an experiment's life.
var ErrRule = errors.New("not allowed")

// Control changes experiments in the name of By.
type Control struct {
	JS jetstream.JetStream
	// By is who changes: a person's name, or the program's.
	By string
	// Now defaults to time.Now.
	Now func() time.Time
}

func (c *Control) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Control) open(ctx context.Context) (*registry.Registry[schemas.Experiment], error) {
	return registry.Open(ctx, c.JS, schemas.BucketExperiments, schemas.ParseExperiment)
}

// Get gives one experiment; its error lists those there are.
func (c *Control) Get(ctx context.Context, name string) (*schemas.Experiment, error) {
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	x, err := r.Get(ctx, name)
	return x, c.named(ctx, r, name, err)
}

// List gives all experiments by name; one that cannot be read has its error.
func (c *Control) List(ctx context.Context) ([]registry.Entry[schemas.Experiment], error) {
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return r.List(ctx)
}

// named turns "there is none" into a list of what there is.
func (c *Control) named(ctx context.Context, r *registry.Registry[schemas.Experiment], name string, err error) error {
	if !errors.Is(err, registry.ErrNone) {
		return err
	}
	if bad := schemas.CheckName("experiment", name); bad != nil {
		return bad
	}
	list, lerr := r.List(ctx)
	if lerr != nil {
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Key
	}
	return fmt.Errorf("there is no experiment %q; there are: %s: %w", name, strings.Join(names, ", "), registry.ErrNone)
}

// Complete fills what a draft may leave out: it is a draft, in the default layer, with a salt of its own.
func Complete(x *schemas.Experiment) {
	x.Status = schemas.ExperimentDraft
	if x.Salt == "" {
		x.Salt = strings.ToLower(rand.Text()[:12])
	}
	if x.Layer == "" {
		x.Layer = "default"
	}
}

// Save stores a draft, or changes one that is a draft still. An experiment that has begun is not edited: its data
// would be of two experiments. Make another one.
func (c *Control) Save(ctx context.Context, x *schemas.Experiment) (*schemas.Experiment, error) {
	draft := *x
	draft.Status, draft.StartedUnixUs, draft.StoppedUnixUs, draft.Winner = schemas.ExperimentDraft, 0, 0, ""
	if err := draft.Check(); err != nil {
		return nil, err
	}
	if err := plan.Check(&draft); err != nil {
		return nil, err
	}
	return c.edit(ctx, x.Name, "saved", func(v *schemas.Experiment, found bool) error {
		if found && v.Status != schemas.ExperimentDraft {
			return fmt.Errorf("experiment %s is %s and its history is kept: choose another name: %w", v.Name, v.Status, ErrRule)
		}
		*v = draft
		return nil
	})
}

// Start lets a draft assign sessions. It refuses one whose share of its layer another running experiment has, and one
// whose arms name a policy that is not there: routers would obey another in its place.
func (c *Control) Start(ctx context.Context, name, reason string) (*schemas.Experiment, error) {
	x, err := c.move(ctx, name, schemas.ExperimentDraft, schemas.ExperimentRunning, reason, func(v *schemas.Experiment) error {
		v.StartedUnixUs = c.now().UnixMicro()
		if v.Ramp != nil {
			v.Coverage = v.Ramp.Steps[0]
		}
		if err := c.policiesAreThere(ctx, v); err != nil {
			return err
		}
		return c.layerIsFree(ctx, v, func(*schemas.Experiment) bool { return true })
	})
	if err != nil {
		return x, err
	}
	// Of two that start at the same moment neither saw the other. The one that was stored later sees the other now, and
	// goes back.
	earlier, err := c.storedEarlier(ctx, x.Name)
	if err != nil {
		return x, err
	}
	if err := c.layerIsFree(ctx, x, earlier); err != nil {
		_, stopErr := c.Stop(ctx, name, "another experiment of the layer started at the same moment")
		return nil, errors.Join(err, stopErr)
	}
	return x, nil
}

// storedEarlier tells which experiments' present versions were stored before that of the named one.
func (c *Control) storedEarlier(ctx context.Context, name string) (func(*schemas.Experiment) bool, error) {
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	revision := func(name string) uint64 {
		e, err := r.KV.Get(ctx, name)
		if err != nil {
			return 0 // not known: better to yield
		}
		return e.Revision()
	}
	mine := revision(name)
	return func(o *schemas.Experiment) bool { return revision(o.Name) < mine }, nil
}

// layerIsFree refuses an experiment that would meet another running one before which it has to yield.
func (c *Control) layerIsFree(ctx context.Context, x *schemas.Experiment, yields func(*schemas.Experiment) bool) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	running := []*schemas.Experiment{x}
	for _, e := range list {
		if e.Err != nil || e.Key == x.Name || e.Value.Status != schemas.ExperimentRunning {
			continue
		}
		if yields(e.Value) {
			running = append(running, e.Value)
		}
	}
	if err := assign.Conflict(running); err != nil {
		return fmt.Errorf("layer: %w: %w", err, ErrRule)
	}
	return nil
}

// Stop ends assignment. Sessions that play keep their arm: moving all of them at once would be a load spike.
func (c *Control) Stop(ctx context.Context, name, reason string) (*schemas.Experiment, error) {
	return c.move(ctx, name, schemas.ExperimentRunning, schemas.ExperimentStopped, reason, func(v *schemas.Experiment) error {
		v.StoppedUnixUs = c.now().UnixMicro()
		return nil
	})
}

// Decide records the arm that won a stopped experiment.
func (c *Control) Decide(ctx context.Context, name, winner, reason string) (*schemas.Experiment, error) {
	return c.move(ctx, name, schemas.ExperimentStopped, schemas.ExperimentDecided, reason, func(v *schemas.Experiment) error {
		v.Winner = winner
		return nil
	})
}

// Cover changes the share of units taken in. It may only grow: taking units out again would leave those that stayed a
// chosen few.
func (c *Control) Cover(ctx context.Context, name string, coverage float64, reason string) (*schemas.Experiment, error) {
	return c.edit(ctx, name, reason, func(v *schemas.Experiment, found bool) error {
		switch {
		case !found:
			return registry.ErrNone
		case v.Status != schemas.ExperimentRunning && v.Status != schemas.ExperimentDraft:
			return fmt.Errorf("experiment %s is %s: only a draft or a running one has coverage to change: %w", name, v.Status, ErrRule)
		case v.Status == schemas.ExperimentRunning && !(coverage > v.Coverage):
			return fmt.Errorf("coverage: %v is not above the present %v; a running experiment only grows; stop it instead: %w", coverage, v.Coverage, ErrRule)
		}
		v.Coverage = coverage
		return nil
	})
}

// Remove deletes a draft.
func (c *Control) Remove(ctx context.Context, name string) error {
	r, err := c.open(ctx)
	if err != nil {
		return err
	}
	x, err := r.Get(ctx, name)
	if err != nil {
		return c.named(ctx, r, name, err)
	}
	if x.Status != schemas.ExperimentDraft {
		return fmt.Errorf("experiment %s is %s: its history is kept, only drafts are removed: %w", name, x.Status, ErrRule)
	}
	return r.Remove(ctx, name)
}

// Version is one entry of an experiment's history.
type Version struct {
	At         time.Time           `json:"at"`
	Revision   uint64              `json:"revision"`
	Experiment *schemas.Experiment `json:"experiment,omitempty"` // nil: removed, or not readable
	Problem    string              `json:"problem,omitempty"`
}

// History gives the versions of an experiment, oldest first: the newest 64.
func (c *Control) History(ctx context.Context, name string) ([]Version, error) {
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := r.KV.History(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, c.named(ctx, r, name, registry.ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("history of experiment %s: %w", name, err)
	}
	out := make([]Version, 0, len(entries))
	for _, e := range entries {
		v := Version{At: e.Created(), Revision: e.Revision()}
		switch x, err := schemas.ParseExperiment(name, e.Value()); {
		case e.Operation() != jetstream.KeyValuePut:
			v.Problem = "removed"
		case err != nil:
			v.Problem = err.Error()
		default:
			v.Experiment = x
		}
		out = append(out, v)
	}
	return out, nil
}

func (c *Control) move(ctx context.Context, name, from, to, reason string, change func(*schemas.Experiment) error) (*schemas.Experiment, error) {
	return c.edit(ctx, name, reason, func(v *schemas.Experiment, found bool) error {
		if !found {
			return registry.ErrNone
		}
		if v.Status != from {
			return fmt.Errorf("experiment %s is %s: only a %s one can become %s: %w", name, v.Status, from, to, ErrRule)
		}
		v.Status = to
		return change(v)
	})
}

// edit stores a change with who and why, and publishes it as an event.
func (c *Control) edit(ctx context.Context, name, reason string, change func(*schemas.Experiment, bool) error) (*schemas.Experiment, error) {
	r, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	var before string
	x, err := r.Edit(ctx, name, func(v *schemas.Experiment, found bool) error {
		before = v.Status
		if err := change(v, found); err != nil {
			return err
		}
		v.ChangedBy, v.ChangeReason = c.By, reason
		return nil
	})
	if err != nil {
		return nil, c.named(ctx, r, name, err)
	}
	if err := c.announce(ctx, x, before); err != nil {
		// The change holds, and its history tells it; only walls and webhooks do not hear of it.
		return x, fmt.Errorf("experiment %s is %s now, and its event could not be published: %w", name, x.Status, err)
	}
	return x, nil
}

func (c *Control) announce(ctx context.Context, x *schemas.Experiment, before string) error {
	now := c.now()
	e := schemas.Event{
		ID: fmt.Sprintf("experiment/%s/%d", x.Name, now.UnixMicro()), TimeUs: now.UnixMicro(), Kind: schemas.EventExperimentChange, Reason: x.ChangeReason,
		Detail: map[string]string{"experiment": x.Name, "before": before, "status": x.Status, "coverage": fmt.Sprint(x.Coverage), "by": x.ChangedBy},
	}
	if x.Winner != "" {
		e.Detail["winner"] = x.Winner
	}
	data, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	_, err = c.JS.Publish(ctx, schemas.EventSubject(&e), data, jetstream.WithMsgID(e.ID))
	return err
}
