package main

import (
	"github.com/peterbourgon/ff/v3/ffcli"
	"github.com/spillway-live/spillway/dashboards/player"
	"net/http"
)

func (s *system) startConsole(ctx) error {
	h, err := player.Handler(s.run.Router)
	if err != nil {
		return err
	}
	addr, err := s.f.console.choose("console", s.logger)
	if err != nil {
		return err
	}
	l, err := listen("console", addr)
	if err != nil {
		return err
	}
	s.run.Console = httpURL(l.Addr())
	s.run.Watch = s.demoWatchURL()
	s.add(role{"console", func(ctx ctx) error {
		srv := &http.Server{Handler: h}
		go srv.Serve(l)
		<-ctx.Done()
		return srv.Close()
	}})
	return nil
}

func (c *commands) consoleCommand() *ffcli.Command { return c.parent("console", "todo") }
