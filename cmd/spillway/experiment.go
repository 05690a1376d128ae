package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/schemas"
)

// experimentCommand manages experiments and prints their reports.
func (c *commands) experimentCommand() *ffcli.Command {
	var b base
	change := func(name, help, from, to string) *ffcli.Command {
		return c.command("experiment "+name, "NAME", help, 1, b.register, func(ctx ctx, a []string) error {
			return b.withBucket(ctx, schemas.BucketExperiments, func(kv jetstream.KeyValue) error {
				return moveExperiment(ctx, kv, a[0], from, to)
			})
		})
	}
	return c.parent("experiment", "A/B tests of QoS strategies",
		c.command("experiment list", "", "list the experiments", 0, b.register, func(ctx ctx, _ []string) error {
			return b.withBucket(ctx, schemas.BucketExperiments, func(kv jetstream.KeyValue) error { return c.listExperiments(ctx, kv) })
		}),
		c.command("experiment create", "FILE", "create a draft from a JSON file (- is standard input)", 1, b.register, func(ctx ctx, a []string) error {
			x, err := c.readExperiment(a[0])
			if err != nil {
				return err
			}
			return b.withBucket(ctx, schemas.BucketExperiments, func(kv jetstream.KeyValue) error { return createExperiment(ctx, kv, x) })
		}),
		change("start", "let a draft assign sessions", schemas.ExperimentDraft, schemas.ExperimentRunning),
		change("stop", "end assignment; sessions that play keep their arm", schemas.ExperimentRunning, schemas.ExperimentStopped),
		c.experimentReport(),
	)
}

func (c *commands) readExperiment(file string) (*schemas.Experiment, error) {
	in := c.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read experiment: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read experiment: %w", err)
	}
	var x schemas.Experiment
	if err := schemas.UnmarshalStrict(data, &x); err != nil {
		return nil, fmt.Errorf("read experiment %s: %w", file, err)
	}
	x.Status = schemas.ExperimentDraft
	if x.Salt == "" {
		x.Salt = strings.ToLower(rand.Text()[:12])
	}
	if x.Layer == "" {
		x.Layer = "default"
	}
	return &x, x.Check()
}

// createExperiment stores a draft; an existing name is refused, because editing
// an experiment under way would void it.
func createExperiment(ctx ctx, kv jetstream.KeyValue, x *schemas.Experiment) error {
	if err := x.Check(); err != nil {
		return err
	}
	v, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := kv.Create(ctx, x.Name, v); errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("experiment %s exists: choose another name, its history is kept", x.Name)
	} else if err != nil {
		return fmt.Errorf("create experiment %s: %w", x.Name, err)
	}
	return nil
}

func moveExperiment(ctx ctx, kv jetstream.KeyValue, name, from, to string) error {
	x, rev, err := getExperiment(ctx, kv, name)
	if err != nil {
		return err
	}
	if x.Status != from {
		return fmt.Errorf("experiment %s is %s: only a %s one can become %s", name, x.Status, from, to)
	}
	x.Status = to
	if to == schemas.ExperimentRunning {
		x.StartedUnixUs = time.Now().UnixMicro()
		if err := layerIsFree(ctx, kv, x); err != nil {
			return err
		}
	}
	v, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := kv.Update(ctx, name, v, rev); err != nil {
		return fmt.Errorf("change experiment %s (changed by somebody else at the same time?): %w", name, err)
	}
	return nil
}

// layerIsFree refuses an experiment whose share of its layer another running one has.
func layerIsFree(ctx ctx, kv jetstream.KeyValue, x *schemas.Experiment) error {
	names, err := keys(ctx, kv)
	if err != nil {
		return err
	}
	running := []*schemas.Experiment{x}
	for _, n := range names {
		o, _, err := getExperiment(ctx, kv, n)
		if err != nil {
			return err
		}
		if o.Name != x.Name && o.Status == schemas.ExperimentRunning {
			running = append(running, o)
		}
	}
	return assign.Conflict(running)
}

func getExperiment(ctx ctx, kv jetstream.KeyValue, name string) (*schemas.Experiment, uint64, error) {
	if err := schemas.CheckName("experiment name", name); err != nil {
		return nil, 0, err
	}
	e, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		names, kerr := keys(ctx, kv)
		if kerr != nil {
			return nil, 0, kerr
		}
		return nil, 0, fmt.Errorf("there is no experiment %q; there are: %s", name, strings.Join(names, ", "))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("experiment %s: %w", name, err)
	}
	var x schemas.Experiment
	if err := json.Unmarshal(e.Value(), &x); err != nil {
		return nil, 0, fmt.Errorf("experiment %s: %w", name, err)
	}
	return &x, e.Revision(), nil
}

func (c *commands) listExperiments(ctx ctx, kv jetstream.KeyValue) error {
	names, err := keys(ctx, kv)
	if err != nil {
		return fmt.Errorf("list experiments: %w", err)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATUS\tUNIT\tLAYER\tCOVERAGE\tARMS\tHYPOTHESIS")
	for _, n := range names {
		x, _, err := getExperiment(ctx, kv, n)
		if err != nil {
			return err
		}
		arms := make([]string, len(x.Arms))
		for i, a := range x.Arms {
			arms[i] = fmt.Sprintf("%s:%g", a.Name, a.Weight)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%g\t%s\t%s\n", x.Name, x.Status, x.Unit, x.Layer, x.Coverage, strings.Join(arms, " "), x.Hypothesis)
	}
	return w.Flush()
}

// statsCommand evaluates statistics on cases from standard input.
func (c *commands) statsCommand() *ffcli.Command {
	return c.parent("stats", "the statistics engine",
		c.command("stats eval", "< FILE", "evaluate cases in the vectors' format, one JSON line each", 0, func(*flag.FlagSet) {}, func(ctx, []string) error {
			return evalStats(c.stdin, c.stdout)
		}),
	)
}
