package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/peterbourgon/ff/v3"
	"github.com/peterbourgon/ff/v3/ffcli"
)

// base are the settings every subcommand has. Packages get plain values from
// it; nothing below this package reads flags, environment or files of settings.
type base struct {
	logFlags
	data       string // directory with everything that is kept
	nats       string // URL of the bus; empty: the one of the running "spillway up"
	clickhouse string // URL of ClickHouse; empty likewise
	cluster    string // cluster of ClickHouse servers that holds the tables; empty: one server does
}

func (b *base) register(fs *flag.FlagSet) {
	fs.StringVar(&b.data, "data", "", "`directory` where everything is kept (default: "+defaultDataDir()+")")
	fs.StringVar(&b.nats, "nats", "", "`URL` of NATS, nats://user:password@host:port (default: embedded, or that of the running \"spillway up\")")
	fs.StringVar(&b.clickhouse, "clickhouse", "", "`URL` of ClickHouse, clickhouse://user:password@host:9000 (default: embedded, or that of the running \"spillway up\")")
	b.logFlags.register(fs)
}

// logFlags say how to log, and where further settings are read from.
type logFlags struct {
	logLevel  string
	logFormat string
}

func (f *logFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.String("config", "", "`file` of settings: one \"flag value\" a line")
}

// dataDir is the data directory with its default.
func (b *base) dataDir() string {
	if b.data != "" {
		return b.data
	}
	return defaultDataDir()
}

func defaultDataDir() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "spillway")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "spillway-data"
	}
	return filepath.Join(home, ".local", "share", "spillway")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: give debug, info, warn or error", f.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q: give text or json", f.logFormat)
}

// options let every flag be set by environment (SPILLWAY_DATA) and file too.
func options() []ff.Option {
	return []ff.Option{
		ff.WithEnvVarPrefix("SPILLWAY"), ff.WithConfigFileFlag("config"), ff.WithConfigFileParser(ff.PlainParser),
	}
}

// command makes a subcommand whose positional arguments are checked: names are
// listed in usage, e.g. "NAME", and exactly as many must be given. Flags may
// stand before and behind them.
func (c *commands) command(name, usage, help string, args int, setUp func(fs *flag.FlagSet), exec execFunc) *ffcli.Command {
	fs := flag.NewFlagSet("spillway "+name, flag.ContinueOnError)
	fs.SetOutput(c.stderr)
	if setUp != nil {
		setUp(fs)
	}
	short := name[strings.LastIndex(name, " ")+1:]
	return &ffcli.Command{
		Name: short, ShortUsage: "spillway " + name + " " + usage, ShortHelp: help, FlagSet: fs, Options: options(),
		Exec: func(ctx ctx, a []string) error {
			a, err := parseTrailing(fs, a)
			if err != nil {
				return err
			}
			if len(a) != args {
				return fmt.Errorf("%s takes %d argument(s) beside flags and got %d %q: spillway %s [flags] %s", name, args, len(a), a, name, usage)
			}
			return exec(ctx, a)
		},
	}
}

// parseTrailing reads the flags behind positional arguments, as in "cdn fault b
// --rate 300kbps", and gives the arguments alone. The standard parser stops at
// the first argument; what it has read before stays.
func parseTrailing(fs *flag.FlagSet, args []string) ([]string, error) {
	var alone []string
	for len(args) > 0 {
		if a := args[0]; a == "-" || !strings.HasPrefix(a, "-") {
			alone, args = append(alone, a), args[1:]
			continue
		}
		if args[0] == "--" {
			return append(alone, args[1:]...), nil
		}
		if err := ff.Parse(fs, args, options()...); err != nil {
			return nil, err
		}
		args = fs.Args()
	}
	return alone, nil
}

// parent makes a subcommand that only holds others.
func (c *commands) parent(name, help string, subs ...*ffcli.Command) *ffcli.Command {
	fs := flag.NewFlagSet("spillway "+name, flag.ContinueOnError)
	fs.SetOutput(c.stderr)
	return &ffcli.Command{
		Name: name, ShortUsage: "spillway " + name + " <subcommand>", ShortHelp: help, FlagSet: fs, Subcommands: subs,
		Exec: func(_ ctx, a []string) error {
			if len(a) > 0 {
				return fmt.Errorf("spillway %s has no subcommand %q; see spillway %s -h", name, a[0], name)
			}
			return flag.ErrHelp
		},
	}
}

var errNotRunning = errors.New("no running \"spillway up\" found: start one, or give --data DIR of the running one, or --nats URL")

// runDataDir is the data directory of the running "spillway up" where none is told.
func (b *base) runDataDir() string {
	if b.data != "" {
		return b.data
	}
	if d := lastDataDir(); d != "" {
		return d
	}
	return defaultDataDir()
}
