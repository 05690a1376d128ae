package main

import "github.com/peterbourgon/ff/v3/ffcli"

// subcommands is the program's table of contents.
func (c *commands) subcommands() []*ffcli.Command {
	cmds := []*ffcli.Command{
		c.upCommand(),
		c.cdnCommand(),
		c.policyCommand(),
		c.whyCommand(),
		c.traceCommand(),
		c.streamCommand(),
		c.regionCommand(),
		c.experimentCommand(),
		c.keyCommand(),
		c.appCommand(),
		c.sourceCommand(),
		c.publisherCommand(),
		c.shareCommand(),
		c.pushCommand(),
		c.reviewCommand(),
		c.dashboardsCommand(),
		c.alertCommand(),
		c.statsCommand(),
		c.exportCommand(),
		c.eraseCommand(),
		c.migrateCommand(),
		c.benchCommand(),
		c.chaosCommand(),
		c.simulateCommand(),
		c.sandboxCommand(),
	}
	return append(cmds, c.roleCommands()...)
}
