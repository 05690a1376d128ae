// Package loop watches running experiments: it stops those that do harm, raises the coverage of those that ramp, and
// tells their webhooks.
//
// Every minute it judges each running experiment on minutes that are closed (report.Build, tests that hold at
// every look). It stops an experiment when a guardrail is harmed: new sessions only, and for good. It raises coverage
// by one step when a step has lasted long enough and nothing speaks against it; a report that says stop does. On data that is old, or missing, or of
// arms that are not comparable (broken split, telemetry lost unevenly) it does nothing and says so. It never decides for a winner; people do.
//
// One process of all does the work (a lease); when it dies another goes on.
package loop

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
	"github.com/spillway-live/spillway/schemas/webhook"
)

// By is who the loop's changes are of, in an experiment's history.
const By = "guardrails"

// Settings of the loop.
type Settings struct {
	JS         jetstream.JetStream
	Conn       *nats.Conn
	ClickHouse driver.Conn
	Database   string // default spillway
	// Every is the time between looks, default 1 min.
	Every time.Duration
	// Watermark is how long telemetry may be late: a look ends so long ago; default 1 min.
	Watermark time.Duration
	// Stale is the age of the newest slice from which on nothing is judged; default 5 min.
	Stale      time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Client posts to webhooks; default one with a timeout that follows no redirects.
	Client *http.Client
	Now    func() time.Time
}

type loop struct {
	Settings
	control *control.Control
	checks  jetstream.KeyValue
	m       *metrics
	held    map[string]string // why an experiment was not judged at the last look
	teller  *teller

	noting sync.Mutex // one change of a check at a time
}

// Run takes part until ctx ends.
func (s Settings) Run(ctx context.Context) error {
	s.Every, s.Watermark, s.Stale = cmp.Or(s.Every, time.Minute), cmp.Or(s.Watermark, time.Minute), cmp.Or(s.Stale, 5*time.Minute)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Client == nil {
		s.Client = webhook.Client()
	}
	l := &loop{Settings: s, control: &control.Control{JS: s.JS, By: By, Now: s.Now}, m: newMetrics(s.Registerer), held: map[string]string{}, teller: newTeller()}
	var err error
	if l.checks, err = schemas.OpenBucket(ctx, s.JS, schemas.BucketChecks); err != nil {
		return err
	}
	ledger, err := schemas.OpenBucket(ctx, s.JS, schemas.BucketLedger)
	if err != nil {
		return err
	}
	return lease.Pool{KV: ledger, Role: "experimenter", Names: []string{"loop"}, Work: l.work, Conn: s.Conn, Logger: s.Logger}.Run(ctx)
}

// work looks at intervals, and tells the webhook of each experiment that changes.
func (l *loop) work(ctx context.Context, _ string) error {
	kv, err := schemas.OpenBucket(ctx, l.JS, schemas.BucketExperiments)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", schemas.BucketExperiments, err)
	}
	defer func() { _ = w.Stop() }()
	tick := time.NewTicker(l.Every)
	defer tick.Stop()
	defer l.teller.wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("the watch on experiments ended")
			}
			if e != nil && e.Operation() == jetstream.KeyValuePut {
				l.changed(ctx, kv, e.Key())
				continue
			}
			if e != nil {
				continue
			}
		case <-tick.C:
		}
		l.round(ctx)
	}
}

// round looks at each running experiment; one that fails keeps no other from its turn.
func (l *loop) round(ctx context.Context) {
	list, err := l.control.List(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.Logger.Error("experiments cannot be listed; trying again", "err", err)
		}
		return
	}
	fresh := l.fresh(ctx)
	for _, e := range list {
		if e.Err == nil && e.Value.Status == schemas.ExperimentRunning {
			l.look(ctx, e.Value, fresh)
		}
	}
}

// fresh says why the data must not be judged; empty: it may be.
func (l *loop) fresh(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var newest time.Time
	db := cmp.Or(l.Database, "spillway")
	now := l.Now()
	err := l.ClickHouse.QueryRow(ctx, fmt.Sprintf("SELECT max(minute) FROM %s.rollup_arm_minute WHERE minute >= toDateTime(%d) AND minute <= toDateTime(%d)",
		db, now.Add(-24*time.Hour).Unix(), now.Unix())).Scan(&newest)
	if err != nil {
		return fmt.Sprintf("ClickHouse does not answer: %v", err)
	}
	if newest.Unix() <= 0 {
		return "no session of any experiment has reported for a day"
	}
	if age := now.Sub(newest); age > l.Stale+time.Minute {
		return fmt.Sprintf("the newest data is %s old, since %s", age.Round(time.Second), newest.UTC().Format(time.RFC3339))
	}
	return ""
}

// look judges one experiment and acts.
func (l *loop) look(ctx context.Context, x *schemas.Experiment, stale string) {
	c := schemas.ExperimentCheck{Experiment: x.Name, TimeUs: l.Now().UnixMicro(), Held: stale}
	if stale == "" {
		l.judge(ctx, x, &c)
	}
	if ctx.Err() != nil {
		return
	}
	if c.Held != "" {
		l.m.held.WithLabelValues(x.Name).Inc()
	}
	if c.Held != "" && l.held[x.Name] == "" { // told once, not every minute
		l.Logger.Warn("experiment is not judged: it goes on as it is", "experiment", x.Name, "why", c.Held)
	}
	l.held[x.Name] = c.Held
	l.m.looks.Inc()
	if err := l.note(ctx, x.Name, func(old *schemas.ExperimentCheck) {
		told := old.ToldRevision
		*old = c
		old.ToldRevision = told
	}); err != nil && ctx.Err() == nil {
		l.Logger.Error("the check of an experiment cannot be stored", "experiment", x.Name, "err", err)
	}
}

func (l *loop) judge(ctx context.Context, x *schemas.Experiment, c *schemas.ExperimentCheck) {
	// The driver asks for this and five seconds as max_execution_time, of which ClickHouse gives 120 s at most.
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	until := l.Now().Add(-l.Watermark).Truncate(time.Minute)
	if !until.After(time.UnixMicro(x.StartedUnixUs)) {
		c.Held = "it has just begun"
		return
	}
	r, err := report.Build(ctx, l.ClickHouse, x, report.Options{Database: l.Database, Until: until, Exact: true, Brief: true})
	if err != nil {
		c.Held = fmt.Sprintf("its figures cannot be read: %v", err)
		return
	}
	c.UntilUs, c.Verdict, c.Why = until.UnixMicro(), r.Decision.Verdict, r.Decision.Why
	for _, g := range r.Decision.Guardrails {
		c.Guardrails = append(c.Guardrails, g.Metric+" "+g.Arm+": "+g.State)
	}
	if len(r.Health.Problems) > 0 {
		c.Held = "the comparison cannot be trusted: " + r.Health.Problems[0]
		return
	}
	for _, g := range r.Decision.Guardrails {
		if g.State != report.GuardHarmed {
			continue
		}
		reason := fmt.Sprintf("arm %s harms %s: %s, at the data of %s", g.Arm, g.Metric, g.HarmText(), until.UTC().Format(time.RFC3339))
		if _, err := l.control.Stop(ctx, x.Name, reason); err != nil {
			c.Next = fmt.Sprintf("it must be stopped, and that failed: %v", err)
			l.Logger.Error("a harmful experiment cannot be stopped; trying again", "experiment", x.Name, "err", err)
			return
		}
		l.m.stops.Inc()
		l.Logger.Warn("experiment stopped by a guardrail", "experiment", x.Name, "why", reason)
		c.Next = "stopped: " + reason
		return
	}
	c.Next = l.ramp(ctx, x, r)
}

// ramp raises coverage when it is time, and says what it waits for.
func (l *loop) ramp(ctx context.Context, x *schemas.Experiment, r *report.Report) string {
	if x.Ramp == nil {
		return ""
	}
	next := 0.0
	for _, s := range x.Ramp.Steps {
		if s > x.Coverage {
			next = s
			break
		}
	}
	if next == 0 {
		return "the ramp is complete"
	}
	if why := waits(&r.Decision); why != "" {
		return "the ramp waits: " + why
	}
	since, err := l.since(ctx, x)
	if err != nil {
		return fmt.Sprintf("the ramp waits: %v", err)
	}
	due := since.Add(time.Duration(x.Ramp.HoldHours * float64(time.Hour)))
	if now := l.Now(); now.Before(due) {
		return fmt.Sprintf("coverage %g at %s", next, due.UTC().Format(time.RFC3339))
	}
	if _, err := l.control.Cover(ctx, x.Name, next, fmt.Sprintf("ramp: %g held for %g h without harm", x.Coverage, x.Ramp.HoldHours)); err != nil {
		return fmt.Sprintf("the ramp waits: %v", err)
	}
	l.Logger.Info("experiment covers more", "experiment", x.Name, "coverage", next)
	return fmt.Sprintf("coverage raised to %g", next)
}

// waits says what in a report's decision speaks against more units; empty: nothing.
func waits(d *report.Decision) string {
	if d.Verdict == report.Stop {
		return strings.Join(d.Why, "; ") // of the primary metric: a harmed guardrail has stopped the experiment
	}
	for _, g := range d.Guardrails {
		if g.Reason != "" {
			return fmt.Sprintf("%s of arm %s is not known: %s", g.Metric, g.Arm, g.Reason)
		}
	}
	return ""
}

// since is when the present coverage began.
func (l *loop) since(ctx context.Context, x *schemas.Experiment) (time.Time, error) {
	h, err := l.control.History(ctx, x.Name)
	if err != nil {
		return time.Time{}, err
	}
	at := time.UnixMicro(x.StartedUnixUs)
	for i := len(h) - 1; i >= 0; i-- {
		v := h[i].Experiment
		if v == nil || v.Status != x.Status || v.Coverage != x.Coverage {
			break
		}
		at = h[i].At
	}
	return at, nil
}

// note changes the stored check of an experiment.
func (l *loop) note(ctx context.Context, name string, change func(*schemas.ExperimentCheck)) error {
	l.noting.Lock()
	defer l.noting.Unlock()
	c := &schemas.ExperimentCheck{Experiment: name}
	if e, err := l.checks.Get(ctx, name); err == nil {
		if old, err := schemas.ParseExperimentCheck(name, e.Value()); err == nil {
			c = old
		}
	} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	change(c)
	v, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = l.checks.Put(ctx, name, v)
	return err
}
