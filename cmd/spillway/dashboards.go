package main

import (
	"flag"
	"fmt"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/dashboards/grafana"
)

// dashboardsCommand writes the Grafana walls as files or pushes them to a server.
func (c *commands) dashboardsCommand() *ffcli.Command {
	var t grafana.Target
	return c.parent("dashboards", "the Grafana walls",
		c.command("dashboards export", "DIR", "write dashboards and provisioning files", 1, nil, func(_ ctx, a []string) error {
			if err := grafana.Export(a[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stderr, "wrote the walls to %s\n", a[0])
			return err
		}),
		c.command("dashboards push", "", "bring a Grafana server to the state of the walls", 0, func(fs *flag.FlagSet) {
			fs.StringVar(&t.URL, "grafana", "", "`URL` of Grafana")
			fs.StringVar(&t.Token, "token", "", "service account `token`; better given as SPILLWAY_TOKEN")
			fs.StringVar(&t.ClickHouse, "data-source", "", "`HOST:PORT` of ClickHouse's native protocol as Grafana reaches it (default: leave an existing data source alone)")
			fs.BoolVar(&t.DryRun, "dry-run", false, "only say what would change")
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
