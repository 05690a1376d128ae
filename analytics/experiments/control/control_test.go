package control_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func draft(name string) *schemas.Experiment {
	return &schemas.Experiment{
		Name: name, Salt: name + "-1", Unit: schemas.UnitViewer, Layer: "player", Coverage: 0.5,
		Arms: []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
	}
}

func TestLife(t *testing.T) {
	b := bustest.Start(t)
	ctx := t.Context()
	c := &control.Control{JS: b.JS, By: "ana"}
	must := func(x *schemas.Experiment, err error) *schemas.Experiment {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	refused := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	x := draft("delay")
	x.Ramp = &schemas.Ramp{Steps: []float64{0.1, 0.5}, HoldHours: 1}
	must(c.Save(ctx, x))
	x.Hypothesis = "better"
	must(c.Save(ctx, x)) // a draft may be edited
	_, err := c.Stop(ctx, "delay", "")
	refused("a draft was stopped", err, control.ErrRule)
	_, err = c.Start(ctx, "dela", "")
	refused("an unknown one was started", err, registry.ErrNone)
	if err == nil || !strings.Contains(err.Error(), "there are: delay") {
		t.Errorf("the error does not list what there is: %v", err)
	}

	if x := must(c.Start(ctx, "delay", "agreed")); x.Coverage != 0.1 || x.StartedUnixUs == 0 {
		t.Errorf("started as %+v: a ramp begins with its first step", x)
	}
	_, err = c.Save(ctx, x)
	refused("a running one was edited", err, control.ErrRule)
	refused("a running one was removed", c.Remove(ctx, "delay"), control.ErrRule)
	_, err = c.Cover(ctx, "delay", 0.05, "")
	refused("coverage fell", err, control.ErrRule)
	must(c.Cover(ctx, "delay", 0.5, "step 2"))

	must(c.Save(ctx, draft("other")))
	if _, err := c.Start(ctx, "other", ""); err == nil || !strings.Contains(err.Error(), "overlap in layer") {
		t.Errorf("a second one of the layer started: %v", err)
	}
	_, err = c.Decide(ctx, "delay", "test", "")
	refused("a running one was decided", err, control.ErrRule)
	must(c.Stop(ctx, "delay", "enough data"))
	if _, err := c.Decide(ctx, "delay", "none", ""); err == nil || !strings.Contains(err.Error(), "winner") {
		t.Errorf("an unknown arm won: %v", err)
	}
	must(c.Decide(ctx, "delay", "test", "fewer stalls"))
	must(c.Start(ctx, "other", "")) // the layer is free

	h, err := c.History(ctx, "delay")
	if err != nil {
		t.Fatal(err)
	}
	var life []string
	for _, v := range h {
		life = append(life, v.Experiment.Status+":"+v.Experiment.ChangeReason)
		if v.Experiment.ChangedBy != "ana" {
			t.Errorf("changed by %q", v.Experiment.ChangedBy)
		}
	}
	if got, want := strings.Join(life, " "), "draft:saved draft:saved running:agreed running:step 2 stopped:enough data decided:fewer stalls"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
	if n := events(t, b.JS); n != 8 {
		t.Errorf("%d events, want one for each of 8 changes", n)
	}
}

func events(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// However many of one layer are started at the same moment, at most one assigns afterwards.
func TestStartsAtOnce(t *testing.T) {
	b := bustest.Start(t)
	c := &control.Control{JS: b.JS, By: "ana"}
	names := []string{"a", "b", "c", "d"}
	for _, n := range names {
		if _, err := c.Save(t.Context(), draft(n)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() { _, _ = c.Start(t.Context(), n, "") })
	}
	wg.Wait()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, e := range list {
		if e.Value.Status == schemas.ExperimentRunning {
			running++
		}
	}
	if running != 1 {
		t.Errorf("%d of a layer run", running)
	}
}

func TestRollOut(t *testing.T) {
	b := bustest.Start(t)
	ctx := t.Context()
	c := &control.Control{JS: b.JS, By: "ana"}
	x := draft("delay")
	x.Arms[0].Params = map[string]string{schemas.ParamMaxCatchupRate: "1.1"}
	x.Arms[1].Params = map[string]string{schemas.ParamLiveSyncSec: "2", schemas.ParamPolicy: "quality"}
	apps, err := registry.Open(ctx, b.JS, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apps.Edit(ctx, "live", func(a *schemas.AppSettings, _ bool) error {
		a.DVRSec, a.Params = 60, map[string]string{schemas.ParamMaxCatchupRate: "1.05", schemas.ParamStartBufferSec: "1"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() (*schemas.Experiment, error){
		func() (*schemas.Experiment, error) { return c.Save(ctx, x) },
		func() (*schemas.Experiment, error) { return c.Start(ctx, "delay", "") },
		func() (*schemas.Experiment, error) { return c.Stop(ctx, "delay", "") },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.RollOut(ctx, "delay", []string{"live"}, ""); !errors.Is(err, control.ErrRule) {
		t.Errorf("rolled out before it was decided: %v", err)
	}
	if _, err := c.Decide(ctx, "delay", "test", "fewer stalls"); err != nil {
		t.Fatal(err)
	}
	got, err := c.RollOut(ctx, "delay", []string{"live", "other.star"}, "agreed")
	if err != nil {
		t.Fatal(err)
	}
	live := got["live"]
	if live.DVRSec != 60 || live.Policy != "quality" || len(live.Params) != 2 || live.Params[schemas.ParamLiveSyncSec] != "2" || live.Params[schemas.ParamStartBufferSec] != "1" {
		t.Errorf("settings %+v: the winner's parameters hold, what it leaves out is gone, the rest stays", live)
	}
	if o := got["other.star"]; o.Policy != "quality" || o.Params[schemas.ParamLiveSyncSec] != "2" {
		t.Errorf("settings %+v", o)
	}
	h, err := c.History(ctx, "delay")
	if err != nil {
		t.Fatal(err)
	}
	if last := h[len(h)-1].Experiment; !strings.Contains(last.ChangeReason, "rolled out to live, other.star: agreed") {
		t.Errorf("the history does not tell: %q", last.ChangeReason)
	}
	// One that fails half-way is told as far as it came, also by somebody who has gone.
	got, err = c.RollOut(ctx, "delay", []string{"live", "no such key", "other.star"}, "again")
	if err == nil || len(got) != 1 || got["live"] == nil {
		t.Errorf("rolled out to %v, %v, want live and an error", got, err)
	}
	if h, err = c.History(ctx, "delay"); err != nil {
		t.Fatal(err)
	}
	if last := h[len(h)-1].Experiment; !strings.Contains(last.ChangeReason, "rolled out to live (1 of 3, then it failed): again") {
		t.Errorf("the history does not tell what was done before it failed: %q", last.ChangeReason)
	}
	if _, err := c.RollOut(ctx, "delay", []string{"live"}, strings.Repeat("x", 600)); !errors.Is(err, control.ErrRule) {
		t.Errorf("a reason that fits into no entry: %v", err)
	}
}

// An experiment starts only if routers can obey the policies that its arms name.
func TestStartWantsItsPolicies(t *testing.T) {
	b := bustest.Start(t)
	ctx := t.Context()
	policies, err := registry.Open(ctx, b.JS, schemas.BucketPolicies, policy.Value)
	if err != nil {
		t.Fatal(err)
	}
	for version := 1; version <= 2; version++ {
		if _, err := policies.Put(ctx, "mine", &schemas.Policy{Name: "mine", Version: version, Kind: schemas.PolicyBalance}); err != nil {
			t.Fatal(err)
		}
	}
	c := &control.Control{JS: b.JS, By: "ana"}
	for ref, want := range map[string]bool{"mine": true, "mine@1": true, "mine@2": true, "mine@3": false, "nobody": false, "quality": true, "quality@1": true, "quality@2": false} {
		x := draft("x-" + strings.ReplaceAll(ref, "@", "-"))
		x.Layer = x.Name
		x.Arms[1].Params = map[string]string{schemas.ParamPolicy: ref}
		if _, err := c.Save(ctx, x); err != nil {
			t.Fatal(err)
		}
		_, err := c.Start(ctx, x.Name, "")
		if want && err != nil || !want && (!errors.Is(err, control.ErrRule) || !strings.Contains(err.Error(), "arms[1].params.policy")) {
			t.Errorf("policy %s: %v, want it to start: %v", ref, err, want)
		}
	}
}
