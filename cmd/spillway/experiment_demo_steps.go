package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/loop"
	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/analytics/sandbox/source"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// demoSessions is how many sessions the sandbox is given at least, demoStalled how many of them stalled.
const demoSessions, demoStalled = 300, 40

// record lets the system run until enough sessions have closed, and reads them.
func (d *demoRun) record(ctx ctx) (*predict.Recording, error) {
	began := time.Now()
	for {
		if err := pause(ctx, 5*time.Second); err != nil {
			return nil, err
		}
		now := time.Now()
		if now.Sub(began) < d.f.record {
			continue
		}
		rec, err := source.ClickHouse(ctx, d.ch, "spillway", began, now)
		if err != nil {
			return nil, err
		}
		stalled := 0
		for _, s := range rec.Sessions {
			if s.StalledSec > 0 {
				stalled++
			}
		}
		if len(rec.Sessions) >= demoSessions && stalled >= demoStalled {
			return rec, nil
		}
		if now.Sub(began) > d.f.record+d.f.limit {
			return nil, fmt.Errorf("%d sessions have closed within %v, %d of them stalled: %d and %d are needed; give more --viewers", len(rec.Sessions), now.Sub(began).Round(time.Second), stalled, demoSessions, demoStalled)
		}
	}
}

// predict asks the sandbox about both arms, from what the running system has recorded.
func (d *demoRun) predict(rec *predict.Recording) (map[string]*predict.Prediction, error) {
	rec.CDNs, rec.SteeringTTLSec = d.cdns, 10
	bps, seconds := 0.0, 0.0
	for _, s := range rec.Sessions {
		bps, seconds = bps+8*s.Bytes, seconds+s.PlayedSec
	}
	rec.Player = sandbox.Player{SegmentSec: 2, Levels: []float64{max(bps/max(seconds, 1), 100_000)}, StartBehind: 3}
	fmt.Fprintf(d.c.stdout, "\n2. the sandbox, from %d recorded sessions\n", len(rec.Sessions))
	out := map[string]*predict.Prediction{}
	for _, p := range demoPolicies[1:] {
		tried, err := policy.Compile(p)
		if err != nil {
			return nil, err
		}
		if out[p.Name], err = predict.Predict(rec, predict.Candidate{Policy: tried}, predict.Settings{Seed: 1}); err != nil {
			return nil, fmt.Errorf("sandbox, %s: %w", p.Name, err)
		}
		i := out[p.Name].StallRatio
		fmt.Fprintf(d.c.stdout, "%s: stall ratio %.2f %% (%.2f to %.2f), recorded %.2f %%", p.Name, 100*i.Value, 100*i.Low, 100*i.High, 100*i.Recorded)
		if off := out[p.Name].OffPolicy; off != nil {
			fmt.Fprintf(d.c.stdout, "; from logged probabilities alone %.2f %% (%.2f to %.2f)", 100*off.Value, 100*off.Low, 100*off.High)
		}
		fmt.Fprintln(d.c.stdout)
	}
	return out, nil
}

// live starts the experiment and waits until its guardrail has stopped it.
func (d *demoRun) live(ctx ctx) (*schemas.Experiment, error) {
	x := demoCheaper()
	x.Status = schemas.ExperimentDraft
	if _, err := d.ctl.Save(ctx, x); err != nil {
		return nil, err
	}
	if _, err := d.ctl.Start(ctx, x.Name, "demonstration"); err != nil {
		return nil, err
	}
	fmt.Fprintf(d.c.stdout, "\n3. the same two policies live, as experiment %s; nobody watches it but its guardrails\n", x.Name)
	began, told := time.Now(), ""
	kv, err := d.js.KeyValue(ctx, schemas.BucketChecks)
	if err != nil {
		return nil, err
	}
	for time.Since(began) < d.f.limit {
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
		if e, err := kv.Get(ctx, x.Name); err == nil {
			c, err := schemas.ParseExperimentCheck(x.Name, e.Value())
			if err != nil {
				return nil, err
			}
			if line := strings.Join(append(append([]string{c.Held}, c.Guardrails...), c.Next), " | "); line != told {
				told = line
				routers, _ := d.routersSay(ctx)
				fmt.Fprintf(d.c.stdout, "after %3.0f s: %s; %s\n", time.Since(began).Seconds(), strings.Trim(line, " |"), routers)
			}
		}
		now, err := d.ctl.Get(ctx, x.Name)
		if err != nil {
			return nil, err
		}
		if now.Status == schemas.ExperimentStopped {
			if now.ChangedBy != loop.By {
				return nil, fmt.Errorf("experiment %s was stopped by %s", x.Name, now.ChangedBy)
			}
			fmt.Fprintf(d.c.stdout, "after %3.0f s: stopped by %s: %s\n", time.Since(began).Seconds(), now.ChangedBy, now.ChangeReason)
			return now, nil
		}
	}
	return nil, fmt.Errorf("no guardrail has stopped experiment %s within %v; the last look: %s", x.Name, d.f.limit, told)
}
