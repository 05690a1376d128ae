//go:build linux

// Command chserver is the smallest program that can host the embedded ClickHouse server. Test binaries cannot
// re-execute themselves as one, so package clickhouse builds this and starts it instead; the spillway program
// hosts the server itself, through a hidden subcommand, and does not need it.
package main

import (
	"os"

	"github.com/spillway-live/spillway/testenv/clickhouse/internal/launcher"
)

func main() { os.Exit(launcher.Run(os.Args[1:])) }
