package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench/regions"
)

// benchRegions measures what each link between regions adds.
func (c *commands) benchRegions() *ffcli.Command {
	var f measureFlags
	var clip clipFlags
	var streams string
	var seconds int
	var s regions.Settings
	return c.command("bench regions", "", "delay that each hop between regions adds to N published and watched streams, each region a process, and how soon a cut link heals, as JSON", 0, func(fs *flag.FlagSet) {
		f.register(fs, "the buses' stores and the clip")
		clip.register(fs, 2600)
		fs.StringVar(&streams, "streams", "1,50", "watched streams at once; several numbers, comma-separated, are measured in turn")
		fs.IntVar(&seconds, "seconds", 10, "how long each is measured")
		fs.IntVar(&s.Regions, "regions", 3, "regions in the chain, 2 to 8")
		fs.DurationVar(&s.CutFor, "cut", 3*time.Second, "how long the last link is cut afterwards; 0: not at all")
	}, func(ctx ctx, _ []string) (err error) {
		if s.Logger, err = f.logger(c.stderr); err != nil {
			return err
		}
		numbers, err := numbers(streams)
		if err != nil {
			return fmt.Errorf("--streams %q: %w", streams, err)
		}
		if s.Binary, err = thisProgram(); err != nil {
			return err
		}
		var remove func()
		if s.Clip, remove, err = clip.file(ctx, f.temp, s.Logger); err != nil {
			return err
		}
		defer remove()
		s.TempDir, s.Window = f.temp, time.Duration(seconds)*time.Second
		var out []*regions.Report
		for _, s.Streams = range numbers {
			r, err := regions.Run(ctx, s)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return c.printJSON(out)
	})
}
