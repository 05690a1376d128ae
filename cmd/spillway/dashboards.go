package main

import (
	"flag"
	"fmt"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/dashboards/grafana"
	"github.com/spillway-live/spillway/dashboards/queries"
)

// dashboardsCommand writes the Grafana walls as files or pushes them to a server.
func (c *commands) dashboardsCommand() *ffcli.Command {
	t := grafana.Target{Thresholds: new(queries.Thresholds)}
	return c.parent("dashboards", "the Grafana walls",
		c.command("dashboards export", "DIR", "write dashboards and provisioning files", 1, func(fs *flag.FlagSet) {
			registerThresholds(fs, t.Thresholds)
		}, func(_ ctx, a []string) error {
			if err := grafana.Export(a[0], *t.Thresholds); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stderr, "wrote the walls to %s\n", a[0])
			return err
		}),
		c.command("dashboards push", "", "bring a Grafana server to the state of the walls", 0, func(fs *flag.FlagSet) {
			fs.StringVar(&t.URL, "grafana", "", "`URL` of Grafana")
			fs.StringVar(&t.Token, "token", "", "service account `token`; better given as SPILLWAY_TOKEN")
			fs.StringVar(&t.ClickHouse, "data-source", "", "`HOST:PORT` of ClickHouse's native protocol as Grafana reaches it (default: leave an existing data source alone)")
			fs.BoolVar(&t.DryRun, "dry-run", false, "only say what would change, and how")
			fs.BoolVar(&t.NoAlerts, "no-alerts", false, "leave alert rules alone")
			registerThresholds(fs, t.Thresholds)
		}, func(ctx ctx, _ []string) error {
			if t.URL == "" {
				return fmt.Errorf("give --grafana URL, e.g. --grafana http://127.0.0.1:3000")
			}
			changes, err := grafana.Push(ctx, t)
			for _, ch := range changes {
				fmt.Fprintln(c.stdout, ch)
			}
			return err
		}),
	)
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
