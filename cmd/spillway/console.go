package main

import (
	"context"
	"errors"
	"flag"
	"net/http"

	"github.com/peterbourgon/ff/v3/ffcli"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spillway-live/spillway/analytics/experiments/web"
	"github.com/spillway-live/spillway/analytics/story"
	"github.com/spillway-live/spillway/dashboards/console"
	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// consoleRole serves console, play page, pictures and /metrics.
func (d *deps) consoleRole(addr, analyst, routerURL string, metrics prometheus.Gatherer, th *queries.Thresholds) (role, string, error) {
	page, err := player.Handler(routerURL)
	if err != nil {
		return role{}, "", err
	}
	l, err := listen("console", addr)
	if err != nil {
		return role{}, "", err
	}
	var m http.Handler
	if metrics != nil {
		m = promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})
	}
	reads, err := openDSN(analyst)
	if err != nil {
		l.Close()
		return role{}, "", err
	}
	c, err := console.New(console.Settings{
		Experiments: &web.Server{JS: d.js, ClickHouse: reads, Logger: d.log("experiments")},
		Listener:    l, JetStream: d.js, ClickHouse: analyst, RouterURL: routerURL, Player: page, Metrics: m,
		Thresholds: th, Story: func(ctx context.Context, session string) (any, error) {
			t, err := story.BuildTimeline(ctx, reads, database, session)
			var unknown *story.ErrUnknown
			if errors.As(err, &unknown) {
				return nil, nil
			}
			return t, err
		},
		AdminToken: d.secrets.AdminToken, Logger: d.log("console"), Registerer: d.reg,
	})
	if err != nil {
		l.Close()
		reads.Close()
		return role{}, "", err
	}
	return role{"console", func(ctx context.Context) error {
		defer reads.Close()
		return c.Run(ctx)
	}}, c.URL(), nil
}

func (s *system) startConsole(ctx) error {
	addr, err := s.f.console.choose("console", s.logger)
	if err != nil {
		return err
	}
	analyst := s.f.clickhouse
	if s.ch != nil {
		analyst = s.ch.NativeURL(clickhouse.Analyst)
	}
	r, u, err := s.d.consoleRole(addr, analyst, s.run.Router, s.reg, &s.f.thresholds)
	if err != nil {
		return err
	}
	s.run.Console, s.run.Watch, s.run.Metrics = u, u+"/play/"+demoApp+"/"+demoStream, u+"/metrics"
	s.add(r)
	return nil
}

func (c *commands) consoleCommand() *ffcli.Command {
	f := &roleFlags{}
	var addr, routerURL string
	var th queries.Thresholds
	return c.command("console", "", "serve the console, the play page and pictures", 0, func(fs *flag.FlagSet) {
		f.register(fs)
		fs.StringVar(&addr, "listen", "127.0.0.1:8080", "`HOST:PORT` for browsers")
		registerThresholds(fs, &th)
		fs.StringVar(&routerURL, "router-url", "", "base `URL` of the router as browsers reach it (default: that of the running \"spillway up\")")
	}, func(ctx ctx, _ []string) error {
		dsn, err := f.clickhouseURL()
		if err != nil {
			return err
		}
		if routerURL == "" {
			if r, err := findRun(f.data); err == nil {
				routerURL = r.Router
			}
		}
		return c.serveRole(ctx, f, "console", func(d *deps) ([]role, error) {
			r, u, err := d.consoleRole(addr, dsn, routerURL, nil, &th)
			if err == nil {
				d.logger.Info("console", "url", u)
			}
			return []role{r}, err
		})
	})
}
