package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/testenv/regions"
	"github.com/spillway-live/spillway/workers/relay"
)

// benchRegions measures what each link between regions adds.
func (c *commands) benchRegions() *ffcli.Command {
	var f measureFlags
	var streams string
	var kbps, seconds, count int
	return c.command("bench regions", "", "delay that each hop between regions adds, for N watched streams, as JSON", 0, func(fs *flag.FlagSet) {
		f.register(fs, "the buses' stores")
		fs.StringVar(&streams, "streams", "1,20,100", "watched streams at once; several numbers, comma-separated, are measured in turn")
		fs.IntVar(&kbps, "kbps", 2600, "bit rate of every stream, kbit/s")
		fs.IntVar(&seconds, "seconds", 10, "how long each is measured")
		fs.IntVar(&count, "regions", 3, "regions in the chain, 2 to 8")
	}, func(ctx ctx, _ []string) error {
		logger, err := f.logger(c.stderr)
		if err != nil {
			return err
		}
		numbers, err := numbers(streams)
		if err != nil {
			return fmt.Errorf("--streams %q: %w", streams, err)
		}
		if count < 2 || count > 8 {
			return fmt.Errorf("--regions %d: give 2 to 8", count)
		}
		var out []*regions.Measured
		for _, n := range numbers {
			m, err := measureRegions(ctx, logger, f.temp, count, regions.Load{Streams: n, Kbps: kbps, Window: time.Duration(seconds) * time.Second})
			if err != nil {
				return err
			}
			out = append(out, m)
		}
		return c.printJSON(out)
	})
}

// measureRegions runs a chain with a relay in each region, and measures it.
func measureRegions(ctx ctx, logger *slog.Logger, temp string, count int, l regions.Load) (m *regions.Measured, err error) {
	dir, err := os.MkdirTemp(temp, "spillway-regions-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var names []string
	for i := range count {
		names = append(names, string(rune('a'+i)))
	}
	chain, err := regions.Start(ctx, regions.Settings{Dir: dir, Names: names, Logger: logger})
	if err != nil {
		return nil, err
	}
	defer chain.Stop()
	rctx, stop := context.WithCancel(ctx)
	g, rctx := errgroup.WithContext(rctx)
	defer func() { stop(); err = errors.Join(err, g.Wait()) }()
	for i, r := range chain.Regions {
		nc, err := r.Relay()
		if err != nil {
			return nil, err
		}
		x := &relay.Relay{Conn: nc, Region: r.Name, Neighbours: r.Neighbours, Logger: logger}
		if i > 0 {
			x.Parent = names[i-1]
		}
		g.Go(func() error { defer nc.Close(); return x.Run(rctx) })
	}
	return chain.Measure(ctx, l)
}
