// Package launcher turns the process it runs in into a ClickHouse server: it loads the embeddable ClickHouse
// library, runs its command-line entry point with two listeners (native protocol and HTTP), and ends it in order.
//
// It promises that the server does not outlive its parent, that one bad connection does not end it, and that a
// requested stop flushes. It leaves out everything that happens before the process exists: fetching the library,
// writing configuration, repairing the data directory. Those are the parent's (package clickhouse), which holds
// the lock on the data directory while it does them and hands that lock over.
package launcher

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Descriptors inherited from the parent beside the three standard ones.
const (
	// StatusFD is the write end of a pipe that carries one Status as a line of JSON.
	StatusFD = 3
	// LockFD holds the flock on the data directory. It is never used; being open is its purpose.
	LockFD = 4
)

// Config is what a launcher process is told on its command line.
type Config struct {
	Library    string        // path of libchdb.so
	DataPath   string        // ClickHouse's --path
	ConfigFile string        // config.xml; must exist, ClickHouse silently ignores one that does not
	LogLevel   string        // ClickHouse's; it heeds the flag, not the configuration
	ListenHost string        // IP address to listen on
	TCPPort    int           // native protocol; 0 takes a free port
	HTTPPort   int           // HTTP; 0 takes a free port
	Grace      time.Duration // time running queries get to finish at a stop
}

// Status is the launcher's only message to its parent: the listeners are up, or Error says why not.
type Status struct {
	TCPPort  int    `json:"tcp,omitempty"`
	HTTPPort int    `json:"http,omitempty"`
	Version  string `json:"version,omitempty"` // of ClickHouse
	Error    string `json:"error,omitempty"`
}

// Args renders c as the arguments Run takes.
func (c Config) Args() []string {
	return []string{
		"--library", c.Library,
		"--data", c.DataPath,
		"--config", c.ConfigFile,
		"--log-level", c.LogLevel,
		"--listen-host", c.ListenHost,
		"--tcp-port", strconv.Itoa(c.TCPPort),
		"--http-port", strconv.Itoa(c.HTTPPort),
		"--grace", c.Grace.String(),
	}
}

// parseArgs is the inverse of Config.Args.
func parseArgs(args []string) (Config, error) {
	var c Config
	fs := flag.NewFlagSet("clickhouse-server", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.Library, "library", "", "")
	fs.StringVar(&c.DataPath, "data", "", "")
	fs.StringVar(&c.ConfigFile, "config", "", "")
	fs.StringVar(&c.LogLevel, "log-level", "warning", "")
	fs.StringVar(&c.ListenHost, "listen-host", "127.0.0.1", "")
	fs.IntVar(&c.TCPPort, "tcp-port", 0, "")
	fs.IntVar(&c.HTTPPort, "http-port", 0, "")
	fs.DurationVar(&c.Grace, "grace", 500*time.Millisecond, "")
	if err := fs.Parse(args); err != nil {
		return c, fmt.Errorf("parse launcher arguments: %w", err)
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("parse launcher arguments: unexpected %q", fs.Arg(0))
	}
	if c.Library == "" || c.DataPath == "" || c.ConfigFile == "" {
		return c, fmt.Errorf("parse launcher arguments: --library, --data and --config are all needed; " +
			"this command is started by Spillway itself, not by hand")
	}
	return c, nil
}
