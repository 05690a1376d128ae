// Command spillway is the whole of Spillway in one binary: "spillway up" runs
// the system on one machine with embedded servers, and every role also runs
// alone against a NATS cluster and a ClickHouse of your own.
//
// Each subcommand is one file; this package only configures and wires. It is
// the only place that imports everything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/clickhouse"
)

func main() {
	// The hosted ClickHouse must have the process's main thread, so its hidden
	// subcommand is looked at before anything else starts.
	if len(os.Args) > 1 && os.Args[1] == clickhouse.LauncherSubcommand {
		os.Exit(clickhouse.RunLauncher(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: tests call it. It gives the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := newCommands(stdin, stdout, stderr)
	if err := c.root.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(stderr, "spillway: %v\n", err)
		return 2
	}
	err := c.root.Run(ctx)
	switch {
	case err == nil, errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	default:
		fmt.Fprintf(stderr, "spillway: %v\n", err)
		return 1
	}
}

// commands is the program's surface: its streams and the tree of subcommands.
type commands struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	root           *ffcli.Command
}

func newCommands(stdin io.Reader, stdout, stderr io.Writer) *commands {
	c := &commands{stdin: stdin, stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("spillway", flag.ContinueOnError)
	fs.SetOutput(stderr)
	c.root = &ffcli.Command{
		Name:       "spillway",
		ShortUsage: "spillway <subcommand> [flags]",
		ShortHelp:  "live video on a message bus, measured",
		LongHelp: "\"spillway up\" runs everything on this machine. The roles (ingest, puller, packager, origin, router,\n" +
			"screenshot, hotlist, reviewer, collector, sessioniser, loader, usage, edge, console) run alone with --nats and --clickhouse.\n" +
			"Every flag can also be set as an environment variable (--data is SPILLWAY_DATA) or in a file given by --config.",
		FlagSet:     fs,
		Subcommands: c.subcommands(),
		Exec: func(_ context.Context, a []string) error {
			if len(a) > 0 {
				return fmt.Errorf("there is no subcommand %q; see spillway -h", a[0])
			}
			return flag.ErrHelp
		},
	}
	return c
}
