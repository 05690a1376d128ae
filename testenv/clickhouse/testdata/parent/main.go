// Command parent is a program that embeds the ClickHouse server as cmd/spillway does: it starts one on the data
// directory it is given, hosted by this same executable, says so in one line of JSON, and stays until it is killed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spillway-live/spillway/testenv/clickhouse"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == clickhouse.LauncherSubcommand {
		os.Exit(clickhouse.RunLauncher(os.Args[2:]))
	}
	s, err := clickhouse.Start(context.Background(), clickhouse.Options{DataDir: os.Args[1], MemoryLimitBytes: 1 << 30})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"pid": s.PID(), "url": s.HTTPURL(clickhouse.Admin)})
	<-s.Done()
}
