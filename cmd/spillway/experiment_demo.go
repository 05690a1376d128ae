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
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
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
	page    string
}

func (c *commands) experimentDemo() *ffcli.Command {
	var f experimentDemo
	return c.command("experiment demo", "", "a whole experiment in about five minutes on a \"spillway up\" of its own: two routing policies, a CDN that is bad for a region, the sandbox's prediction, and the guardrail that stops the harmful arm; fails unless it comes out as planned", 0, func(fs *flag.FlagSet) {
		fs.StringVar(&f.data, "data", "", "`folder` for the system's data (default: one that is removed)")
		fs.IntVar(&f.viewers, "viewers", 50, "simulated viewers at once")
		fs.DurationVar(&f.record, "record", 75*time.Second, "time to record before anything is tried; longer where fewer than 300 sessions have closed by then")
		fs.DurationVar(&f.limit, "limit", 8*time.Minute, "how long to wait for the guardrail, and for enough to be recorded")
		fs.DurationVar(&f.keep, "keep", 0, "how long to keep the system and its console up afterwards, e.g. 10m")
		fs.StringVar(&f.page, "html", "", "write the report as one page to this `file`, too")
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
	// videoBps is the stream's video alone, which viewers load beside its sound.
	videoBps int64
	began    time.Time
}

func (f *experimentDemo) run(ctx ctx, c *commands) (err error) {
	d := &demoRun{c: c, f: f, began: time.Now()}
	d.step("1. a system of its own, with CDNs a and b")
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
	if err := d.harm(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	crowd := &viewer.Pool{Config: viewer.Config{Dispatch: d.up.Router, App: demoApp, Stream: demoStream, WholeSegments: true, AccessBps: demoAccessBps},
		Steered: f.viewers, Regions: demoRegions, StayMin: 8 * time.Second, StayMax: 14 * time.Second, Seed: 1}
	gone := make(chan error, 1)
	go func() { gone <- crowd.Run(watching) }()
	defer func() { stop(); err = errors.Join(err, <-gone) }()
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
	if err := d.readVideoBps(ctx); err != nil {
		return err
	}
	d.say("console %s, %d viewers", d.up.Console, d.f.viewers)
	return d.readCDNs(ctx)
}

// demoBitrates is how many of the stream's figures, one a second, are averaged: a key frame does not come in each.
const demoBitrates = 6

// readVideoBps waits until it is known what bitrate the demo stream's video has.
func (d *demoRun) readVideoBps(ctx ctx) error {
	kv, err := d.js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return err
	}
	var sum int64
	for seen, last, tries := 0, uint64(0), 0; seen < demoBitrates; tries++ {
		e, err := kv.Get(ctx, schemas.StreamKey{App: demoApp, Stream: demoStream}.KVKey())
		if err != nil {
			return fmt.Errorf("state of the demo stream: %w", err)
		}
		s, err := schemas.ParseStreamState(e.Key(), e.Value())
		if err != nil {
			return err
		}
		if e.Revision() != last && s.Stats.VideoBps > 0 {
			sum += s.Stats.VideoBps
			seen, last = seen+1, e.Revision()
		}
		if tries == 240 {
			return errors.New("nobody says within a minute what bitrate the demo stream's video has")
		}
		if err := nap.For(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	d.videoBps = sum / demoBitrates
	return nil
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
	d.step("2. recording for %v under the policy that sends viewers to either CDN by lot", d.f.record)
	rec, err := d.record(ctx)
	if err != nil {
		return err
	}
	if err := d.harmed(rec); err != nil {
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
	r, err := d.report(ctx, x)
	if err != nil {
		return err
	}
	if err := d.compare(r, predicted); err != nil {
		return err
	}
	d.say("as planned: the guardrail has stopped the experiment by itself, the report says %s of arm %s, and the sandbox had said which arm would stall", r.Decision.Verdict, r.Decision.Arm)
	if d.f.keep > 0 {
		fmt.Fprintf(d.c.stdout, "\nthe system stays up for %v: %s\n", d.f.keep, d.up.Console)
		return nap.For(ctx, d.f.keep)
	}
	return nil
}

// report prints what a product manager is told.
func (d *demoRun) report(ctx ctx, x *schemas.Experiment) (*report.Report, error) {
	r, err := report.Build(ctx, d.ch, x, report.Options{Exact: true})
	if err != nil {
		return nil, err
	}
	d.step("5. the report")
	if err := r.WriteText(d.c.stdout); err != nil {
		return nil, err
	}
	if d.f.page != "" {
		return r, writePage(r, d.f.page)
	}
	return r, nil
}
