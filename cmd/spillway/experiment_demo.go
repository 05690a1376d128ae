package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// experimentDemo is a whole experiment in minutes, on a system of its own.
type experimentDemo struct {
	data    string
	viewers int
	record  time.Duration
	limit   time.Duration
	keep    time.Duration
}

func (c *commands) experimentDemo() *ffcli.Command {
	var f experimentDemo
	return c.command("experiment demo", "", "a whole experiment in about eight minutes on a \"spillway up\" of its own: two routing policies, a bad CDN, the sandbox's prediction, and the guardrail that stops the harmful arm", 0, func(fs *flag.FlagSet) {
		fs.StringVar(&f.data, "data", "", "`folder` for the system's data (default: one that is removed)")
		fs.IntVar(&f.viewers, "viewers", 50, "simulated viewers at once")
		fs.DurationVar(&f.record, "record", 75*time.Second, "time to record before anything is tried; longer where fewer than 300 sessions have closed by then")
		fs.DurationVar(&f.limit, "limit", 8*time.Minute, "how long to wait for the guardrail")
		fs.DurationVar(&f.keep, "keep", 0, "how long to keep the system and its console up afterwards, e.g. 10m")
	}, func(ctx ctx, _ []string) error {
		if f.data == "" {
			dir, err := os.MkdirTemp("", "spillway-demo-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			f.data = dir
		}
		return f.run(ctx, c)
	})
}

// demoRun is the system under the experiment.
type demoRun struct {
	c    *commands
	f    *experimentDemo
	up   runFile
	nc   *nats.Conn
	js   jetstream.JetStream
	ch   driver.Conn
	ctl  *control.Control
	cdns []schemas.CDN
	// crowd are the viewers; needBps is what half of them need for playing alone.
	crowd   *viewer.Pool
	needBps float64
}

func (f *experimentDemo) run(ctx ctx, c *commands) (err error) {
	d := &demoRun{c: c, f: f}
	process, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer process.Stop(20 * time.Second)
	b := base{data: f.data}
	if d.nc, d.js, err = b.connect(ctx, "spillway-demo", slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	defer d.nc.Close()
	if d.ch, err = b.openClickHouse(); err != nil {
		return err
	}
	defer d.ch.Close()
	d.ctl = &control.Control{JS: d.js, By: "demo"}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	d.crowd = &viewer.Pool{Config: viewer.Config{Dispatch: d.up.Router, App: demoApp, Stream: demoStream, WholeSegments: true},
		Steered: f.viewers, Regions: []string{"eu", "us"}, StayMin: 8 * time.Second, StayMax: 14 * time.Second, Seed: 1}
	gone := make(chan error, 1)
	go func() { gone <- d.crowd.Run(watching) }()
	defer func() { stop(); err = errors.Join(err, <-gone) }()
	if err := d.harm(ctx); err != nil {
		return err
	}
	return d.play(ctx)
}

// start runs "spillway up" with two CDNs.
func (d *demoRun) start(ctx ctx) (*child.Process, error) {
	binary, err := thisProgram()
	if err != nil {
		return nil, err
	}
	args := []string{"up", "--data", d.f.data, "--json", "--log-level", "error", "--viewers", "0", "--cdns", "a,b"}
	for _, port := range []string{"rtmp", "console", "router", "collector", "origin", "nats-port"} {
		args = append(args, "--"+port, "0")
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = child.Environ("SPILLWAY_")
	cmd.Stderr = d.c.stderr
	return child.StartJSON(ctx, cmd, &d.up, 2*time.Minute)
}

func (d *demoRun) put(ctx ctx, bucket, key string, v any) error {
	kv, err := d.js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err = kv.Put(ctx, key, data); err != nil {
		return fmt.Errorf("write %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}

// Policies of the demonstration: by lot, so that every decision has its probability.
var demoPolicies = []schemas.Policy{
	{Name: "even", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 1, "b": 1}},
	{Name: "mostly-a", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 9, "b": 1}},
	{Name: "mostly-b", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 1, "b": 9}},
}

// demoName of the experiment.
const demoName = "cheaper-cdn"

func demoCheaper() *schemas.Experiment {
	return &schemas.Experiment{
		Name: demoName, Hypothesis: "sending most viewers to CDN b, which costs less, does not make them stall more", Owner: "demo", Salt: demoName + "-1",
		Unit: schemas.UnitViewer, Layer: "routing", Coverage: 1,
		Arms: []schemas.Arm{
			{Name: "mostly-a", Weight: 1, Params: map[string]string{schemas.ParamPolicy: "mostly-a@1"}},
			{Name: "mostly-b", Weight: 1, Params: map[string]string{schemas.ParamPolicy: "mostly-b@1"}},
		},
		PrimaryMetric: "first_screen_mean",
		Guardrails:    []schemas.Guardrail{{Metric: "stall_ratio", Margin: 0.1}, {Metric: "start_failure_ratio", Margin: 0.5}},
	}
}

// prepare stores the policies, ends the experiment a fresh system runs, and asks what viewers need.
func (d *demoRun) prepare(ctx ctx) error {
	for _, p := range demoPolicies {
		if err := d.put(ctx, schemas.BucketPolicies, p.Name, &p); err != nil {
			return err
		}
	}
	if _, err := d.ctl.Stop(ctx, "player-delay", "makes room for the demonstration"); err != nil {
		return err
	}
	if err := d.put(ctx, schemas.BucketApps, demoApp, schemas.AppSettings{Policy: "even"}); err != nil {
		return err
	}
	bps, err := d.streamBps(ctx)
	if err != nil {
		return err
	}
	d.needBps = float64(bps) * float64(d.f.viewers) / 2
	fmt.Fprintf(d.c.stdout, "console %s\n%d viewers of %.2f Mbit/s, %.1f Mbit/s for half of them\n", d.up.Console, d.f.viewers, float64(bps)/1e6, d.needBps/1e6)
	return d.readCDNs(ctx)
}

// streamBps waits until it is known how much a viewer of the demo stream needs.
func (d *demoRun) streamBps(ctx ctx) (int64, error) {
	kv, err := d.js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return 0, err
	}
	for range 60 {
		e, err := kv.Get(ctx, schemas.StreamKey{App: demoApp, Stream: demoStream}.KVKey())
		if err != nil {
			return 0, fmt.Errorf("state of the demo stream: %w", err)
		}
		s, err := schemas.ParseStreamState(e.Key(), e.Value())
		if err != nil {
			return 0, err
		}
		if bps := s.Stats.VideoBps + s.Stats.AudioBps; bps > 0 {
			return bps, nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("nobody says within 30 s what bitrate the demo stream has")
}

func (d *demoRun) readCDNs(ctx ctx) error {
	for _, name := range []string{"a", "b"} {
		kv, err := d.js.KeyValue(ctx, schemas.BucketCDNs)
		if err != nil {
			return err
		}
		e, err := kv.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("CDN %s: %w", name, err)
		}
		x, err := schemas.ParseCDN(name, e.Value())
		if err != nil {
			return err
		}
		d.cdns = append(d.cdns, *x)
	}
	return nil
}

// play records, predicts, tries live, and compares.
func (d *demoRun) play(ctx ctx) error {
	fmt.Fprintf(d.c.stdout, "\n1. recording %v under the policy that sends viewers to either CDN by lot\n", d.f.record)
	rec, err := d.record(ctx)
	if err != nil {
		return err
	}
	predicted, err := d.predict(rec)
	if err != nil {
		return err
	}
	x, err := d.live(ctx)
	if err != nil {
		return err
	}
	r, err := report.Build(ctx, d.ch, x, report.Options{Exact: true})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.c.stdout, "\n4. the report\n\n")
	if err := r.WriteText(d.c.stdout); err != nil {
		return err
	}
	if err := d.compare(r, predicted); err != nil {
		return err
	}
	if d.f.keep > 0 {
		fmt.Fprintf(d.c.stdout, "\nthe system stays up for %v: %s\n", d.f.keep, d.up.Console)
		return pause(ctx, d.f.keep)
	}
	return nil
}

func pause(ctx ctx, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// compare prints what was predicted beside what happened, and fails when the
// experiment has not ended as it must.
func (d *demoRun) compare(r *report.Report, predicted map[string]*predict.Prediction) error {
	fmt.Fprintf(d.c.stdout, "\n5. predicted and happened: stall ratio\n")
	for _, m := range r.Metrics {
		if m.Key != "stall_ratio" {
			continue
		}
		for i, a := range r.Arms {
			p, happened := predicted[a.Arm].StallRatio, m.Arms[i]
			if happened.Undefined != "" {
				return fmt.Errorf("stall ratio of arm %s: %s", a.Arm, happened.Undefined)
			}
			in := "inside"
			if v := happened.Estimate / 100; v < p.Low || v > p.High {
				in = "outside"
			}
			fmt.Fprintf(d.c.stdout, "%s: predicted %.2f %% (%.2f to %.2f), happened %.2f %% (%.2f to %.2f): %s\n", a.Arm, 100*p.Value, 100*p.Low, 100*p.High,
				happened.Estimate, happened.Lower, happened.Upper, in)
		}
	}
	if r.Decision.Verdict != report.Stop || r.Decision.Arm != "mostly-b" {
		return fmt.Errorf("the report says %q of arm %q: it must say stop, of the arm on the bad CDN", r.Decision.Verdict, r.Decision.Arm)
	}
	return nil
}
