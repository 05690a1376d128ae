package loop

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/webhook"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// A webhook is told of every change in order, also of those made while nobody told it, and also when who told it died
// in the middle.
func TestWebhookIsToldOfEveryChange(t *testing.T) {
	b := bustest.Start(t)
	var mu sync.Mutex
	var told []string
	die := func() {}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n.Status == schemas.ExperimentStopped && die != nil {
			die() // before it could note that
			die = nil
			<-r.Context().Done()
			return
		}
		told = append(told, n.Status)
	}))
	defer hook.Close()
	people := &control.Control{JS: b.JS, By: "ana"}
	x := &schemas.Experiment{
		Name: "told", Salt: "s", Unit: schemas.UnitViewer, Layer: "l", Coverage: 0.5, PrimaryMetric: "stall_ratio", WebhookURL: hook.URL,
		Arms: []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
	}
	for _, step := range []func(ctx context.Context) (*schemas.Experiment, error){
		func(ctx context.Context) (*schemas.Experiment, error) { return people.Save(ctx, x) },
		func(ctx context.Context) (*schemas.Experiment, error) { return people.Start(ctx, "told", "") },
		func(ctx context.Context) (*schemas.Experiment, error) { return people.Cover(ctx, "told", 1, "") },
		func(ctx context.Context) (*schemas.Experiment, error) { return people.Stop(ctx, "told", "") },
		func(ctx context.Context) (*schemas.Experiment, error) {
			return people.Decide(ctx, "told", "test", "")
		},
	} {
		if _, err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kv, err := schemas.OpenBucket(t.Context(), b.JS, schemas.BucketExperiments)
	if err != nil {
		t.Fatal(err)
	}
	checks, err := schemas.OpenBucket(t.Context(), b.JS, schemas.BucketChecks)
	if err != nil {
		t.Fatal(err)
	}
	tells := func(ctx context.Context) {
		l := &loop{Settings: Settings{JS: b.JS, Every: time.Minute, Logger: slog.New(slog.DiscardHandler), Client: webhook.Client()}, checks: checks, m: newMetrics(nil), teller: newTeller()}
		l.changed(ctx, kv, "told")
		l.changed(ctx, kv, "told")
		l.teller.wg.Wait()
	}
	for range 3 { // the first dies, the second goes on, the third has nothing to tell
		ctx, cancel := context.WithCancel(t.Context())
		mu.Lock()
		if die != nil {
			die = cancel
		}
		mu.Unlock()
		tells(ctx)
		cancel()
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"running", "running", "stopped", "decided"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
