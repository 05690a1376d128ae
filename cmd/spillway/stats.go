package main

import (
	"flag"
	"fmt"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/experiments/simulate"
)

// statsCommand evaluates statistics on cases from standard input, and shows by
// simulation that they keep what they promise.
func (c *commands) statsCommand() *ffcli.Command {
	return c.parent("stats", "the statistics engine",
		c.command("stats eval", "< FILE", "evaluate cases in the vectors' format, one JSON line each", 0, func(*flag.FlagSet) {}, func(ctx, []string) error {
			return evalStats(c.stdin, c.stdout)
		}),
		c.statsSimulate(),
	)
}

func (c *commands) statsSimulate() *ffcli.Command {
	var s simulate.Settings
	var asJSON, quiet bool
	return c.command("stats simulate", "", "let made-up experiments run and count how often reports are wrong; fails when a promise is not kept", 0, func(fs *flag.FlagSet) {
		fs.IntVar(&s.Runs, "runs", 4000, "runs of each kind: without a difference, with the planned one, and for intervals")
		fs.IntVar(&s.Viewers, "viewers", 2000, "viewers of each arm")
		fs.Uint64Var(&s.Seed, "seed", 1, "of what is drawn; the same seed gives the same figures")
		fs.BoolVar(&asJSON, "json", false, "print JSON instead of text")
		fs.BoolVar(&quiet, "quiet", false, "no progress on standard error")
	}, func(ctx ctx, _ []string) error {
		s.Progress = progress(ctx, c.stderr, quiet)
		r, err := simulate.Run(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if asJSON {
			err = c.printJSON(r)
		} else {
			err = r.WriteText(c.stdout)
		}
		if missed := r.Missed(); err == nil && len(missed) > 0 {
			err = fmt.Errorf("%d figures are missed, the first: %s", len(missed), missed[0].Name)
		}
		return err
	})
}
