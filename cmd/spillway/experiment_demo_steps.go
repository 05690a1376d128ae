package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/loop"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/analytics/sandbox/source"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// demoSessions is how many sessions the sandbox is given at least, demoStalled how many of them stalled.
const demoSessions, demoStalled = 300, 40

// demoArmSessions is about how many sessions an arm has until its guardrail stops it: their luck is part of what will be seen.
const demoArmSessions = 200

// record lets the system run until enough sessions have closed, and reads them.
func (d *demoRun) record(ctx ctx) (*predict.Recording, error) {
	began, told := time.Now(), time.Now()
	for {
		if err := nap.For(ctx, 5*time.Second); err != nil {
			return nil, err
		}
		now := time.Now()
		rec, err := source.ClickHouse(ctx, d.ch, database, began, now)
		if err != nil {
			return nil, err
		}
		sessions, stalled := len(rec.Sessions), 0
		for _, s := range rec.Sessions {
			if s.StalledSec > 0 {
				stalled++
			}
		}
		ready := now.Sub(began) >= d.f.record && sessions >= demoSessions && stalled >= demoStalled
		if ready || now.Sub(told) > 20*time.Second {
			told = now
			d.say("%d sessions have closed, %d of them stalled (%d and %d are needed)", sessions, stalled, demoSessions, demoStalled)
		}
		if ready {
			return rec, nil
		}
		if now.Sub(began) > d.f.record+d.f.limit {
			return nil, fmt.Errorf("%d sessions have closed within %v, %d of them stalled: %d and %d are needed; give more --viewers", sessions, now.Sub(began).Round(time.Second), stalled, demoSessions, demoStalled)
		}
	}
}

// predict asks the sandbox about both arms, from what the running system has recorded.
func (d *demoRun) predict(rec *predict.Recording) (map[string]*predict.Prediction, error) {
	rec.CDNs, rec.SteeringTTLSec = d.cdns, 10
	// The viewers load whole segments, and sound beside the video on a connection of its own: the video is what may be late.
	rec.Player = sandbox.Player{SegmentSec: 2, Levels: []float64{float64(d.videoBps)}, StartBehind: 3, StartSec: 2}
	d.step("3. the sandbox, from %d recorded sessions; nothing is live yet", len(rec.Sessions))
	out := map[string]*predict.Prediction{}
	for _, p := range demoPolicies[1:] {
		tried, err := policy.Compile(p)
		if err != nil {
			return nil, err
		}
		if out[p.Name], err = predict.Predict(rec, predict.Candidate{Policy: tried, Sessions: demoArmSessions}, predict.Settings{Seed: 1}); err != nil {
			return nil, fmt.Errorf("sandbox, %s: %w", p.Name, err)
		}
		i := out[p.Name].StallRatio
		line := fmt.Sprintf("%s: stall ratio %s where %.2f %% was recorded, %.0f %% of viewers on b", p.Name, percents(i), 100*i.Recorded, 100*out[p.Name].Share["b"])
		if off := out[p.Name].OffPolicy; off != nil {
			line += "; from logged probabilities alone " + percents(*off)
		}
		d.say("%s", line)
	}
	return out, nil
}

func percents(i predict.Interval) string {
	return fmt.Sprintf("%.2f %% (%.2f to %.2f)", 100*i.Value, 100*i.Low, 100*i.High)
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
	d.step("4. the same two policies live, as experiment %s; nobody watches it but its guardrails, once a minute on data a minute old", x.Name)
	began, told := time.Now(), ""
	kv, err := d.js.KeyValue(ctx, schemas.BucketChecks)
	if err != nil {
		return nil, err
	}
	for time.Since(began) < d.f.limit {
		if err := nap.For(ctx, time.Second); err != nil {
			return nil, err
		}
		if e, err := kv.Get(ctx, x.Name); err == nil {
			c, err := schemas.ParseExperimentCheck(x.Name, e.Value())
			if err != nil {
				return nil, err
			}
			if line := strings.Join(append(append([]string{c.Held}, c.Guardrails...), c.Next), " | "); line != told {
				told = line
				d.say("%s; %s", strings.Trim(line, " |"), d.routersSay(ctx))
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
			d.say("stopped by %s after %.0f s: %s", now.ChangedBy, time.Since(began).Seconds(), now.ChangeReason)
			return now, nil
		}
	}
	return nil, fmt.Errorf("no guardrail has stopped experiment %s within %v; the last look: %s", x.Name, d.f.limit, told)
}

// compare prints what was predicted beside what happened, and fails when the
// experiment has not ended as it must.
func (d *demoRun) compare(r *report.Report, predicted map[string]*predict.Prediction) error {
	d.step("6. predicted, and what then happened: stall ratio")
	i := slices.IndexFunc(r.Metrics, func(m report.MetricReport) bool { return m.Key == "stall_ratio" })
	if i < 0 {
		return errors.New("the report has no stall ratio")
	}
	for k, a := range r.Arms {
		p, happened := predicted[a.Arm].StallRatio, r.Metrics[i].Arms[k]
		if happened.Undefined != "" {
			return fmt.Errorf("stall ratio of arm %s: %s", a.Arm, happened.Undefined)
		}
		in := "inside"
		if v := happened.Estimate / 100; v < p.Low || v > p.High {
			in = "outside"
		}
		d.say("%s: predicted %s, happened %.2f %% (%.2f to %.2f): %s", a.Arm, percents(p), happened.Estimate, happened.Lower, happened.Upper, in)
	}
	if good, bad := predicted["mostly-a"].StallRatio, predicted["mostly-b"].StallRatio; bad.Low <= good.High {
		return fmt.Errorf("the sandbox does not tell the arms apart: it says %s of mostly-a and %s of mostly-b", percents(good), percents(bad))
	}
	if r.Decision.Verdict != report.Stop || r.Decision.Arm != "mostly-b" {
		return fmt.Errorf("the report says %q of arm %q: it must say stop, of the arm on the bad CDN", r.Decision.Verdict, r.Decision.Arm)
	}
	return nil
}
