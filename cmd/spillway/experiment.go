package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/schemas"
)

// experimentCommand manages experiments and prints their reports.
func (c *commands) experimentCommand() *ffcli.Command {
	return c.parent("experiment", "A/B tests of QoS strategies",
		c.experimentList(), c.experimentShow(), c.experimentCreate(), c.experimentPlan(),
		c.experimentMove("start", "let a draft assign sessions", (*control.Control).Start),
		c.experimentMove("stop", "end assignment; sessions that play keep their arm", (*control.Control).Stop),
		c.experimentCover(), c.experimentDecide(), c.experimentRollOut(), c.experimentStatus(), c.experimentHistory(), c.experimentRemove(),
		c.experimentReport(), c.experimentDemo(),
	)
}

// audit is who changes an experiment and why.
type audit struct {
	base
	by, reason string
}

func (a *audit) register(fs *flag.FlagSet) {
	a.base.register(fs)
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	fs.StringVar(&a.by, "by", name, "who makes this change, for the history")
	fs.StringVar(&a.reason, "reason", "", "why, for the history")
}

// control runs f with access to the bus in the name of who asks.
func (a *audit) control(ctx ctx, f func(*control.Control) error) error {
	nc, js, err := a.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer nc.Close()
	return f(&control.Control{JS: js, By: a.by})
}

// say prints what became of an experiment; an error with an experiment is a
// change that holds nevertheless.
func (c *commands) say(x *schemas.Experiment, err error) error {
	if x != nil {
		fmt.Fprintf(c.stdout, "experiment %s is %s, coverage %g\n", x.Name, x.Status, x.Coverage)
	}
	return err
}

func (c *commands) experimentMove(name, help string, move func(*control.Control, context.Context, string, string) (*schemas.Experiment, error)) *ffcli.Command {
	var au audit
	return c.command("experiment "+name, "NAME", help, 1, au.register, func(ctx ctx, a []string) error {
		return au.control(ctx, func(ct *control.Control) error { return c.say(move(ct, ctx, a[0], au.reason)) })
	})
}

func (c *commands) experimentCover() *ffcli.Command {
	var au audit
	return c.command("experiment cover", "NAME SHARE", "raise the share of units taken in, e.g. 0.5; nobody changes arms", 2, au.register, func(ctx ctx, a []string) error {
		share, err := strconv.ParseFloat(a[1], 64)
		if err != nil {
			return fmt.Errorf("share %q is not a number from 0 to 1", a[1])
		}
		return au.control(ctx, func(ct *control.Control) error { return c.say(ct.Cover(ctx, a[0], share, au.reason)) })
	})
}

func (c *commands) experimentDecide() *ffcli.Command {
	var au audit
	return c.command("experiment decide", "NAME ARM", "record which arm of a stopped experiment won", 2, au.register, func(ctx ctx, a []string) error {
		return au.control(ctx, func(ct *control.Control) error { return c.say(ct.Decide(ctx, a[0], a[1], au.reason)) })
	})
}

func (c *commands) experimentRemove() *ffcli.Command {
	var au audit
	return c.command("experiment remove", "NAME", "delete a draft", 1, au.register, func(ctx ctx, a []string) error {
		return au.control(ctx, func(ct *control.Control) error { return ct.Remove(ctx, a[0]) })
	})
}

func (c *commands) experimentCreate() *ffcli.Command {
	var au audit
	return c.command("experiment create", "FILE", "store a draft from a JSON file (- is standard input), or change one that is a draft still", 1, au.register, func(ctx ctx, a []string) error {
		x, err := c.readExperiment(a[0])
		if err != nil {
			return err
		}
		return au.control(ctx, func(ct *control.Control) error {
			if err := c.say(ct.Save(ctx, x)); err != nil {
				return err
			}
			return c.warn(x)
		})
	})
}

func (c *commands) warn(x *schemas.Experiment) error {
	for _, w := range plan.Warnings(x) {
		if _, err := fmt.Fprintf(c.stdout, "warning: %s\n", w); err != nil {
			return err
		}
	}
	return nil
}

func (c *commands) experimentShow() *ffcli.Command {
	var au audit
	return c.command("experiment show", "NAME", "print an experiment as JSON", 1, au.base.register, func(ctx ctx, a []string) error {
		return au.control(ctx, func(ct *control.Control) error {
			x, err := ct.Get(ctx, a[0])
			if err != nil {
				return err
			}
			return c.printJSON(x)
		})
	})
}

func (c *commands) experimentHistory() *ffcli.Command {
	var au audit
	return c.command("experiment history", "NAME", "who changed an experiment, when and why", 1, au.base.register, func(ctx ctx, a []string) error {
		return au.control(ctx, func(ct *control.Control) error {
			h, err := ct.History(ctx, a[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "AT\tSTATUS\tCOVERAGE\tBY\tREASON")
			for _, v := range h {
				at := v.At.UTC().Format(time.RFC3339)
				if x := v.Experiment; x != nil {
					fmt.Fprintf(w, "%s\t%s\t%g\t%s\t%s\n", at, x.Status, x.Coverage, x.ChangedBy, x.ChangeReason)
				} else {
					fmt.Fprintf(w, "%s\t-\t-\t-\t%s\n", at, v.Problem)
				}
			}
			return w.Flush()
		})
	})
}

func (c *commands) readExperiment(file string) (*schemas.Experiment, error) {
	data, err := c.readFile("experiment", file)
	if err != nil {
		return nil, err
	}
	var x schemas.Experiment
	if err := schemas.UnmarshalStrict(data, &x); err != nil {
		return nil, fmt.Errorf("read experiment %s: %w", file, err)
	}
	control.Complete(&x)
	return &x, x.Check()
}

func (c *commands) experimentList() *ffcli.Command {
	var au audit
	return c.command("experiment list", "", "list the experiments", 0, au.base.register, func(ctx ctx, _ []string) error {
		return au.control(ctx, func(ct *control.Control) error {
			list, err := ct.List(ctx)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATUS\tUNIT\tLAYER\tCOVERAGE\tARMS\tHYPOTHESIS")
			for _, e := range list {
				if e.Err != nil {
					fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t%v\n", e.Key, e.Err)
					continue
				}
				x := e.Value
				arms := make([]string, len(x.Arms))
				for i, a := range x.Arms {
					arms[i] = fmt.Sprintf("%s:%g", a.Name, a.Weight)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%g\t%s\t%s\n", x.Name, x.Status, x.Unit, x.Layer, x.Coverage, strings.Join(arms, " "), x.Hypothesis)
			}
			return w.Flush()
		})
	})
}

// experimentPlan says how large an experiment must be, from a file, with what
// ClickHouse knows of its primary metric.
func (c *commands) experimentPlan() *ffcli.Command {
	var au audit
	var days float64
	return c.command("experiment plan", "FILE", "say how many units and days an experiment needs; without mean, variance and units_per_day in its plan they are taken from ClickHouse", 1, func(fs *flag.FlagSet) {
		au.base.register(fs)
		fs.Float64Var(&days, "history", 14, "days of data to look back on")
	}, func(ctx ctx, a []string) error {
		x, err := c.readExperiment(a[0])
		if x == nil || x.Plan == nil || x.PrimaryMetric == "" {
			return cmp.Or(err, fmt.Errorf("%s: plan and primary_metric: give at least {\"plan\": {\"effect\": 0.1, \"days\": 14}}", a[0]))
		}
		if x.Plan.Mean == 0 || x.Plan.Variance == 0 || x.Plan.UnitsPerDay == 0 {
			if err := c.fillPlan(ctx, &au.base, x, days); err != nil {
				return err
			}
		}
		if err := x.Check(); err != nil {
			return err
		}
		s, err := plan.Of(x)
		if err != nil {
			return err
		}
		p := x.Plan
		fmt.Fprintf(c.stdout, "primary metric %s: mean %.4g, variance of a unit %.4g, %.0f units a day\n", x.PrimaryMetric, p.Mean, p.Variance, p.UnitsPerDay)
		fmt.Fprintf(c.stdout, "a lift of %.3g %% needs %.0f units in control and smallest arm together", 100*p.Effect, s.Needed)
		if s.Days > 0 {
			fmt.Fprintf(c.stdout, ": %d days at this coverage\n", s.Days)
		} else {
			fmt.Fprintf(c.stdout, ": more than ten years at this coverage\n")
		}
		fmt.Fprintf(c.stdout, "%g days bring %.0f units, which find a lift of %.3g %%\n", p.Days, s.Expected, 100*s.Found)
		return c.warn(x)
	})
}

// fillPlan takes the missing figures of a plan from what is stored.
func (c *commands) fillPlan(ctx ctx, b *base, x *schemas.Experiment, days float64) error {
	conn, err := b.openClickHouse()
	if err != nil {
		return err
	}
	defer conn.Close()
	base, err := report.ReadBaseline(ctx, conn, x, days, report.Options{})
	if err != nil {
		return err
	}
	p := x.Plan
	p.Mean, p.Variance, p.UnitsPerDay = cmp.Or(p.Mean, base.Mean), cmp.Or(p.Variance, base.Variance), cmp.Or(p.UnitsPerDay, base.UnitsPerDay)
	return nil
}
