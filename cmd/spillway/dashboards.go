package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/grafana"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// dashboardsCommand writes the Grafana walls as files or pushes them to a server.
func (c *commands) dashboardsCommand() *ffcli.Command {
	t := grafana.Target{Thresholds: new(queries.Thresholds)}
	var held heldRules
	return c.parent("dashboards", "the Grafana walls",
		c.command("dashboards export", "DIR", "write dashboards and provisioning files", 1, func(fs *flag.FlagSet) {
			registerThresholds(fs, t.Thresholds)
			held.register(fs)
		}, func(ctx ctx, a []string) error {
			rules, err := held.read(ctx, c.stderr)
			if err == nil {
				err = grafana.Export(a[0], *t.Thresholds, rules)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.stderr, "wrote the walls to %s\n", a[0])
			return err
		}),
		c.command("dashboards push", "", "bring a Grafana server to the state of the walls", 0, func(fs *flag.FlagSet) {
			fs.StringVar(&t.URL, "grafana", "", "`URL` of Grafana")
			fs.StringVar(&t.Token, "token", "", "service account `token`; better given as SPILLWAY_TOKEN")
			fs.StringVar(&t.ClickHouse, "data-source", "", "`HOST:PORT` of ClickHouse's native protocol as Grafana reaches it (default: leave an existing data source alone)")
			fs.BoolVar(&t.DryRun, "dry-run", false, "only say what would change, and how")
			fs.BoolVar(&t.NoAlerts, "no-alerts", false, "leave alert rules alone")
			registerThresholds(fs, t.Thresholds)
			held.register(fs)
		}, func(ctx ctx, _ []string) error {
			if t.URL == "" {
				return fmt.Errorf("give --grafana URL, e.g. --grafana http://127.0.0.1:3000")
			}
			if !t.NoAlerts {
				var err error
				if t.Rules, err = held.read(ctx, c.stderr); err != nil {
					return err
				}
			}
			changes, err := grafana.Push(ctx, t)
			for _, ch := range changes {
				fmt.Fprintln(c.stdout, ch)
			}
			return err
		}),
	)
}

// heldRules finds the alert rules that walls are given.
type heldRules struct {
	base
	asTheyCome bool
}

func (h *heldRules) register(fs *flag.FlagSet) {
	h.base.register(fs)
	fs.BoolVar(&h.asTheyCome, "default-rules", false, "give Grafana the alert rules as they come, not as \"spillway alert set\" has changed them on the bus")
}

// read gives the rules as operators have set them on the bus: the one that was named, or that of the running "spillway
// up". Where none runs, it says so and gives the rules as they come.
func (h *heldRules) read(ctx ctx, notes io.Writer) (held []rules.Rule, err error) {
	if h.asTheyCome {
		return nil, nil
	}
	if _, err := h.natsURL(); errors.Is(err, errNotRunning) {
		fmt.Fprintln(notes, "alert rules are as they come: no \"spillway up\" runs here whose bus could tell what was changed of them; give --nats URL")
		return nil, nil
	}
	err = ruleKind.with(ctx, &h.base, func(r *registry.Registry[schemas.AlertRule]) error {
		held, err = rulesAsHeld(ctx, r)
		return err
	})
	return held, err
}

// registerThresholds adds from where on values are coloured on walls and console.
func registerThresholds(fs *flag.FlagSet, th *queries.Thresholds) {
	*th = queries.DefaultThresholds()
	for _, f := range []struct {
		warn, bad  *float64
		name, what string
	}{
		{&th.StallWarn, &th.StallBad, "stall", "stall ratio, 0 to 1"},
		{&th.ErrorsWarn, &th.ErrorsBad, "errors", "share of requests or starts that fail, 0 to 1"},
		{&th.FirstScreenWarnMs, &th.FirstScreenBadMs, "first-screen", "first screen, ms"},
		{&th.LatencyWarnMs, &th.LatencyBadMs, "latency", "live latency, ms"},
		{&th.LoadWarn, &th.LoadBad, "load", "share of capacity in use, 0 to 1"},
	} {
		fs.Float64Var(f.warn, f.name+"-warn", *f.warn, f.what+": orange from here on")
		fs.Float64Var(f.bad, f.name+"-bad", *f.bad, f.what+": red from here on")
	}
}
