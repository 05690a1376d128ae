package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// demoExperiment is the experiment a fresh system starts with: does staying
// further behind live cost viewers anything but delay, and does it save stalls?
func demoExperiment(now time.Time) *schemas.Experiment {
	return &schemas.Experiment{
		Name:       "player-delay",
		Hypothesis: "playing 2 s behind the live edge instead of the playlist's hold-back lowers the stall ratio",
		Owner:      "demo",
		Status:     schemas.ExperimentRunning,
		Salt:       "player-delay-1",
		Unit:       "viewer",
		Layer:      "player",
		Coverage:   1,
		Arms: []schemas.Arm{
			{Name: "holdback", Weight: 1},
			{Name: "relaxed", Weight: 1, Params: map[string]string{schemas.ParamLiveSyncSec: "2"}},
		},
		PrimaryMetric: "stall_ratio",
		StartedUnixUs: now.UnixMicro(),
	}
}

// ensureDemoExperiment creates it once; what an operator made of it since stays.
func (s *system) ensureDemoExperiment(ctx ctx) error {
	kv, err := s.d.js.KeyValue(ctx, schemas.BucketExperiments)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketExperiments, err)
	}
	x := demoExperiment(time.Now())
	if err := x.Check(); err != nil {
		return err
	}
	v, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := kv.Create(ctx, x.Name, v); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("create experiment %s: %w", x.Name, err)
	}
	return nil
}

// startViewers lets simulated viewers watch the demo stream on every CDN.
func (s *system) startViewers(ctx) error {
	if s.f.viewers <= 0 || s.run.Router == "" {
		return nil
	}
	var cdns []string
	for _, e := range s.edges {
		cdns = append(cdns, e.Record().Name)
	}
	p := &viewer.Pool{
		Config:  viewer.Config{Dispatch: s.run.Router, App: demoApp, Stream: demoStream, Logger: s.d.log("viewer")},
		CDNs:    cdns,
		PerCDN:  s.f.viewers,
		Regions: []string{"eu", "us", "asia"},
		ISPs:    []string{"north-net", "south-net"},
		Logger:  s.d.log("viewers"),
	}
	s.add(role{"viewers", p.Run})
	return nil
}
