package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/loop"
	"github.com/spillway-live/spillway/schemas"
)

// experimenterRole watches running experiments on the ClickHouse of dsn, which it only reads.
func (d *deps) experimenterRole(dsn string) (role, error) {
	conn, err := openDSN(dsn)
	if err != nil {
		return role{}, err
	}
	s := loop.Settings{JS: d.js, Conn: d.js.Conn(), ClickHouse: conn, Logger: d.log("experimenter"), Registerer: d.reg}
	return role{"experimenter", func(ctx context.Context) error {
		defer conn.Close()
		return s.Run(ctx)
	}}, nil
}

func (c *commands) experimenterCommand() *ffcli.Command {
	f := &roleFlags{}
	return c.command("experimenter", "", "stop experiments that do harm, ramp those that do not, tell webhooks; reads ClickHouse", 0, f.register, func(ctx ctx, _ []string) error {
		dsn, err := f.clickhouseURL()
		if err != nil {
			return err
		}
		return c.serveRole(ctx, f, "experimenter", func(d *deps) ([]role, error) {
			r, err := d.experimenterRole(dsn)
			return []role{r}, err
		})
	})
}

// experimentRollOut makes a winner's parameters the settings of applications.
func (c *commands) experimentRollOut() *ffcli.Command {
	var au audit
	return c.command("experiment roll-out", "NAME APP,APP/STREAM,...", "make the winner's parameters the settings of applications or streams, for sessions that begin from now on", 2, au.register, func(ctx ctx, a []string) error {
		var keys []string
		for name := range strings.SplitSeq(a[1], ",") {
			k, err := parseAppKey(name)
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return au.control(ctx, func(ct *control.Control) error {
			wrote, err := ct.RollOut(ctx, a[0], keys, au.reason)
			for _, k := range keys {
				if s := wrote[k]; s != nil {
					fmt.Fprintf(c.stdout, "%s: policy %q, parameters %v\n", strings.Replace(k, ".", "/", 1), s.Policy, s.Params)
				}
			}
			return err
		})
	})
}

// experimentStatus prints what the closed loop found last.
func (c *commands) experimentStatus() *ffcli.Command {
	var b base
	var asJSON bool
	return c.command("experiment status", "NAME", "what the closed loop found at its last look", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}, func(ctx ctx, a []string) error {
		nc, js, err := b.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer nc.Close()
		x, err := (&control.Control{JS: js}).Get(ctx, a[0])
		if err != nil {
			return err
		}
		check, err := readCheck(ctx, js, x.Name)
		if err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(check)
		}
		fmt.Fprintf(c.stdout, "experiment %s is %s, coverage %g\n", x.Name, x.Status, x.Coverage)
		if check.TimeUs == 0 {
			_, err = fmt.Fprintln(c.stdout, "the closed loop has not looked at it: does an experimenter run?")
			return err
		}
		fmt.Fprintf(c.stdout, "looked at %s", time.UnixMicro(check.TimeUs).UTC().Format(time.RFC3339))
		if check.Held != "" {
			fmt.Fprintf(c.stdout, " and judged nothing: %s\n", check.Held)
		} else {
			fmt.Fprintf(c.stdout, " at the data until %s: %s\n", time.UnixMicro(check.UntilUs).UTC().Format(time.RFC3339), check.Verdict)
		}
		for _, line := range append(append(check.Why, check.Guardrails...), check.Next) {
			if line != "" {
				fmt.Fprintf(c.stdout, "  %s\n", line)
			}
		}
		return nil
	})
}

func readCheck(ctx ctx, js jetstream.JetStream, name string) (*schemas.ExperimentCheck, error) {
	kv, err := js.KeyValue(ctx, schemas.BucketChecks)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", schemas.BucketChecks, err)
	}
	e, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return &schemas.ExperimentCheck{Experiment: name}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the check of experiment %s: %w", name, err)
	}
	return schemas.ParseExperimentCheck(name, e.Value())
}
