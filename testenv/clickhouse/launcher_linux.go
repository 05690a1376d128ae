package clickhouse

import "github.com/spillway-live/spillway/testenv/clickhouse/internal/launcher"

// RunLauncher turns this process into the ClickHouse server that a parent's Start asked for and returns its exit
// code when the server has ended. A program that embeds this package calls it first thing in main, on the main
// goroutine, before it starts others or handles signals: see LauncherSubcommand. It locks the goroutine to its
// thread, takes over standard input and the signals TERM, INT and HUP, and may be called once per process.
func RunLauncher(args []string) int { return launcher.Run(args) }
