package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/sandbox/scenario"
)

// simulateCommand runs one of the simulations that routing is judged by.
func (c *commands) simulateCommand() *ffcli.Command {
	var s scenario.Settings
	var out string
	var asJSON, quiet bool
	names := strings.Join(slices.Sorted(maps.Keys(scenario.Scenarios())), ", ")
	return c.command("simulate", "SCENARIO", "simulate "+names+": routers' real code against simulated players and CDNs", 1, func(fs *flag.FlagSet) {
		fs.Uint64Var(&s.Seed, "seed", 1, "of all that is drawn; the same seed gives the same figures")
		fs.IntVar(&s.Viewers, "viewers", 0, "size: viewers at the peak (flash), at once (others); 0: as in docs/benchmarks.md")
		fs.IntVar(&s.Routers, "routers", 0, "routers; 0: 10 for flash, 1 for week, 3 for others")
		fs.IntVar(&s.Jobs, "jobs", 2, "runs at once")
		fs.StringVar(&out, "out", "", "`folder` for the report as text and JSON and for the plots as SVG")
		fs.BoolVar(&asJSON, "json", false, "print JSON instead of text")
		fs.BoolVar(&quiet, "quiet", false, "no progress on standard error")
	}, func(ctx ctx, a []string) error {
		run := scenario.Scenarios()[a[0]]
		switch {
		case run == nil:
			return fmt.Errorf("there is no scenario %q: choose one of %s", a[0], names)
		case s.Viewers < 0 || s.Viewers > 1_000_000 || s.Routers < 0 || s.Routers > 100 || s.Jobs < 1 || s.Jobs > 64:
			return fmt.Errorf("--viewers %d, --routers %d, --jobs %d: at most 1,000,000 viewers, 100 routers and 64 jobs can be simulated", s.Viewers, s.Routers, s.Jobs)
		}
		s.Progress = progress(ctx, c.stderr, quiet)
		r, err := run(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := writeReport(r, out); err != nil {
			return err
		}
		if asJSON {
			err = c.printJSON(r)
		} else {
			err = r.WriteText(c.stdout)
		}
		if err == nil && !r.Passed() {
			err = fmt.Errorf("simulate %s: not every figure is what was wanted; see the lines that begin with FAIL", a[0])
		}
		return err
	})
}

// progress tells how far a simulation is, every few seconds, until ctx ends.
func progress(ctx ctx, w io.Writer, quiet bool) func(part float64) bool {
	var mu sync.Mutex
	began := time.Now()
	said := began
	return func(part float64) bool {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); !quiet && now.Sub(said) >= 5*time.Second && part > 0 {
			said = now
			spent := now.Sub(began)
			fmt.Fprintf(w, "%3.0f %%  %v gone, about %v to go\n", 100*part, spent.Round(time.Second), time.Duration(float64(spent)*(1-part)/part).Round(time.Second))
		}
		return ctx.Err() == nil
	}
}

// writeReport puts a report and its plots into a folder; none: nothing.
func writeReport(r *scenario.Report, folder string) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	put := func(name string, data []byte) error {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		return nil
	}
	for name, c := range r.Charts {
		if err := put(name+".svg", c.SVG()); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	if err := put(r.Scenario+".json", append(data, '\n')); err != nil {
		return err
	}
	return put(r.Scenario+".txt", []byte(text.String()))
}
