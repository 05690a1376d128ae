package main

import (
	"flag"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/story"
)

// whyCommand tells the story of one session.
func (c *commands) whyCommand() *ffcli.Command {
	var b base
	var asJSON bool
	return c.command("why", "SESSION", "tell where a session was sent, why, what happened there and when it moved", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON instead of text")
	}, func(ctx ctx, a []string) error {
		conn, err := b.openClickHouse()
		if err != nil {
			return err
		}
		defer conn.Close()
		s, err := story.Build(ctx, conn, database, a[0])
		if err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(s)
		}
		return s.WriteText(c.stdout)
	})
}
